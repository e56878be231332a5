// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/conformance/samples/reductions.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/sort.hpp"

/// Samples of what goes along an axis, or where indices say.
namespace ashlar::conformance {

namespace detail {

/// The elements along an axis, row by row: `use(places)` with the number of each.
template <class Use>
void each_row_of(const shape& extents, std::int64_t axis, const Use& use) {
  const auto a = static_cast<int>(wrapped(axis, extents.rank()));
  const std::int64_t n = extents.rank() == 0 ? 1 : extents[a];
  std::int64_t inner = 1;
  for (int i = a + 1; i < extents.rank(); ++i) {
    inner *= extents[i];
  }
  const std::int64_t size = element_count(extents.span());
  for (std::int64_t row = 0; n > 0 && row < size / n; ++row) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(n));
    for (std::int64_t k = 0; k < n; ++k) {
      places[static_cast<std::size_t>(k)] = row / inner * inner * n + row % inner + k * inner;
    }
    use(places);
  }
}
/// How much coarser sums are that are kept in memory, in the elements' own type.
inline double in_memory(dtype type) {
  return is_narrow_floating(type) ? roundoff(type) / roundoff(dtype::float32) : 1;
}

}  // namespace detail

template <>
struct samples<ops::cumsum> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = Floating<T> || std::is_same_v<T, std::int64_t>;
  static std::tuple<std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    for (const bool from_end : {false, true}) {
      for (const shape& s : {shape{}, {0, 3}, {1}, {2, 3, 17}, {5, 2}, {3, 129}}) {
        for (const std::int64_t axis : {std::int64_t{0}, std::int64_t{-1}}) {
          all.add({.in = {{s}},
                   .with = {.integer = {axis}, .flag = {from_end}},
                   .allowed = {130, 260},
                   .gradient = detail::is_small(s)});
        }
      }
    }
    all.add({.in = {{{2, 3}}}, .with = {.integer = {2}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    detail::each_row_of(y.extents, q.with.integer[0], [&](std::vector<std::int64_t> row) {
      if (q.with.flag[0]) {
        std::reverse(row.begin(), row.end());
      }
      double sum = 0;
      for (const std::int64_t i : row) {
        y[i] = sum += y[i];
      }
    });
    return {y};
  }
};
/// The first `integer[1]` places.
template <>
struct samples<ops::argsort> : detail::one_tensor {
  static std::tuple<std::int64_t, bool, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.flag[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    for (const bool descending : {false, true}) {
      const auto add = [&](const given& x, std::int64_t axis, std::int64_t count) {
        all.add({.in = {x}, .with = {.integer = {axis, count}, .flag = {descending}}});
      };
      add({{}}, 0, 1);
      add({{0, 3}}, 1, 3);
      add({{3, 5}}, 1, 0);
      add({{1}}, 0, 1);
      add({{2, 7, 3}}, 1, 7);
      add({{3, 65}}, -1, 5);
      add({{67, 2}, values::ties}, 0, 67);
      add({{5, 14}, values::special}, 1, 14);
    }
    all.add({.in = {{{2, 3}}}, .with = {.integer = {1, 4}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    shape to = x.extents;
    if (to.rank() > 0) {
      to[static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()))] = q.with.integer[1];
    }
    numbers y(to);
    std::vector<std::vector<std::int64_t>> rows;
    detail::each_row_of(x.extents, q.with.integer[0],
                        [&](const std::vector<std::int64_t>& row) { rows.push_back(row); });
    std::size_t next = 0;
    detail::each_row_of(to, q.with.integer[0], [&](const std::vector<std::int64_t>& places) {
      const std::vector<std::int64_t>& row = rows[next++];
      std::vector<std::size_t> order(row.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      const auto less = [&](std::size_t a, std::size_t b) {  // NaN is the largest
        const double u = x[row[a]];
        const double v = x[row[b]];
        return std::isnan(v) ? !std::isnan(u) : u < v;
      };
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return q.with.flag[0] ? less(b, a) : less(a, b);
      });
      for (std::size_t k = 0; k < places.size(); ++k) {
        y[places[k]] = static_cast<double>(order[k]);
      }
    });
    return {y};
  }
};
template <>
struct samples<ops::gather> : plain_samples {
  template <class T>
  using arguments = types<T, std::int64_t>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    const auto add = [&](const shape& x, const shape& index, std::int64_t axis, std::int64_t n) {
      all.add({.in = {{x}, {index, values::index, n}},
               .with = {.integer = {axis}},
               .gradient = detail::is_small(x) && element_count(index.span()) > 0});
    };
    add({5}, {3}, 0, 5);
    add({5}, {0}, 0, 5);
    add({2, 3, 4}, {2, 7, 4}, 1, 3);
    add({2, 3, 4}, {1, 3, 2}, -1, 4);
    add({11, 129}, {65, 127}, 0, 11);
    all.add(
        {.in = {{{2, 3}}, {{3, 3}, values::index, 3}}, .with = {.integer = {1}}, .refused = true});
    all.add({.in = {{{2, 3}}, {{3}, values::index, 3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& index = q.in[1];
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], index.rank()));
    numbers y(index.extents);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      shape at = detail::indices_of(i, y.extents);
      at[axis] = static_cast<std::int64_t>(index[i]);
      y[i] = q.in[0][detail::number_of(at, q.in[0].extents)];
    }
    return {y};
  }
};
template <>
struct samples<ops::scatter> : plain_samples {
  template <class T>
  using arguments = types<T, std::int64_t, T>;
  static std::tuple<std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    for (const bool adds : {false, true}) {
      const auto add = [&](const shape& x, const shape& index, std::int64_t axis, std::int64_t n) {
        all.add({.in = {{x}, {index, values::index, n}, {index}},
                 .with = {.integer = {axis}, .flag = {adds}},
                 .allowed = {adds ? 70 * detail::in_memory(all.type) : 0, 140},
                 .gradient = adds && detail::is_small(x)});
      };
      add({5}, {3}, 0, 5);
      add({5}, {0}, 0, 5);
      add({2, 3, 4}, {2, 7, 4}, 1, 3);
      add({2, 3, 4}, {1, 3, 2}, -1, 4);
      add({11, 129}, {65, 127}, 0, 11);
    }
    all.add({.in = {{{2, 3}}, {{2, 3}, values::index, 3}, {{2, 2}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& index = q.in[1];
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], index.rank()));
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < index.size(); ++i) {
      shape at = detail::indices_of(i, index.extents);
      at[axis] = static_cast<std::int64_t>(index[i]);
      double& to = y[detail::number_of(at, y.extents)];
      to = (q.with.flag[0] ? to : 0) + q.in[2][i];
    }
    return {y};
  }
};

}  // namespace ashlar::conformance

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/conformance/samples/indexing.hpp"
#include "ashlar/ops/sort.hpp"

/// Samples of the order of elements along an axis.
namespace ashlar::conformance {

namespace detail {

/// The first `count` elements in order along an axis and where they stood, by a stable sort with
/// NaN above all.
inline std::pair<numbers, numbers> in_order(const numbers& x, std::int64_t axis, bool descending,
                                            std::int64_t count) {
  const row r = row_of(x.extents, axis);
  shape to = x.extents;
  if (to.rank() > 0) {
    to[static_cast<int>(wrapped(axis, to.rank()))] = count;
  }
  std::pair all{numbers(to), numbers(to)};
  const auto above = [](double a, double b) { return a > b || (std::isnan(a) && !std::isnan(b)); };
  for (std::int64_t first = 0; first < x.size(); ++first) {
    if (first / r.stride % r.places != 0) {
      continue;
    }
    std::vector<std::int64_t> places(static_cast<std::size_t>(r.places));
    std::iota(places.begin(), places.end(), 0);
    std::stable_sort(places.begin(), places.end(), [&](std::int64_t a, std::int64_t b) {
      const double u = x[first + a * r.stride];
      const double v = x[first + b * r.stride];
      return descending ? above(u, v) : above(v, u);
    });
    const std::int64_t begin = first / (r.stride * r.places) * r.stride * count + first % r.stride;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t from = places[static_cast<std::size_t>(i)];
      all.first[begin + i * r.stride] = x[first + from * r.stride];
      all.second[begin + i * r.stride] = static_cast<double>(from);
    }
  }
  return all;
}

/// `add(x, axis, count, descending, smooth)`.
inline void list_orders(const auto& add) {
  struct one {
    given x;
    std::int64_t axis, count;
  };
  for (const bool descending : {false, true}) {
    for (const one& o :
         {one{{{}}, -1, 1}, one{{{0}}, 0, 0}, one{{{3, 0}}, 1, 0}, one{{{0, 3}}, 1, 2},
          one{{{1}}, 0, 1}, one{{{5}}, 0, 0}, one{{{2, 3, 5}}, 1, 3}, one{{{2, 7, 3}}, 1, 2},
          one{{{2, 1, 2, 5, 2}}, 3, 5}, one{{{129, 2}}, 0, 129}, one{{{3, 130}}, -1, 17},
          one{{{67}, values::ties}, 0, 67}, one{{{2, 31}, values::special}, 1, 31},
          one{{{2, 31}, values::edges}, 1, 30}}) {
      add(o.x, o.axis, o.count, descending, o.x.what == values::any && is_small(o.x.extents));
    }
  }
}

}  // namespace detail

/// The settings' integers are axis and count.
template <>
struct samples<ops::argsort> : detail::one_tensor {
  static std::tuple<std::int64_t, bool, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.flag[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    detail::list_orders(
        [&](const given& x, std::int64_t axis, std::int64_t count, bool descending, bool) {
          all.add({.in = {x}, .with = {.integer = {axis, count}, .flag = {descending}}});
        });
    all.add({.in = {{{5}}}, .with = {.integer = {0, 6}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, -1}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {1, 1}}, .refused = true});
    all.add({.in = {{{}}}, .with = {.integer = {0, 0}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return {detail::in_order(q.in[0], q.with.integer[0], q.with.flag[0], q.with.integer[1]).second};
  }
};
template <>
struct samples<ops::topk> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::argsort, ops::gather, ops::clone>;
  static std::tuple<std::int64_t, std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[1], s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    detail::list_orders([&](const given& x, std::int64_t axis, std::int64_t count, bool largest,
                            bool smooth) {
      all.add(
          {.in = {x}, .with = {.integer = {axis, count}, .flag = {largest}}, .gradient = smooth});
    });
    all.add({.in = {{{5}}}, .with = {.integer = {0, 6}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, -1}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {1, 1}}, .refused = true});
    all.add({.in = {{{}}}, .with = {.integer = {0, 2}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    auto [x, places] =
        detail::in_order(q.in[0], q.with.integer[0], q.with.flag[0], q.with.integer[1]);
    return {std::move(x), std::move(places)};
  }
};
template <>
struct samples<ops::sort> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::topk>;
  static std::tuple<std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    detail::list_orders([&](const given& x, std::int64_t axis, std::int64_t, bool descending,
                            bool smooth) {
      all.add({.in = {x}, .with = {.integer = {axis}, .flag = {descending}}, .gradient = smooth});
    });
    all.add({.in = {{{5}}}, .with = {.integer = {1}}, .refused = true});
    all.add({.in = {{{}}}, .with = {.integer = {1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const std::int64_t all = detail::row_of(q.in[0].extents, q.with.integer[0]).places;
    auto [x, places] = detail::in_order(q.in[0], q.with.integer[0], q.with.flag[0], all);
    return {std::move(x), std::move(places)};
  }
};

}  // namespace ashlar::conformance

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/conformance/samples/reductions.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/unfold.hpp"

/// Samples of windows along an axis, running sums, and elements by number.
namespace ashlar::conformance {

namespace detail {

/// How many places an axis has, and how far they are from each other in dense numbers.
struct row {
  std::int64_t places = 1;
  std::int64_t stride = 1;
};
inline row row_of(const shape& extents, std::int64_t axis) {
  row r;
  if (extents.rank() > 0) {
    const auto a = static_cast<int>(wrapped(axis, extents.rank()));
    r.places = extents[a];
    for (int i = a + 1; i < extents.rank(); ++i) {
      r.stride *= extents[i];
    }
  }
  return r;
}

// Windows: the settings' integers are axis, size, step, dilation --------------------------------

inline shape shape_of_windows(const shape& from, const settings& s) {
  const auto [axis, size, step, dilation, unused] = s.integer;
  shape to = from;
  const auto a = static_cast<int>(wrapped(axis, from.rank()));
  std::int64_t windows = 0;
  for (std::int64_t last = dilation * (size - 1); last < from[a]; last += step) {
    ++windows;
  }
  to[a] = windows;
  to.push_back(size);
  return to;
}
/// Where place `at` of the windows lies in what they were cut from.
inline shape place_of_window(const shape& at, const shape& from, const settings& s) {
  shape place = from;
  for (int i = 0; i < from.rank(); ++i) {
    place[i] = at[i];
  }
  const auto a = static_cast<int>(wrapped(s.integer[0], from.rank()));
  place[a] = at[a] * s.integer[2] + at[from.rank()] * s.integer[3];
  return place;
}

inline void list_windows(sample_list& all, bool backward) {
  constexpr std::int64_t huge = std::int64_t{1} << 61;
  struct one {
    shape extents;
    std::array<std::int64_t, 5> how;
  };
  for (const one& o :
       {one{{2, 7, 3}, {1, 3, 2, 1}}, one{{7}, {0, 2, 1, 3}}, one{{11}, {0, 3, 5, 1}},
        one{{2, 5}, {-1, 5, 1, 1}}, one{{1}, {0, 1, 1, 1}}, one{{0, 3}, {1, 2, 1, 1}},
        one{{3, 130}, {-1, 3, 1, 1}}, one{{2, 1, 2, 5, 2}, {3, 2, 1, 2}}, one{{5}, {0, 2, huge, 1}},
        one{{5}, {0, 1, 2, huge}}}) {
    sample s{.in = {{o.extents}}, .with = {.integer = o.how}, .gradient = is_small(o.extents)};
    if (backward) {
      s.in[0].extents = shape_of_windows(o.extents, s.with);
      s.with.list = o.extents;
      const auto terms = static_cast<double>(o.how[1]);  // a place is in that many windows at most
      s.allowed = {stored(all.type, terms), 2 * terms};
    }
    all.add(s);
  }
  for (const one& o : {one{{5}, {0, 6, 1, 1}}, one{{5}, {0, 0, 1, 1}}, one{{5}, {0, 2, 0, 1}},
                       one{{5}, {0, 2, 1, 0}}, one{{5}, {0, 3, 1, 3}}, one{{5}, {1, 2, 1, 1}},
                       one{{5}, {0, 5, 1, 2 * huge}}, one{{}, {0, 1, 1, 1}}}) {
    all.add({.in = {{o.extents}},
             .with = {.list = backward ? o.extents : shape{}, .integer = o.how},
             .refused = true});
  }
}

}  // namespace detail

template <>
struct samples<ops::unfold> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    detail::list_windows(all, false);
    all.add(
        {.in = {{{1, 1, 1, 1, 1, 1, 1, 2}}}, .with = {.integer = {-1, 1, 1, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    return {detail::picked(x, detail::shape_of_windows(x.extents, q.with), [&](const shape& at) {
      return detail::place_of_window(at, x.extents, q.with);
    })};
  }
};
template <>
struct samples<ops::unfold_backward> : detail::one_tensor {
  static std::tuple<shape, std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.list, s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    detail::list_windows(all, true);
    all.add({.in = {{{3, 2}}}, .with = {.list = {5}, .integer = {0, 2, 1, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      const shape at = detail::indices_of(i, q.in[0].extents);
      y[detail::number_of(detail::place_of_window(at, y.extents, q.with), y.extents)] += q.in[0][i];
    }
    return {y};
  }
};

// Running sums ------------------------------------------------------------------------------------

template <>
struct samples<ops::cumsum> : detail::one_tensor {
  static std::tuple<std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    struct one {
      shape extents;
      std::int64_t axis;
    };
    for (const bool from_end : {false, true}) {
      for (const one& o :
           {one{{}, -1}, one{{0}, 0}, one{{0, 3}, 1}, one{{3, 0}, -1}, one{{1}, 0}, one{{7}, 0},
            one{{2, 3, 5}, 1}, one{{2, 1, 2, 5, 3}, 3}, one{{129, 2}, 0}, one{{2, 1025}, -1}}) {
        const auto n = static_cast<double>(detail::row_of(o.extents, o.axis).places);
        all.add({.in = {{o.extents}},
                 .with = {.integer = {o.axis}, .flag = {from_end}},
                 .allowed = {n, 2 * n},
                 .gradient = detail::is_small(o.extents)});
      }
      all.add_once({.in = {{{5, 7}, values::special}},
                    .with = {.integer = {1}, .flag = {from_end}},
                    .allowed = {7, 14}});
      all.add_once(
          {.in = {{{5, 7}, values::edges}}, .with = {.flag = {from_end}}, .allowed = {5, 10}});
    }
    all.add({.in = {{{2, 3}}}, .with = {.integer = {2}}, .refused = true});
    all.add({.in = {{{}}}, .with = {.integer = {1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    const detail::row r = detail::row_of(y.extents, q.with.integer[0]);
    for (std::int64_t k = 0; k < y.size(); ++k) {
      const std::int64_t i = q.with.flag[0] ? y.size() - 1 - k : k;
      const std::int64_t before = i + (q.with.flag[0] ? r.stride : -r.stride);
      const std::int64_t at = i / r.stride % r.places;
      y[i] += at == (q.with.flag[0] ? r.places - 1 : 0) ? 0.0 : y[before];
    }
    return {y};
  }
};

// Elements by number ------------------------------------------------------------------------------

namespace detail {

/// `once`: the numbers in a row of the index differ.
struct numbered {
  shape extents, index;
  std::int64_t axis;
  bool once = false;
};
/// More places than the axis has, and fewer; fewer than the first off the axis; none and one.
inline const std::vector<numbered>& numbered_cases() {
  static const std::vector<numbered> all{{{1}, {1}, 0, true},
                                         {{7}, {7}, 0},
                                         {{7}, {0}, 0, true},
                                         {{5}, {11}, -1},
                                         {{0, 3}, {0, 2}, 1, true},
                                         {{3, 0}, {3, 0}, 1, true},
                                         {{2, 3, 5}, {2, 2, 5}, 1, true},
                                         {{2, 3, 5}, {2, 7, 5}, 1},
                                         {{4, 5}, {3, 4}, -1, true},
                                         {{4, 3, 5}, {2, 7, 3}, 1},
                                         {{2, 1, 3, 2, 3}, {2, 1, 4, 1, 3}, 2},
                                         {{3, 129}, {3, 130}, 1},
                                         {{129, 2}, {67, 1}, 0}};
  return all;
}
/// What both operators refuse, and an axis that there is not.
inline const std::vector<numbered>& numbered_refusals() {
  static const std::vector<numbered> all{
      {{2, 3}, {3}, 0}, {{2, 3}, {3, 3}, 1}, {{2, 3}, {2, 3}, 2}, {{}, {}, 0}};
  return all;
}
inline given index_into(const numbered& n) {
  return {n.index, values::index, row_of(n.extents, n.axis).places};
}
/// Number `i` of the index as a place of `x`.
inline std::int64_t place_by_number(std::int64_t i, const numbers& index, const numbers& x,
                                    std::int64_t axis) {
  shape at = indices_of(i, index.extents);
  at[static_cast<int>(wrapped(axis, at.rank()))] = static_cast<std::int64_t>(index[i]);
  return number_of(at, x.extents);
}

}  // namespace detail

template <>
struct samples<ops::gather> {
  template <class T>
  using arguments = types<T, std::int64_t>;
  template <class T>
  using second = variant<ops::gather, types<T, std::int32_t>>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    for (const detail::numbered& n : detail::numbered_cases()) {
      sample s{.in = {{n.extents}, detail::index_into(n)},
               .with = {.integer = {n.axis}},
               .gradient = detail::is_small(n.extents)};
      all.add(s);
      s.second = true;
      all.add_once(s);
    }
    for (const values v : {values::special, values::edges}) {
      all.add_once({.in = {{{19}, v}, {{37}, values::index, 19}}});
    }
    for (const detail::numbered& n : detail::numbered_refusals()) {
      all.add({.in = {{n.extents}, {n.index, values::index, 2}},
               .with = {.integer = {n.axis}},
               .refused = true});
    }
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.in[1].extents);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[0][detail::place_by_number(i, q.in[1], q.in[0], q.with.integer[0])];
    }
    return {y};
  }
};

template <>
struct samples<ops::scatter> {
  template <class T>
  using arguments = types<T, std::int64_t, T>;
  template <class T>
  using second = variant<ops::scatter, types<T, std::int32_t, T>>;
  static std::tuple<std::int64_t, bool> attributes(const settings& s) {
    return {s.integer[0], s.flag[0]};
  }
  static void list(sample_list& all) {
    for (const bool adds : {false, true}) {
      for (const detail::numbered& n : detail::numbered_cases()) {
        const auto terms = static_cast<double>(detail::row_of(n.index, n.axis).places) + 1;
        sample s{.in = {{n.extents}, detail::index_into(n), {n.index}},
                 .with = {.integer = {n.axis}, .flag = {adds}},
                 .allowed = {adds ? detail::stored(all.type, terms) : 0, 2 * terms},
                 .gradient = (adds || n.once) && detail::is_small(n.extents)};
        all.add(s);
        s.second = true;
        all.add_once(s);
      }
      all.add_once(
          {.in = {{{19}, values::special}, {{7}, values::index, 19}, {{7}, values::special}},
           .with = {.flag = {adds}},
           .allowed = {detail::stored(all.type, 8), 16}});
    }
    for (const detail::numbered& n : detail::numbered_refusals()) {
      all.add({.in = {{n.extents}, {n.index, values::index, 2}, {n.index}},
               .with = {.integer = {n.axis}},
               .refused = true});
    }
    all.add({.in = {{{5}}, {{3}, values::index, 5}, {{4}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < q.in[1].size(); ++i) {
      double& to = y[detail::place_by_number(i, q.in[1], y, q.with.integer[0])];
      to = q.with.flag[0] ? to + q.in[2][i] : q.in[2][i];
    }
    return {y};
  }
};

template <>
struct samples<ops::index_select> {
  template <class T>
  using arguments = types<T, std::int64_t>;
  template <class T>
  using second = variant<ops::index_select, types<T, std::int32_t>>;
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::gather, ops::embedding, ops::reshape, ops::expand>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    struct one {
      shape extents;
      std::int64_t count, axis;
    };
    for (const one& o : {one{{1}, 1, 0}, one{{7}, 11, 0}, one{{7}, 0, -1}, one{{5, 3}, 4, 0},
                         one{{5, 3}, 4, -1}, one{{2, 3, 5}, 7, 1}, one{{0, 3}, 2, 1},
                         one{{3, 0}, 2, 0}, one{{3, 0}, 0, 1}, one{{2, 1, 3, 2, 3}, 4, 2},
                         one{{3, 129}, 130, 1}, one{{129, 2}, 67, 0}, one{{2, 3, 131}, 5, 1}}) {
      const given ids{{o.count}, values::index, detail::row_of(o.extents, o.axis).places};
      sample s{.in = {{o.extents}, ids},
               .with = {.integer = {o.axis}},
               .gradient = detail::is_small(o.extents)};
      all.add(s);
      s.second = true;
      all.add_once(s);
    }
    for (const values v : {values::special, values::edges}) {
      all.add_once({.in = {{{19, 2}, v}, {{37}, values::index, 19}}});
    }
    all.add({.in = {{{2, 3}}, {{2}, values::index, 2}}, .with = {.integer = {2}}, .refused = true});
    all.add({.in = {{{2, 3}}, {{2, 1}, values::index, 2}}, .refused = true});
    all.add({.in = {{{2, 3}}, {{}, values::index, 2}}, .refused = true});
    all.add({.in = {{{}}, {{1}, values::index, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const numbers& x = q.in[0];
    shape to = x.extents;
    const auto a = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    to[a] = q.in[1].size();
    return {detail::picked(x, to, [&](shape at) {
      at[a] = static_cast<std::int64_t>(q.in[1][at[a]]);
      return at;
    })};
  }
};

/// As `To`, which is float32 in the list of operators, and as the row's type.
template <class To>
struct samples<ops::one_hot<To>> {
  template <class T>
  using arguments = types<std::int64_t>;
  template <class T>
  using second = variant<ops::one_hot<T>, types<std::int32_t>>;
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::scatter, ops::fill, ops::cast<To>, ops::unsqueeze, ops::expand>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    struct one {
      shape ids;
      std::int64_t classes;
    };
    for (const one& o :
         {one{{}, 3}, one{{1}, 1}, one{{7}, 1}, one{{4}, 3}, one{{2, 3}, 5}, one{{0}, 3},
          one{{0}, 0}, one{{3, 0}, 2}, one{{2, 1, 2, 2}, 131}, one{{129}, 2}}) {
      sample s{.in = {{o.ids, values::index, o.classes}}, .with = {.integer = {o.classes}}};
      all.add(s);
      s.second = true;
      all.add_once(s);
    }
    all.add({.in = {{{3}, values::index, 2}}, .with = {.integer = {-1}}, .refused = true});
    all.add({.in = {{{1, 1, 1, 1, 1, 1, 1, 1}, values::index, 2}},
             .with = {.integer = {2}},
             .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    to.push_back(q.with.integer[0]);
    numbers y(to);
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      y[i * q.with.integer[0] + static_cast<std::int64_t>(q.in[0][i])] = 1;
    }
    return {y};
  }
};

}  // namespace ashlar::conformance

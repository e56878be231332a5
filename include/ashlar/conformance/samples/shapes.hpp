// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/conformance/samples/elementwise.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/views.hpp"

/// Samples of views, copies and what makes numbers.
namespace ashlar::conformance {

namespace detail {

inline std::int64_t wrapped(std::int64_t axis, int rank) { return axis < 0 ? axis + rank : axis; }

/// Indices of element `i` of a shape, counted row by row.
inline shape indices_of(std::int64_t i, const shape& extents) {
  shape at = extents;
  for (int axis = extents.rank() - 1; axis >= 0; --axis) {
    at[axis] = i % extents[axis];
    i /= extents[axis];
  }
  return at;
}
inline std::int64_t number_of(const shape& at, const shape& extents) {
  std::int64_t i = 0;
  for (int axis = 0; axis < extents.rank(); ++axis) {
    i = i * extents[axis] + at[axis];
  }
  return i;
}
/// Result element `i` is the element at `from(indices)` of `x`.
template <class From>
numbers picked(const numbers& x, const shape& to, const From& from) {
  numbers y(to);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y[i] = x[number_of(from(indices_of(i, to)), x.extents)];
  }
  return y;
}

/// One tensor, attributes from the settings.
struct one_tensor : plain_samples {
  template <class T>
  using arguments = types<T>;
};

/// What a cast makes of a number: towards zero and saturated for integers, which make 0 of NaN.
inline double as_element(dtype d, double x) {
  if (d == dtype::boolean) {
    return truth(x != 0);
  }
  if (is_floating(d)) {
    return x;
  }
  const int bits = static_cast<int>(8 * size_of(d)) - (d == dtype::uint8 ? 0 : 1);
  const double above = std::ldexp(1.0, bits);
  const double below = d == dtype::uint8 ? 0 : -above;
  return std::isnan(x) ? 0
                       : std::trunc(std::clamp(x, below, d == dtype::int64 ? above : above - 1));
}

/// Python's bounds: from the back where negative, clipped.
inline std::int64_t clipped(std::int64_t at, std::int64_t n) {
  at = at < 0 ? at + n : at;
  return at < 0 ? 0 : at > n ? n : at;
}

}  // namespace detail

// Views -------------------------------------------------------------------------------------------

template <>
struct samples<ops::slice> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 1, 6, 2}}, .gradient = true});
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {-1, -2, 99, 1}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 3, 2, 1}}});
    all.add({.in = {{{0, 3}}}, .with = {.integer = {0, 0, 4, 3}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 0, 4, 0}}, .refused = true});
    all.add({.in = {{{5}}}, .with = {.integer = {1, 0, 4, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    const std::int64_t begin = detail::clipped(q.with.integer[1], to[axis]);
    const std::int64_t end = detail::clipped(q.with.integer[2], to[axis]);
    const std::int64_t step = q.with.integer[3];
    to[axis] = end > begin ? (end - begin + step - 1) / step : 0;
    return {detail::picked(q.in[0], to, [&](shape at) {
      at[axis] = begin + at[axis] * step;
      return at;
    })};
  }
};
template <>
struct samples<ops::narrow> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1], s.integer[2]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 2, 4}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {-1, 5, 0}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 3, 3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    to[axis] = q.with.integer[2];
    return {detail::picked(q.in[0], to, [&](shape at) {
      at[axis] += q.with.integer[1];
      return at;
    })};
  }
};
template <>
struct samples<ops::select> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {1, 5}}, .gradient = true});
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {-1, -1}}, .gradient = true});
    all.add({.in = {{{1}}}, .with = {.integer = {0, 0}}, .gradient = true});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 5}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    const shape from = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], from.rank()));
    shape to;
    for (int i = 0; i < from.rank(); ++i) {
      if (i != axis) {
        to.push_back(from[i]);
      }
    }
    return {detail::picked(q.in[0], to, [&](const shape& at) {
      shape all = from;
      for (int i = 0; i < from.rank(); ++i) {
        all[i] = i == axis ? detail::wrapped(q.with.integer[1], static_cast<int>(from[axis]))
                           : at[i < axis ? i : i - 1];
      }
      return all;
    })};
  }
};

namespace detail {
inline numbers permuted(const numbers& x, const shape& order) {
  shape to = x.extents;
  for (int i = 0; i < to.rank(); ++i) {
    to[i] = x.extents[static_cast<int>(wrapped(order[i], to.rank()))];
  }
  return picked(x, to, [&](const shape& at) {
    shape from = at;
    for (int i = 0; i < to.rank(); ++i) {
      from[static_cast<int>(wrapped(order[i], to.rank()))] = at[i];
    }
    return from;
  });
}
}  // namespace detail

template <>
struct samples<ops::transpose> : detail::one_tensor {
  static std::tuple<std::int64_t, std::int64_t> attributes(const settings& s) {
    return {s.integer[0], s.integer[1]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.integer = {0, 2}}, .gradient = true});
    all.add({.in = {{{5, 7}}}, .with = {.integer = {-1, -2}}, .gradient = true});
    all.add({.in = {{{0, 3}}}, .with = {.integer = {0, 1}}});
    all.add({.in = {{{5}}}, .with = {.integer = {0, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape order = q.in[0].extents;
    for (int i = 0; i < order.rank(); ++i) {
      order[i] = i;
    }
    const auto a = static_cast<int>(detail::wrapped(q.with.integer[0], order.rank()));
    const auto b = static_cast<int>(detail::wrapped(q.with.integer[1], order.rank()));
    std::swap(order[a], order[b]);
    return {detail::permuted(q.in[0], order)};
  }
};
template <>
struct samples<ops::permute> : detail::one_tensor {
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 7, 3}}}, .with = {.list = {2, 0, 1}}, .gradient = true});
    all.add({.in = {{{2, 1, 3, 5}}}, .with = {.list = {-1, 1, 0, 2}}, .gradient = true});
    all.add({.in = {{{}}}, .gradient = true});
    all.add({.in = {{{5, 2}}}, .with = {.list = {0, 0}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return {detail::permuted(q.in[0], q.with.list)};
  }
};
template <>
struct samples<ops::expand> : detail::one_tensor {
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 1}}}, .with = {.list = {2, 3, 4}}, .gradient = true});
    all.add({.in = {{{}}}, .with = {.list = {5}}, .gradient = true});
    all.add({.in = {{{1, 3}}}, .with = {.list = {0, 3}}});
    all.add({.in = {{{2, 3}}}, .with = {.list = {2, 4}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[0].at(i, y.extents);
    }
    return {y};
  }
};

namespace detail {
inline std::vector<numbers> reshaped(const question& q, const shape& to) {
  numbers y = q.in[0];
  y.extents = to;
  return {y};
}
inline shape without_placeholder(const shape& to, std::int64_t size) {
  shape all = to;
  std::int64_t known = 1;
  for (const std::int64_t n : to) {
    known *= n == -1 ? 1 : n;
  }
  for (int i = 0; i < all.rank(); ++i) {
    all[i] = all[i] == -1 ? size / known : all[i];
  }
  return all;
}
}  // namespace detail

template <>
struct samples<ops::squeeze> : detail::one_tensor {
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 1, 2}}}, .with = {.integer = {1}}, .gradient = true});
    all.add({.in = {{{1}}}, .with = {.integer = {-1}}, .gradient = true});
    all.add({.in = {{{3, 2}}}, .with = {.integer = {0}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to;
    const std::int64_t axis = detail::wrapped(q.with.integer[0], q.in[0].rank());
    for (int i = 0; i < q.in[0].rank(); ++i) {
      if (i != axis) {
        to.push_back(q.in[0].extents[i]);
      }
    }
    return detail::reshaped(q, to);
  }
};
template <>
struct samples<ops::unsqueeze> : detail::one_tensor {
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    all.add({.in = {{{3, 2}}}, .with = {.integer = {1}}, .gradient = true});
    all.add({.in = {{{}}}, .with = {.integer = {0}}, .gradient = true});
    all.add({.in = {{{3, 0}}}, .with = {.integer = {-1}}});
    all.add({.in = {{{3}}}, .with = {.integer = {3}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to;
    const std::int64_t axis = detail::wrapped(q.with.integer[0], q.in[0].rank() + 1);
    for (int i = 0; i <= q.in[0].rank(); ++i) {
      if (i == axis) {
        to.push_back(1);
      }
      if (i < q.in[0].rank()) {
        to.push_back(q.in[0].extents[i]);
      }
    }
    return detail::reshaped(q, to);
  }
};
template <>
struct samples<ops::reshape> : detail::one_tensor {
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::view_as, ops::clone>;
  static std::tuple<shape> attributes(const settings& s) { return {s.list}; }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 3, 4}}}, .with = {.list = {4, -1}}, .gradient = true});
    all.add({.in = {{{6}}}, .with = {.list = {2, 1, 3}}, .gradient = true});
    all.add({.in = {{{1, 1}}}, .gradient = true});
    all.add({.in = {{{0, 3}}}, .with = {.list = {3, 0}}});
    all.add({.in = {{{5}}}, .with = {.list = {2, -1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    return detail::reshaped(q, detail::without_placeholder(q.with.list, q.in[0].size()));
  }
};
template <>
struct samples<ops::view_as> : samples<ops::reshape> {
  using parts = ops::operators<>;
  static void list(sample_list& all) {
    all.add_once({.in = {{{2, 3, 4}}}, .with = {.list = {4, -1}}, .gradient = true});
    all.add_once({.in = {{{6}, values::any, 0, layout::gaps}}, .with = {.list = {2, 1, 3}}});
    all.add_once({.in = {{{0, 3}}}, .with = {.list = {3, 0}}});
    all.add_once({.in = {{{3, 4}, values::any, 0, layout::turned}},
                  .with = {.list = {12}},
                  .refused = true});
  }
};
template <>
struct samples<ops::slice_backward> : detail::one_tensor {
  static std::tuple<shape, std::int64_t, std::int64_t, std::int64_t, std::int64_t> attributes(
      const settings& s) {
    return {s.list, s.integer[0], s.integer[1], s.integer[2], s.integer[3]};
  }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 3, 5}}},
             .with = {.list = {2, 9, 5}, .integer = {1, 1, 7, 2}},
             .gradient = true});
    all.add({.in = {{{0}}}, .with = {.list = {7}, .integer = {0, 3, 3, 1}}});
    all.add({.in = {{{4}}}, .with = {.list = {7}, .integer = {-1, -4, 99, 1}}, .gradient = true});
    all.add({.in = {{{4}}}, .with = {.list = {7}, .integer = {0, 0, 3, 1}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(q.with.list);
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], y.rank()));
    const std::int64_t begin = detail::clipped(q.with.integer[1], y.extents[axis]);
    for (std::int64_t i = 0; i < q.in[0].size(); ++i) {
      shape at = detail::indices_of(i, q.in[0].extents);
      at[axis] = begin + at[axis] * q.with.integer[3];
      y[detail::number_of(at, y.extents)] = q.in[0][i];
    }
    return {y};
  }
};

// Copies and creation -----------------------------------------------------------------------------

template <>
struct samples<ops::clone> : detail::unary_samples<ops::clone> {
  static double of(double x) { return x; }
};
template <>
struct samples<ops::contiguous> : detail::unary_samples<ops::contiguous> {
  template <class T>
  static constexpr bool takes = true;
  using parts = ops::operators<ops::clone>;
  static double of(double x) { return x; }
};
/// From the row's type to `To`, which is float32 in the list of operators, and back.
template <class To>
struct samples<ops::cast<To>> : detail::one_tensor {
  template <class T>
  using second = variant<ops::cast<T>, types<float>>;
  static void list(sample_list& all) {
    detail::list_unary(all, values::any, {}, true);
    for (const values v : {values::any, values::away, values::special}) {
      all.add({.in = {{{3, 43}, v}}, .second = true});
    }
    all.add({.in = {{{0}}}, .second = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    for (double& x : y.v) {
      x = detail::as_element(q.type, x);
    }
    return {y};
  }
};
template <>
struct samples<ops::copy> : plain_samples {
  template <class T>
  using arguments = types<T, float>;
  static void list(sample_list& all) {
    for (const shape& s : {shape{}, {0}, {1}, {131}, {2, 3, 17}}) {
      all.add({.in = {{s}, {s}}, .gradient = detail::is_small(s)});
    }
    all.add({.in = {{{2, 3}}, {{3}}}, .gradient = true});
    all.add({.in = {{{2, 3}}, {{1}}}, .gradient = true});
    all.add_once({.in = {{{37}}, {{37}, values::special}}});
    all.add({.in = {{{3}}, {{2, 3}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = detail::as_element(q.type, q.in[1].at(i, y.extents));
    }
    return {y};
  }
};
template <>
struct samples<ops::cat> : plain_samples {
  template <class T>
  using arguments = types<T, T, T>;
  static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
  static void list(sample_list& all) {
    all.add({.in = {{{2, 3, 5}}, {{2, 0, 5}}, {{2, 4, 5}}}, .with = {.integer = {1}}});
    all.add({.in = {{{2, 3}}, {{2, 1}}, {{2, 2}}}, .with = {.integer = {-1}}, .gradient = true});
    all.add({.in = {{{1}}, {{127}}, {{2}}}});
    all.add({.in = {{{0, 3}}, {{0, 3}}, {{0, 3}}}});
    all.add({.in = {{{2, 3}}, {{1, 3}}, {{2, 2}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    shape to = q.in[0].extents;
    const auto axis = static_cast<int>(detail::wrapped(q.with.integer[0], to.rank()));
    to[axis] = 0;
    for (const numbers& x : q.in) {
      to[axis] += x.extents[axis];
    }
    numbers y(to);
    std::int64_t begin = 0;
    for (const numbers& x : q.in) {
      for (std::int64_t i = 0; i < x.size(); ++i) {
        shape at = detail::indices_of(i, x.extents);
        at[axis] += begin;
        y[detail::number_of(at, to)] = x[i];
      }
      begin += x.extents[axis];
    }
    return {y};
  }
};
template <>
struct samples<ops::fill> : detail::one_tensor {
  static std::tuple<double> attributes(const settings& s) { return {s.number[0]}; }
  static void list(sample_list& all) {
    detail::list_unary(all, values::any, {}, true, {.number = {2.5}});
    detail::list_unary(all, values::any, {}, false, {.number = {-0.1}});
  }
  static std::vector<numbers> twin(const question& q) {
    return {numbers(q.in[0].extents, detail::as_element(q.type, q.with.number[0]))};
  }
};
template <>
struct samples<ops::arange> : detail::one_tensor {
  static std::tuple<double, double> attributes(const settings& s) {
    return {s.number[0], s.number[1]};
  }
  static void list(sample_list& all) {
    for (const shape& s : detail::unary_shapes()) {
      all.add({.in = {{s}}, .with = {.number = {1.0, 2.0}}, .allowed = {2, 2050}});
    }
    if (all.floating()) {
      all.add({.in = {{{2, 3, 17}}}, .with = {.number = {-3.0, 0.25}}, .allowed = {2, 30}});
    }
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.with.number[0] + static_cast<double>(i) * q.with.number[1];
    }
    return {y};
  }
};

namespace detail {

/// Element `i` is a function of (seed, offset, i): Philox words, 24, 11 or 8 bits of each, or a
/// whole 53 of two; normal ones by Box and Muller.
template <class Op>
struct random_samples : one_tensor {
  template <class T>
  static constexpr bool takes =
      Floating<T> && !std::is_same_v<T, float8_e4m3> && !std::is_same_v<T, float8_e5m2>;
  static std::tuple<std::uint64_t, std::uint64_t, double, double> attributes(const settings& s) {
    return {static_cast<std::uint64_t>(s.integer[0]), static_cast<std::uint64_t>(s.integer[1]),
            s.number[0], s.number[1]};
  }
  static void list(sample_list& all) {
    // Of normal numbers log, sqrt, sine and cosine are each good to two places.
    const tolerance allowed{8, 16};
    for (const shape& s : unary_shapes()) {
      all.add(
          {.in = {{s}}, .with = {.integer = {42, 5}, .number = {-1.0, 3.0}}, .allowed = allowed});
    }
    all.add({.in = {{{65}}},
             .with = {.integer = {-0x123456789abcdef, std::int64_t{7} << 31}, .number = {0.5, 2.0}},
             .allowed = allowed});
  }
};
inline std::vector<numbers> random_twin(const question& q, bool normal) {
  numbers y(q.in[0].extents);
  const bool wide = q.type == dtype::float64;
  const int bits = q.type == dtype::float32 ? 24 : q.type == dtype::float16 ? 11 : 8;
  const std::int64_t group = wide ? 2 : 4;
  const auto seed = static_cast<std::uint64_t>(q.with.integer[0]);
  const auto offset = static_cast<std::uint64_t>(q.with.integer[1]);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const auto words = philox_block(seed, offset + static_cast<std::uint64_t>(i / group));
    const auto number = [&](std::int64_t k, bool above_zero) {
      const auto at = static_cast<std::size_t>(wide ? 2 * k : k);
      if (wide) {
        const double u = std::ldexp(
            static_cast<double>((std::uint64_t{words[at + 1]} << 32 | words[at]) >> 11), -53);
        return above_zero ? 1 - u : u;
      }
      return normal ? std::ldexp(static_cast<double>(words[at]) + (above_zero ? 1 : 0), -32)
                    : std::ldexp(static_cast<double>(words[at] >> (32 - bits)), -bits);
    };
    double x = number(i % group, false);
    if (normal) {
      const std::int64_t pair = i % group / 2 * 2;
      const double radius = std::sqrt(-2 * std::log(number(pair, true)));
      const double angle = 2 * std::numbers::pi * number(pair + 1, false);
      x = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
      y[i] = q.with.number[0] + q.with.number[1] * x;
    } else {
      y[i] = q.with.number[0] + (q.with.number[1] - q.with.number[0]) * x;
    }
  }
  return {y};
}

}  // namespace detail

template <>
struct samples<ops::uniform> : detail::random_samples<ops::uniform> {
  static std::vector<numbers> twin(const question& q) { return detail::random_twin(q, false); }
};
template <>
struct samples<ops::normal> : detail::random_samples<ops::normal> {
  static std::vector<numbers> twin(const question& q) { return detail::random_twin(q, true); }
};

}  // namespace ashlar::conformance

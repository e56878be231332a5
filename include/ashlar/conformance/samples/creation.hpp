// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/conformance/samples/shapes.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/random.hpp"

/// Samples of copies and of what makes numbers.
namespace ashlar::conformance {

namespace detail {

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

}  // namespace detail

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

// Random numbers ----------------------------------------------------------------------------------

namespace detail {

/// Element `i` is a function of (seed, offset, i): Philox words, 24, 11 or 8 bits of each, or a
/// whole 53 of two; normal ones by Box and Muller.
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
struct samples<ops::uniform> : detail::random_samples {
  static std::vector<numbers> twin(const question& q) { return detail::random_twin(q, false); }
};
template <>
struct samples<ops::normal> : detail::random_samples {
  static std::vector<numbers> twin(const question& q) { return detail::random_twin(q, true); }
};

}  // namespace ashlar::conformance

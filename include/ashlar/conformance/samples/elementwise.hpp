// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/conformance/sample.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"

/// Samples of elementwise operators.
namespace ashlar::conformance {

namespace detail {

/// None, one, primes, one over a block, axes that merge and that do not, five of them.
inline const std::vector<shape>& unary_shapes() {
  static const std::vector<shape> all{
      {}, {0}, {1}, {7}, {127}, {1025}, {2, 3, 17}, {3, 0, 5}, {2, 1, 2, 3, 5}};
  return all;
}
inline const std::vector<std::pair<shape, shape>>& binary_shapes() {
  static const std::vector<std::pair<shape, shape>> all{
      {{}, {}},         {{0}, {1}},           {{1}, {3}},          {{127}, {127}},
      {{1025}, {1025}}, {{2, 3, 17}, {3, 1}}, {{3, 1}, {2, 3, 5}}, {{2, 1, 2, 1, 5}, {3, 1, 4, 5}}};
  return all;
}

/// Small enough for differences, which ask the twin twice for each element.
inline bool is_small(const shape& extents) { return element_count(extents.span()) <= 64; }

inline void list_unary(sample_list& all, values what, tolerance allowed, bool smooth,
                       const settings& with = {}) {
  for (const shape& s : unary_shapes()) {
    all.add(
        {.in = {{s, what}}, .with = with, .allowed = allowed, .gradient = smooth && is_small(s)});
  }
  all.add_once({.in = {{{19}, values::special}}, .with = with, .allowed = allowed});
  if (!all.floating()) {
    all.add_once({.in = {{{19}, values::edges}}, .with = with, .allowed = allowed});
  }
}

inline void list_binary(sample_list& all, values first, values second, tolerance allowed,
                        bool smooth) {
  for (const auto& [a, b] : binary_shapes()) {
    all.add({.in = {{a, first}, {b, second}},
             .allowed = allowed,
             .gradient = smooth && is_small(a) && is_small(b)});
  }
  all.add_once({.in = {{{5, 7}, values::special}, {{7}, values::special}}, .allowed = allowed});
  all.add_once({.in = {{{30}, values::edges}, {{30}, values::edges}}, .allowed = allowed});
  all.add_once({.in = {{{30}, values::ties}, {{30}, values::ties}}, .allowed = allowed});
  all.add({.in = {{{2, 3}, first}, {{4}, second}}, .refused = true});
}

inline std::vector<numbers> map1(const question& q, double (*of)(double)) {
  numbers y = q.in[0];
  for (double& x : y.v) {
    x = of(x);
  }
  return {y};
}
inline shape common_shape(const std::vector<numbers>& in) {
  tensor_spec s = contiguous_spec(dtype::float64, in[0].extents.span());
  for (const numbers& x : in) {
    s = broadcast("", s, contiguous_spec(dtype::float64, x.extents.span()));
  }
  return shape(s.shape());
}
inline std::vector<numbers> map2(const question& q, double (*of)(const question&, double, double)) {
  numbers y(common_shape(q.in));
  for (std::int64_t i = 0; i < y.size(); ++i) {
    y[i] = of(q, q.in[0].at(i, y.extents), q.in[1].at(i, y.extents));
  }
  return {y};
}

/// An operator on one tensor: `samples<Op>` has `of(x)` and may hide the rest.
template <class Op>
struct unary_samples : plain_samples {
  template <class T>
  using arguments = types<T>;
  static constexpr values from = values::any;
  static constexpr tolerance allowed{};
  static constexpr bool smooth = true;
  static void list(sample_list& all) {
    list_unary(all, samples<Op>::from, samples<Op>::allowed, samples<Op>::smooth);
  }
  static std::vector<numbers> twin(const question& q) { return map1(q, &samples<Op>::of); }
};
/// On two tensors: `of(question, x, y)`.
template <class Op>
struct binary_samples : plain_samples {
  template <class T>
  using arguments = types<T, T>;
  static constexpr values first = values::any;
  static constexpr values other = values::any;
  static constexpr tolerance allowed{};
  static constexpr bool smooth = true;
  static void list(sample_list& all) {
    list_binary(all, samples<Op>::first, samples<Op>::other, samples<Op>::allowed,
                samples<Op>::smooth);
  }
  static std::vector<numbers> twin(const question& q) { return map2(q, &samples<Op>::of); }
};
/// A comparison, which has no gradient.
template <class Op>
struct comparison_samples : binary_samples<Op> {
  static constexpr bool smooth = false;
};

inline double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
inline double density_of(double x) {
  return std::exp(-x * x / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
}
inline double phi_of(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }
constexpr double gelu_slope = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
constexpr double gelu_cubic = 0.044715;

}  // namespace detail

// Arithmetic --------------------------------------------------------------------------------------

template <>
struct samples<ops::add> : detail::binary_samples<ops::add> {
  template <class T>
  using second = std::conditional_t<Floating<T>, variant<ops::add, types<std::int32_t, T>>, void>;
  static void list(sample_list& all) {
    binary_samples::list(all);
    if (all.floating()) {  // an integer meets a number: promotion
      all.add_once(
          {.in = {{{2, 5}, values::any}, {{5}, values::any}}, .allowed = {1, 64}, .second = true});
    }
  }
  static double of(const question& q, double x, double y) {
    return q.type == dtype::boolean ? detail::truth(x + y != 0) : x + y;
  }
};
template <>
struct samples<ops::sub> : detail::binary_samples<ops::sub> {
  template <class T>
  static constexpr bool takes = !std::is_same_v<T, bool>;
  static double of(const question&, double x, double y) { return x - y; }
};
template <>
struct samples<ops::mul> : detail::binary_samples<ops::mul> {
  static double of(const question& q, double x, double y) {
    if (q.type == dtype::int32 || q.type == dtype::int64) {  // a double does not hold the low bits
      return static_cast<double>(static_cast<std::int64_t>(x) * static_cast<std::int64_t>(y));
    }
    return x * y;
  }
  static void list(sample_list& all) {
    for (const auto& [a, b] : detail::binary_shapes()) {
      all.add({.in = {{a}, {b}}, .gradient = detail::is_small(a) && detail::is_small(b)});
    }
    all.add_once({.in = {{{5, 7}, values::special}, {{7}, values::special}}});
    all.add({.in = {{{2, 3}}, {{4}}}, .refused = true});
  }
};
template <>
struct samples<ops::div> : detail::binary_samples<ops::div> {
  template <class T>
  static constexpr bool takes = !std::is_same_v<T, bool>;
  static constexpr values other = values::away;
  static double of(const question& q, double x, double y) {
    return is_floating(q.type) ? x / y : y == 0 ? 0.0 : std::trunc(x / y);
  }
};
template <>
struct samples<ops::maximum> : detail::binary_samples<ops::maximum> {
  static double of(const question&, double x, double y) {
    return std::isnan(x) || std::isnan(y) ? x + y : x > y ? x : y;
  }
};
template <>
struct samples<ops::minimum> : detail::binary_samples<ops::minimum> {
  static double of(const question&, double x, double y) {
    return std::isnan(x) || std::isnan(y) ? x + y : x < y ? x : y;
  }
};
template <>
struct samples<ops::neg> : detail::unary_samples<ops::neg> {
  template <class T>
  static constexpr bool takes = !std::is_same_v<T, bool>;
  static double of(double x) { return -x; }
};
template <>
struct samples<ops::abs> : detail::unary_samples<ops::abs> {
  static constexpr values from = values::away;
  static double of(double x) { return std::abs(x); }
};
template <>
struct samples<ops::sign> : detail::unary_samples<ops::sign> {
  static constexpr values from = values::away;
  static double of(double x) { return std::isnan(x) ? x : x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; }
};
template <>
struct samples<ops::square> : detail::unary_samples<ops::square> {
  static double of(double x) { return x * x; }
  static void list(sample_list& all) {
    for (const shape& s : detail::unary_shapes()) {
      all.add({.in = {{s}}, .gradient = detail::is_small(s)});
    }
    all.add_once({.in = {{{19}, values::special}}});
  }
};
template <>
struct samples<ops::scale> : detail::unary_samples<ops::scale> {
  static std::tuple<double, double> attributes(const settings& s) {
    return {s.number[0], s.number[1]};
  }
  static void list(sample_list& all) {
    detail::list_unary(all, values::any, {2, 8}, true, {.number = {3.0, -2.0}});
    detail::list_unary(all, values::any, {2, 2}, true, {.number = {0.5, 0.0}});
  }
  static std::vector<numbers> twin(const question& q) {
    const bool cut = is_integral(q.type);
    const double alpha = cut ? std::trunc(q.with.number[0]) : q.with.number[0];
    numbers y = q.in[0];
    for (double& x : y.v) {
      x = x * alpha + q.with.number[1];
      x = q.type == dtype::boolean ? detail::truth(x != 0) : x;
    }
    return {y};
  }
  template <class T>
  static constexpr bool takes = !std::is_same_v<T, bool>;
};
template <>
struct samples<ops::pow> : detail::unary_samples<ops::pow> {
  static std::tuple<double> attributes(const settings& s) { return {s.number[0]}; }
  static void list(sample_list& all) {
    detail::list_unary(all, values::away, {6, 64}, true, {.number = {5.0}});
    // Through the logarithm: |exponent x log(x)| roundings of the result.
    detail::list_unary(all, values::positive, {8, 12}, true, {.number = {1.7}});
    detail::list_unary(all, values::positive, {3, 2}, true, {.number = {0.5}});
    detail::list_unary(all, values::away, {6, 24}, true, {.number = {-2.0}});
    all.add_once({.in = {{{5}}}, .with = {.number = {0.0}}});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y = q.in[0];
    const double e = q.with.number[0];
    for (double& x : y.v) {
      x = e == 0.5 ? std::sqrt(x) : e == 1.7 && !(x >= 0) ? std::nan("") : std::pow(x, e);
    }
    return {y};
  }
};

// Functions of one number: a function is good to two places. ------------------------------------

template <>
struct samples<ops::exp> : detail::unary_samples<ops::exp> {
  static constexpr tolerance allowed{2, 8};
  static double of(double x) { return std::exp(x); }
};
template <>
struct samples<ops::log> : detail::unary_samples<ops::log> {
  static constexpr values from = values::positive;
  static constexpr tolerance allowed{2, 3};
  static double of(double x) { return std::log(x); }
};
template <>
struct samples<ops::sqrt> : detail::unary_samples<ops::sqrt> {
  static constexpr values from = values::positive;
  static constexpr tolerance allowed{1, 2};
  static double of(double x) { return std::sqrt(x); }
};
template <>
struct samples<ops::rsqrt> : detail::unary_samples<ops::rsqrt> {
  static constexpr values from = values::positive;
  static constexpr tolerance allowed{2, 3};
  static double of(double x) { return 1 / std::sqrt(x); }
};
template <>
struct samples<ops::tanh> : detail::unary_samples<ops::tanh> {
  static constexpr tolerance allowed{2, 1};
  static double of(double x) { return std::tanh(x); }
};
template <>
struct samples<ops::erf> : detail::unary_samples<ops::erf> {
  static constexpr tolerance allowed{2, 1};
  static double of(double x) { return std::erf(x); }
};
template <>
struct samples<ops::sigmoid> : detail::unary_samples<ops::sigmoid> {
  static constexpr tolerance allowed{4, 2};
  static double of(double x) { return detail::sigmoid_of(x); }
};
template <>
struct samples<ops::relu> : detail::unary_samples<ops::relu> {
  static constexpr values from = values::away;
  static double of(double x) { return x > 0 || std::isnan(x) ? x : 0.0; }
};
template <>
struct samples<ops::silu> : detail::unary_samples<ops::silu> {
  static constexpr tolerance allowed{4, 8};
  static double of(double x) { return x * detail::sigmoid_of(x); }
};
template <>
struct samples<ops::gelu> : detail::unary_samples<ops::gelu> {
  static constexpr tolerance allowed{6, 4};
  static double of(double x) { return x * detail::phi_of(x); }
};
template <>
struct samples<ops::gelu_tanh> : detail::unary_samples<ops::gelu_tanh> {
  static constexpr tolerance allowed{10, 4};
  static double of(double x) {
    return x * (1 + std::tanh(detail::gelu_slope * (x + detail::gelu_cubic * x * x * x))) / 2;
  }
};
template <>
struct samples<ops::swiglu> : detail::binary_samples<ops::swiglu> {
  static constexpr tolerance allowed{5, 16};
  static double of(const question&, double x, double y) { return x * detail::sigmoid_of(x) * y; }
};

// Their gradients, from what was saved and what arrives. ------------------------------------------

template <>
struct samples<ops::tanh_backward> : detail::binary_samples<ops::tanh_backward> {
  static constexpr tolerance allowed{4, 10};
  static double of(const question&, double y, double g) { return g * (1 - y * y); }
};
template <>
struct samples<ops::sigmoid_backward> : detail::binary_samples<ops::sigmoid_backward> {
  static constexpr tolerance allowed{4, 12};
  static double of(const question&, double y, double g) { return g * y * (1 - y); }
};
template <>
struct samples<ops::relu_backward> : detail::binary_samples<ops::relu_backward> {
  static constexpr values first = values::away;
  static double of(const question&, double y, double g) { return y <= 0 ? 0.0 : g; }
};
template <>
struct samples<ops::silu_backward> : detail::binary_samples<ops::silu_backward> {
  static constexpr tolerance allowed{8, 12};
  static double of(const question&, double x, double g) {
    const double s = detail::sigmoid_of(x);
    return g * (s * (1 + x * (1 - s)));
  }
};
template <>
struct samples<ops::gelu_backward> : detail::binary_samples<ops::gelu_backward> {
  static constexpr tolerance allowed{10, 8};
  static double of(const question&, double x, double g) {
    return g * (detail::phi_of(x) + x * detail::density_of(x));
  }
};
template <>
struct samples<ops::gelu_tanh_backward> : detail::binary_samples<ops::gelu_tanh_backward> {
  static constexpr tolerance allowed{16, 8};
  static double of(const question&, double x, double g) {
    using detail::gelu_cubic;
    using detail::gelu_slope;
    const double t = std::tanh(gelu_slope * (x + gelu_cubic * x * x * x));
    return g * ((1 + t) / 2 + x * (1 - t * t) * gelu_slope * (1 + 3 * gelu_cubic * x * x) / 2);
  }
};

// Comparisons -------------------------------------------------------------------------------------

template <>
struct samples<ops::eq> : detail::comparison_samples<ops::eq> {
  static double of(const question&, double x, double y) { return detail::truth(x == y); }
};
template <>
struct samples<ops::ne> : detail::comparison_samples<ops::ne> {
  static double of(const question&, double x, double y) { return detail::truth(x != y); }
};
template <>
struct samples<ops::lt> : detail::comparison_samples<ops::lt> {
  static double of(const question&, double x, double y) { return detail::truth(x < y); }
};
template <>
struct samples<ops::le> : detail::comparison_samples<ops::le> {
  static double of(const question&, double x, double y) { return detail::truth(x <= y); }
};
template <>
struct samples<ops::gt> : detail::comparison_samples<ops::gt> {
  static double of(const question&, double x, double y) { return detail::truth(x > y); }
};
template <>
struct samples<ops::ge> : detail::comparison_samples<ops::ge> {
  static double of(const question&, double x, double y) { return detail::truth(x >= y); }
};
template <>
struct samples<ops::logical_not> : detail::unary_samples<ops::logical_not> {
  static constexpr values from = values::ties;
  static constexpr bool smooth = false;
  static double of(double x) { return detail::truth(x == 0); }
};
template <>
struct samples<ops::where> : plain_samples {
  template <class T>
  using arguments = types<bool, T, T>;
  static void list(sample_list& all) {
    all.add({.in = {{{}}, {{}}, {{}}}, .gradient = true});
    all.add({.in = {{{0}}, {{1}}, {{0}}}});
    all.add({.in = {{{2, 1}}, {{3}}, {{2, 3}}}, .gradient = true});
    all.add({.in = {{{3, 1, 65}}, {{2, 1}}, {{65}}}});
    all.add_once({.in = {{{37}}, {{37}, values::special}, {{37}, values::special}}});
    all.add({.in = {{{2}}, {{3}}, {{3}}}, .refused = true});
  }
  static std::vector<numbers> twin(const question& q) {
    numbers y(detail::common_shape(q.in));
    for (std::int64_t i = 0; i < y.size(); ++i) {
      y[i] = q.in[q.in[0].at(i, y.extents) != 0 ? 1 : 2].at(i, y.extents);
    }
    return {y};
  }
};

}  // namespace ashlar::conformance

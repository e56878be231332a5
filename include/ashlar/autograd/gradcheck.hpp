// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/core/geometry.hpp"

namespace ashlar {

struct gradcheck_options {
  double step = 1e-6;      ///< of the central difference
  double absolute = 1e-6;  ///< allowed difference, plus
  double relative = 1e-4;  ///< this share of the numeric gradient
};

/// Where analytic and numeric gradients differ most, measured in allowed differences.
struct gradcheck_result {
  bool ok = true;
  double worst = 0;          ///< 1 is just allowed
  std::size_t input = 0;     ///< which argument
  std::int64_t element = 0;  ///< counted row by row
  double analytic = 0, numeric = 0;

  explicit operator bool() const { return ok; }
  [[nodiscard]] std::string text() const {
    return "input " + std::to_string(input) + ", element " + std::to_string(element) +
           ": analytic " + std::to_string(analytic) + ", numeric " + std::to_string(numeric) +
           " (" + std::to_string(worst) + " times the allowed difference)";
  }
};

namespace autograd::detail {

template <class X>
[[nodiscard]] double read(const X& x, std::int64_t i) {
  double value = 0;
  settle(x);
  chip_of<typename X::keys>::memory::copy_out(
      &value, reinterpret_cast<const std::byte*>(x.data() + place_of(x.spec(), i, x.shape())),
      sizeof(double));
  return value;
}
template <class X>
void write(const X& x, std::int64_t i, double value) {
  settle(x);
  chip_of<typename X::keys>::memory::copy_in(
      reinterpret_cast<std::byte*>(x.data() + place_of(x.spec(), i, x.shape())), &value,
      sizeof(double));
}

/// Fixed weights of the result's elements, so that no error can cancel.
[[nodiscard]] inline double weight_of(std::int64_t i) {
  return 0.5 + 0.37 * std::sin(1.7 * static_cast<double>(i) + 0.3);
}

}  // namespace autograd::detail

/// Compares the gradients of `f(inputs...)` with central differences, element by element.
///
/// Requires: `f` is smooth around the inputs; float64, whose rounding the step allows for; no input
/// repeats elements. Inputs are made leaves and changed and restored one element at a time.
/// Cost: two evaluations of `f` per input element.
template <class F, Recorded... In>
  requires(std::is_same_v<typename In::value_type, double> && ...)
[[nodiscard]] gradcheck_result gradcheck(const F& f, gradcheck_options options,
                                         const In&... inputs) {
  using autograd::detail::read;
  using autograd::detail::weight_of;
  using autograd::detail::write;
  (require_grad(inputs), ...);
  const auto loss = [&] {
    const no_grad off;
    const auto y = f(inputs...);
    double total = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) {
      total += weight_of(i) * read(y, i);
    }
    return total;
  };

  const auto y = f(inputs...);
  [[maybe_unused]] const auto there = beside(y);
  auto seed = empty<std::remove_cvref_t<decltype(y)>>(shape(y.shape()));
  for (std::int64_t i = 0; i < y.size(); ++i) {
    write(seed, i, weight_of(i));
  }
  const auto gradients = grad(y, seed, backward_options{}, inputs...);

  gradcheck_result worst;
  std::size_t input = 0;
  const auto check = [&](const auto& x, const auto& analytic) {
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double value = read(x, i);
      write(x, i, value + options.step);
      const double above = loss();
      write(x, i, value - options.step);
      const double below = loss();
      write(x, i, value);
      const double numeric = (above - below) / (2 * options.step);
      const double got = analytic ? read(analytic, i) : 0.0;
      const double allowed = options.absolute + options.relative * std::abs(numeric);
      const double distance = std::abs(got - numeric) / allowed;
      if (!std::isnan(worst.worst) && !(distance <= worst.worst)) {  // nothing is worse than NaN
        worst = {distance <= 1, distance, input, i, got, numeric};
      }
    }
    ++input;
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (check(inputs, std::get<I>(gradients)), ...);
  }(std::index_sequence_for<In...>{});
  return worst;
}
template <class F, Recorded... In>
[[nodiscard]] gradcheck_result gradcheck(const F& f, const In&... inputs) {
  return gradcheck(f, gradcheck_options{}, inputs...);
}

}  // namespace ashlar

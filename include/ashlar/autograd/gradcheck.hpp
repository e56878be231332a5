// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
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
void write_element(const X& x, std::int64_t i, double value) {
  settle(x);
  chip_of<typename X::keys>::memory::copy_in(
      reinterpret_cast<std::byte*>(x.data() + place_of(x.spec(), i, x.shape())), &value,
      sizeof(double));
}

/// Fixed weights of the results' elements, so that no error can cancel.
[[nodiscard]] inline double weight_of(std::size_t result, std::int64_t i) {
  return 0.5 +
         0.37 * std::sin(1.7 * static_cast<double>(i) + 0.3 + 0.9 * static_cast<double>(result));
}
template <class X>
[[nodiscard]] X weights_for(const X& y, std::size_t result) {
  X w = empty<X>(shape(y.shape()));
  for (std::int64_t i = 0; i < w.size(); ++i) {
    write_element(w, i, weight_of(result, i));
  }
  return w;
}
/// One result as a tuple of one.
template <class Y>
[[nodiscard]] auto tuple_of(Y y) {
  if constexpr (Tensor<Y>) {
    return std::tuple<Y>(std::move(y));
  } else {
    return y;
  }
}

}  // namespace autograd::detail

/// Compares the gradients of `f(inputs...)` with central differences, element by element.
///
/// `f` returns a tensor or a tuple of them; those that want no gradient do not count.
/// Requires: `f` is smooth around the inputs; float64, whose rounding the step allows for; no input
/// repeats elements. Inputs are made leaves and changed and restored one element at a time.
/// Cost: two evaluations of `f` per input element.
template <class F, Recorded... In>
  requires(std::is_same_v<typename In::value_type, double> && ...)
[[nodiscard]] gradcheck_result gradcheck(const F& f, gradcheck_options options,
                                         const In&... inputs) {
  using autograd::detail::read_element;
  using autograd::detail::write_element;
  (require_grad(inputs), ...);
  const auto y = autograd::detail::tuple_of(f(inputs...));
  constexpr std::size_t results = std::tuple_size_v<std::remove_const_t<decltype(y)>>;
  std::array<bool, results> counts{};

  // Gradients of all results together.
  std::vector<autograd::start> starts;
  std::array<tensor_handle, sizeof...(In)> found;
  [&]<std::size_t... K>(std::index_sequence<K...>) {
    const auto begin = [&](std::size_t k, const auto& one) {
      counts[k] = one && requires_grad(one);
      if (counts[k]) {
        starts.push_back(
            autograd::detail::start_at("gradcheck", one, autograd::detail::weights_for(one, k)));
      }
    };
    (begin(K, std::get<K>(y)), ...);
  }(std::make_index_sequence<results>{});
  std::array<autograd::capture, sizeof...(In)> captures;
  std::size_t place = 0;
  ((captures[place] = {&autograd::node_of(inputs, "gradcheck"), &found[place]}, ++place), ...);
  using keys = typename std::tuple_element_t<0, std::tuple<In...>>::keys;
  autograd::detail::run_pass<keys>(starts, {}, captures);

  const auto loss = [&] {
    const no_grad off;
    double total = 0;
    const auto add = [&](std::size_t k, const auto& one) {
      for (std::int64_t i = 0; counts[k] && i < one.size(); ++i) {
        total += autograd::detail::weight_of(k, i) * read_element(one, i);
      }
    };
    const auto now = autograd::detail::tuple_of(f(inputs...));
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      (add(K, std::get<K>(now)), ...);
    }(std::make_index_sequence<results>{});
    return total;
  };

  gradcheck_result worst;
  std::size_t input = 0;
  const auto check = [&]<class X>(const X& x) {
    const tensor_handle analytic = found[input];
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double value = read_element(x, i);
      write_element(x, i, value + options.step);
      const double above = loss();
      write_element(x, i, value - options.step);
      const double below = loss();
      write_element(x, i, value);
      const double numeric = (above - below) / (2 * options.step);
      const double got = analytic ? read_element(X(analytic), i) : 0.0;
      const double allowed = options.absolute + options.relative * std::abs(numeric);
      const double distance = std::abs(got - numeric) / allowed;
      if (!std::isnan(worst.worst) && !(distance <= worst.worst)) {  // nothing is worse than NaN
        worst = {distance <= 1, distance, input, i, got, numeric};
      }
    }
    ++input;
  };
  (check(inputs), ...);
  return worst;
}
template <class F, Recorded... In>
[[nodiscard]] gradcheck_result gradcheck(const F& f, const In&... inputs) {
  return gradcheck(f, gradcheck_options{}, inputs...);
}

/// The same for the gradients of `f`, as functions of its inputs and of the gradient of its result,
/// which counts as one more input.
///
/// Requires: as `gradcheck`; `f` returns one tensor.
/// Cost: four passes of `f` per element of inputs and result.
template <class F, Recorded... In>
[[nodiscard]] gradcheck_result gradgradcheck(const F& f, gradcheck_options options,
                                             const In&... inputs) {
  (require_grad(inputs), ...);
  const auto y = f(inputs...);
  const auto seed = autograd::detail::weights_for(y, sizeof...(In));
  const auto gradients = [&f](const auto&... all) {
    const grad_mode on(true);
    const auto args = std::tie(all...);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto result = f(std::get<I>(args)...);
      return grad(result, std::get<sizeof...(I)>(args), backward_options{.create_graph = true},
                  std::get<I>(args)...);
    }(std::make_index_sequence<sizeof...(all) - 1>{});
  };
  return gradcheck(gradients, options, inputs..., seed);
}
template <class F, Recorded... In>
[[nodiscard]] gradcheck_result gradgradcheck(const F& f, const In&... inputs) {
  return gradgradcheck(f, gradcheck_options{}, inputs...);
}

}  // namespace ashlar

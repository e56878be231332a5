// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
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
/// A tensor whose elements are read and written without its type, so that what compares gradients
/// is compiled once and not for each function that is checked.
struct watched {
  tensor_handle x;
  bool counts;  ///< wants a gradient
  double (*read)(const tensor_handle&, std::int64_t);
  void (*write)(const tensor_handle&, std::int64_t, double);
  start (*begin)(const tensor_handle&, std::size_t);  ///< of a pass, from this result's weights
};
template <class X>
[[nodiscard]] watched watch(const X& x) {
  return {
      x, x && requires_grad(x),
      [](const tensor_handle& y, std::int64_t i) {
        return static_cast<double>(read_element(X(y), i));
      },
      [](const tensor_handle& y, std::int64_t i, double value) { write_element(X(y), i, value); },
      [](const tensor_handle& y, std::size_t k) {
        return start_at("gradcheck", X(y), weights_for(X(y), k));
      }};
}
template <Tensor Y>
[[nodiscard]] std::vector<watched> watch_results(const Y& y) {
  return {watch(y)};
}
template <class... Y>
[[nodiscard]] std::vector<watched> watch_results(const std::tuple<Y...>& y) {
  return std::apply([](const Y&... one) { return std::vector<watched>{watch(one)...}; }, y);
}

/// Calls a function with its inputs, whatever their types.
struct checked_call {
  const void* f;
  std::vector<watched> (*results)(const void* f);
};
using whole_pass = void (*)(std::span<start>, backward_options, std::span<const capture>);

/// `nodes[k]` is the node of `inputs[k]`.
[[nodiscard]] inline gradcheck_result compare_gradients(const checked_call& call,
                                                        gradcheck_options options,
                                                        std::span<const watched> inputs,
                                                        std::span<node* const> nodes,
                                                        whole_pass pass) {
  const std::vector<watched> y = call.results(call.f);

  // Gradients of all results together.
  std::vector<start> starts;
  for (std::size_t k = 0; k < y.size(); ++k) {
    if (y[k].counts) {
      starts.push_back(y[k].begin(y[k].x, k));
    }
  }
  std::vector<tensor_handle> found(inputs.size());
  std::vector<capture> captures;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    captures.push_back({nodes[k], &found[k]});
  }
  pass(starts, {}, captures);

  const auto loss = [&] {
    const no_grad off;
    double total = 0;
    const std::vector<watched> now = call.results(call.f);
    for (std::size_t k = 0; k < now.size(); ++k) {
      for (std::int64_t i = 0; y[k].counts && i < now[k].x.size(); ++i) {
        total += weight_of(k, i) * now[k].read(now[k].x, i);
      }
    }
    return total;
  };

  gradcheck_result worst;
  for (std::size_t input = 0; input < inputs.size(); ++input) {
    const watched& at = inputs[input];
    for (std::int64_t i = 0; i < at.x.size(); ++i) {
      const double value = at.read(at.x, i);
      at.write(at.x, i, value + options.step);
      const double above = loss();
      at.write(at.x, i, value - options.step);
      const double below = loss();
      at.write(at.x, i, value);
      const double numeric = (above - below) / (2 * options.step);
      const double got = found[input] ? at.read(found[input], i) : 0.0;
      const double allowed = options.absolute + options.relative * std::abs(numeric);
      const double distance = std::abs(got - numeric) / allowed;
      if (!std::isnan(worst.worst) && !(distance <= worst.worst)) {  // nothing is worse than NaN
        worst = {distance <= 1, distance, input, i, got, numeric};
      }
    }
  }
  return worst;
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
  namespace parts = autograd::detail;
  (require_grad(inputs), ...);
  const auto evaluate = [&] { return parts::watch_results(f(inputs...)); };
  const parts::checked_call call{
      &evaluate, [](const void* at) { return (*static_cast<decltype(&evaluate)>(at))(); }};
  const std::array all{parts::watch(inputs)...};
  const std::array nodes{&autograd::node_of(inputs, "gradcheck")...};
  using keys = typename std::tuple_element_t<0, std::tuple<In...>>::keys;
  return parts::compare_gradients(call, options, all, nodes, &parts::run_pass<keys>);
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

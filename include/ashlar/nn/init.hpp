// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "ashlar/core/philox.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/random.hpp"

/// Values to begin training with. They depend on a seed, on a parameter's place in the order of
/// names and on nothing else.
namespace ashlar::nn {

/// What a tensor is filled with. Made by the functions of `nn::init`.
struct distribution {
  enum class kind { keep, constant, uniform, normal };

  kind what = kind::keep;
  double a = 0.0;  ///< the constant, the lower bound or the mean
  double b = 0.0;  ///< the upper bound or the standard deviation
};

namespace init {

/// Leaves what `make` has put there.
[[nodiscard]] constexpr distribution keep() { return {}; }
[[nodiscard]] constexpr distribution constant(double value) {
  return {distribution::kind::constant, value, 0.0};
}
[[nodiscard]] constexpr distribution uniform(double low, double high) {
  return {distribution::kind::uniform, low, high};
}
[[nodiscard]] constexpr distribution normal(double mean, double deviation) {
  return {distribution::kind::normal, mean, deviation};
}

/// Inputs that meet in one output of a weight with shape (out, in, ...).
[[nodiscard]] constexpr std::int64_t fan_in(const tensor_spec& weight) {
  return weight.rank == 0 || weight[0] == 0 ? 1 : weight.size / weight[0];
}
/// Normal with deviation `gain / sqrt(fan_in)`; the default gain is that for ReLU.
[[nodiscard]] inline distribution kaiming_normal(const tensor_spec& weight,
                                                 double gain = std::sqrt(2.0)) {
  return normal(0.0, gain / std::sqrt(static_cast<double>(fan_in(weight))));
}
/// Uniform with deviation `gain / sqrt(fan_in)`. With `gain` 1 / sqrt(3) the bounds are
/// 1 / sqrt(fan_in), PyTorch's default for linear layers.
[[nodiscard]] inline distribution kaiming_uniform(const tensor_spec& weight,
                                                  double gain = std::sqrt(2.0)) {
  const double bound = gain * std::sqrt(3.0 / static_cast<double>(fan_in(weight)));
  return uniform(-bound, bound);
}

}  // namespace init

namespace detail {

/// The seed of the random sequence of parameter number `index`.
constexpr std::uint64_t stream_seed(std::uint64_t seed, std::uint64_t index) {
  const auto words = philox_block(seed, index);
  return (std::uint64_t{words[1]} << 32) | words[0];
}

}  // namespace detail

/// Fills a tensor, outside the tape.
template <FloatingTensor X>
void fill_with(const X& x, const distribution& d, std::uint64_t seed) {
  const no_grad off;
  X to = x;
  switch (d.what) {
    case distribution::kind::keep:
      break;
    case distribution::kind::constant:
      fill.in_place(to, d.a);
      break;
    case distribution::kind::uniform:
      uniform.in_place(to, seed, 0, d.a, d.b);
      break;
    case distribution::kind::normal:
      normal.in_place(to, seed, 0, d.a, d.b);
      break;
  }
}

/// Fills each floating tensor of a module with `rule(name, spec)`, a `distribution`.
///
/// A tensor that stands in two places is filled once, under its first name.
template <class M, class Rule>
  requires std::is_invocable_r_v<distribution, const Rule&, std::string_view, const tensor_spec&>
void initialize(const M& module, std::uint64_t seed, const Rule& rule) {
  std::uint64_t index = 0;
  for (const auto& [name, x] : parameter_list(module)) {
    fill_with(x, rule(std::string_view(name), x.spec()), detail::stream_seed(seed, index++));
  }
}

/// Fills the tensors with two or more dimensions alike; the others, biases and the weights of
/// norms, keep what `make` has put there.
template <class M>
void initialize(const M& module, std::uint64_t seed, const distribution& weights) {
  initialize(module, seed, [&](std::string_view, const tensor_spec& s) {
    return s.rank >= 2 ? weights : init::keep();
  });
}

}  // namespace ashlar::nn

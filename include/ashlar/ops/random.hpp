// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/random.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Random numbers: element `i` is a function of (seed, offset, i) alone, on every chip.
///
/// `offset` counts Philox blocks of the seed's sequence: `random_blocks<T>(size)` are used up.
namespace ashlar {

namespace ops {

namespace detail {
/// `self` gives geometry only.
struct random_base {
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool elementwise = true;
  static constexpr tensor_spec meta(const tensor_spec& self, std::uint64_t, std::uint64_t, double,
                                    double) {
    return contiguous_like(self, self.type);
  }
};
}  // namespace detail

/// Uniform from `low` up to `high`.
struct uniform : detail::random_base {
  static constexpr std::string_view name = "uniform";
};
/// Normal, of a mean and a standard deviation.
struct normal : detail::random_base {
  static constexpr std::string_view name = "normal";
};

}  // namespace ops

template <>
struct kernel<ops::uniform, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T>, std::uint64_t seed,
                   std::uint64_t offset, double low, double high) {
    chip::host_kernels::random_uniform(out, seed, offset, low, high);
  }
};
template <>
struct kernel<ops::normal, keys::backend<chip::host>> {
  template <Floating T>
  static void impl(context<chip::host>&, view<T> out, view<const T>, std::uint64_t seed,
                   std::uint64_t offset, double center, double deviation) {
    chip::host_kernels::random_normal(out, seed, offset, center, deviation);
  }
};

using chip::host_kernels::random_blocks;

/// `f(x, seed, offset = 0, a = 0, b = 1)`; `a` and `b` are the bounds, or mean and standard
/// deviation.
template <class Op>
struct random_function : spelled_function<random_function<Op>> {
  template <std::integral Seed, std::integral Offset = std::uint64_t>
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, Seed seed,
                              Offset offset = 0, double a = 0.0, double b = 1.0) {
    return to(op_function<Op>{}, x, static_cast<std::uint64_t>(seed),
              static_cast<std::uint64_t>(offset), a, b);
  }
};
inline constexpr random_function<ops::uniform> uniform;
inline constexpr random_function<ops::normal> normal;

/// Uniform numbers in [0, 1).
template <FloatingTensor X>
[[nodiscard]] X rand(const shape& extents, std::uint64_t seed, std::uint64_t offset = 0) {
  X x = empty<X>(extents);
  uniform.in_place(x, seed, offset);
  return x;
}
/// Standard normal numbers.
template <FloatingTensor X>
[[nodiscard]] X randn(const shape& extents, std::uint64_t seed, std::uint64_t offset = 0) {
  X x = empty<X>(extents);
  normal.in_place(x, seed, offset);
  return x;
}

}  // namespace ashlar

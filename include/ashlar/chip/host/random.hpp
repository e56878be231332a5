// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <type_traits>

#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/core/view.hpp"

/// Random fills: element `i`, in row-major order, is a function of (seed, offset, i) alone.
namespace ashlar::chip::host_kernels {

namespace detail {

/// Numbers that one Philox block gives: a float takes one word, a double two.
template <Scalar T>
inline constexpr int per_block = std::same_as<T, double> ? 2 : 4;

/// In [0, 1), with as many bits as the type of the sums holds.
template <Scalar T>
std::array<double, per_block<T>> uniform_numbers(const std::array<std::uint32_t, 4>& words) {
  std::array<double, per_block<T>> u;
  for (std::size_t k = 0; k < u.size(); ++k) {
    if constexpr (std::same_as<T, double>) {
      const std::uint64_t bits =
          (static_cast<std::uint64_t>(words[2 * k + 1]) << 32) | words[2 * k];
      u[k] = static_cast<double>(bits >> 11) * 0x1p-53;
    } else {
      // 16-bit formats keep fewer bits still, so that nothing rounds up to 1.
      constexpr int bits = std::same_as<T, float> ? 24 : std::same_as<T, float16> ? 11 : 8;
      u[k] = static_cast<double>(words[k] >> (32 - bits)) / static_cast<double>(1u << bits);
    }
  }
  return u;
}

/// Standard normal numbers by the Box-Muller transform, computed in double.
template <Scalar T>
std::array<double, per_block<T>> normal_numbers(const std::array<std::uint32_t, 4>& words) {
  std::array<double, per_block<T>> u;
  if constexpr (std::same_as<T, double>) {
    u = uniform_numbers<double>(words);
    u[0] = 1.0 - u[0];  // (0, 1], where the logarithm exists
  } else {
    for (std::size_t k = 0; k < 4; ++k) {
      u[k] = (static_cast<double>(words[k]) + (k % 2 == 0 ? 1.0 : 0.0)) * 0x1p-32;
    }
  }
  for (std::size_t k = 0; k < u.size(); k += 2) {
    const double radius = std::sqrt(-2.0 * std::log(u[k]));
    const double angle = 2.0 * std::numbers::pi * u[k + 1];
    u[k] = radius * std::cos(angle);
    u[k + 1] = radius * std::sin(angle);
  }
  return u;
}

template <Scalar T, class Numbers>
void random_fill(view<T> out, std::uint64_t seed, std::uint64_t offset, std::int64_t cost,
                 const Numbers& numbers) {
  constexpr std::int64_t group = per_block<T>;
  const auto nest = elementwise_nest<1>({out.spec}, false);
  const std::int64_t step = nest.inner_stride()[0];
  const std::int64_t blocks = ceil_div(nest.size, group);
  parallel(blocks, cost * group, [&](std::int64_t begin, std::int64_t end) {
    std::array<double, per_block<T>> block{};
    std::int64_t i = begin * group;
    for_each_run(nest, i, std::min(end * group, nest.size), [&](const auto& at, std::int64_t n) {
      for (std::int64_t k = 0; k < n; ++k, ++i) {
        if (i % group == 0) {
          block = numbers(philox_block(seed, offset + static_cast<std::uint64_t>(i / group)));
        }
        out.data[at[0] + k * step] = static_cast<T>(
            static_cast<compute_type<T>>(block[static_cast<std::size_t>(i % group)]));
      }
    });
  });
}

}  // namespace detail

/// Philox blocks that a fill of `elements` uses up: add it to the offset for the next fill.
template <Scalar T>
constexpr std::uint64_t random_blocks(std::int64_t elements) {
  return static_cast<std::uint64_t>(ceil_div(elements, detail::per_block<T>));
}

/// Uniform numbers from `low` up to `high`.
///
/// For 0 and 1 the result is in [0, 1); other bounds may be reached by rounding.
/// Effects: uses blocks `offset` to `offset + random_blocks<T>(out.size())` of the seed's sequence.
template <Scalar T>
  requires Floating<T>
void random_uniform(view<T> out, std::uint64_t seed, std::uint64_t offset, double low = 0.0,
                    double high = 1.0) {
  detail::random_fill(out, seed, offset, 8, [=](const std::array<std::uint32_t, 4>& words) {
    auto u = detail::uniform_numbers<T>(words);
    for (double& x : u) {
      x = low + (high - low) * x;
    }
    return u;
  });
}

/// Normal numbers; equal to the last bit on machines with the same C library.
///
/// Effects: as `random_uniform`.
template <Scalar T>
  requires Floating<T>
void random_normal(view<T> out, std::uint64_t seed, std::uint64_t offset, double mean = 0.0,
                   double deviation = 1.0) {
  detail::random_fill(out, seed, offset, 32, [=](const std::array<std::uint32_t, 4>& words) {
    auto z = detail::normal_numbers<T>(words);
    for (double& x : z) {
      x = mean + deviation * x;
    }
    return z;
  });
}

}  // namespace ashlar::chip::host_kernels

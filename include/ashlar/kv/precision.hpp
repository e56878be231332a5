// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"

/// How the keys or values of one token and head are kept in memory: `Dh` numbers in, bytes out.
namespace ashlar::kv {

/// A conversion between one head's numbers and the bytes that keep them.
///
/// `P::bytes(n)` is the size of `n` numbers; `P::write` fills exactly that much, `P::read` gives
/// the numbers back. A head's bytes depend on its own numbers alone, so that results do not depend
/// on neighbours or block sizes.
template <class P>
concept Precision = requires(std::span<const float> numbers, std::span<std::byte> bytes,
                             std::span<const std::byte> kept, std::span<float> back) {
  { P::bytes(std::size_t{}) } -> std::same_as<std::size_t>;
  P::write(numbers, bytes);
  P::read(kept, back);
};

namespace detail {
inline void require_bytes(const char* entity, std::size_t given, std::size_t needed) {
  if (given != needed) {
    throw argument_error(entity, std::to_string(given) + " bytes are given; the numbers take " +
                                     std::to_string(needed));
  }
}
}  // namespace detail

/// Each number rounded to `T`: `as<float>`, `as<float16>`, `as<bfloat16>`, `as<float8_e4m3>`.
///
/// `Thousandths` scales before the conversion and back after it, for 8-bit floats of a model whose
/// range was measured; 1000 is 1. Numbers beyond the largest of an 8-bit format become the largest.
template <class T, int Thousandths = 1000>
struct as {
  static_assert(
      Floating<T>,
      "ashlar::kv::as<T>: T must be a floating-point type; for int8_t take int8_per_head");
  static_assert(Thousandths > 0,
                "ashlar::kv::as<T, Thousandths>: the scale must be positive; 1000 is 1");

  static constexpr std::size_t bytes(std::size_t numbers) { return numbers * sizeof(T); }

  /// Throws: `argument_error` where `to` is not `bytes(numbers.size())` long.
  static void write(std::span<const float> numbers, std::span<std::byte> to) {
    detail::require_bytes("ashlar::kv::as::write", to.size(), bytes(numbers.size()));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      float x = Thousandths == 1000 ? numbers[i] : numbers[i] / scale;
      if constexpr (sizeof(T) == 1) {
        x = std::isnan(x) ? x : std::clamp(x, -largest, largest);
      }
      const T kept = static_cast<T>(x);
      std::memcpy(&to[i * sizeof(T)], &kept, sizeof(T));
    }
  }
  /// Throws: `argument_error` where `from` is not `bytes(numbers.size())` long.
  static void read(std::span<const std::byte> from, std::span<float> numbers) {
    detail::require_bytes("ashlar::kv::as::read", from.size(), bytes(numbers.size()));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      T kept;
      std::memcpy(&kept, &from[i * sizeof(T)], sizeof(T));
      const auto value = static_cast<float>(kept);
      numbers[i] = Thousandths == 1000 ? value : value * scale;
    }
  }

 private:
  static constexpr float scale = static_cast<float>(Thousandths) / 1000.0F;
  static constexpr float largest = std::is_same_v<T, float8_e4m3> ? 448.0F : 57344.0F;
};

/// A scale (float32: the largest magnitude / 127) and an 8-bit integer per number, rounded to the
/// nearest, ties to even. A head with a number that is not finite has a scale of NaN and comes back
/// as NaN.
struct int8_per_head {
  static constexpr std::size_t bytes(std::size_t numbers) { return sizeof(float) + numbers; }

  /// Throws: `argument_error` where `to` is not `bytes(numbers.size())` long.
  static void write(std::span<const float> numbers, std::span<std::byte> to) {
    detail::require_bytes("ashlar::kv::int8_per_head::write", to.size(), bytes(numbers.size()));
    float largest = 0;
    bool finite = true;
    for (const float x : numbers) {
      largest = std::max(largest, std::abs(x));
      finite = finite && std::isfinite(x);
    }
    const float scale = finite ? largest / 127.0F : std::nanf("");
    std::memcpy(to.data(), &scale, sizeof(scale));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      // A scale that underflowed can make the quotient larger than 127.
      const float q = finite && scale > 0 ? std::nearbyint(numbers[i] / scale) : 0.0F;
      to[sizeof(float) + i] =
          static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(q, -127.0F, 127.0F)));
    }
  }
  /// Throws: `argument_error` where `from` is not `bytes(numbers.size())` long.
  static void read(std::span<const std::byte> from, std::span<float> numbers) {
    detail::require_bytes("ashlar::kv::int8_per_head::read", from.size(), bytes(numbers.size()));
    float scale = 0;
    std::memcpy(&scale, from.data(), sizeof(scale));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = scale * static_cast<float>(static_cast<std::int8_t>(from[sizeof(float) + i]));
    }
  }
};

}  // namespace ashlar::kv

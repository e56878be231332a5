// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::chip::npu_isa::detail {

/// Elements that pass through the unit's registers at once; no effect on results.
inline constexpr int vector_chunk = 16 * simd::lanes;

template <class T>
using chunk = std::array<T, vector_chunk>;

template <class T>
T read_one(const std::byte* p, element e) {
  if constexpr (std::is_same_v<T, double>) {
    return read_as<double>(p);
  } else if constexpr (std::is_same_v<T, float>) {
    return read_float(p, e);
  } else {
    return read_integer(p, e);
  }
}
template <class T>
void write_one(std::byte* p, element e, T v) {
  if constexpr (std::is_same_v<T, double>) {
    write_as(p, v);
  } else if constexpr (std::is_same_v<T, float>) {
    write_float(p, e, v);
  } else {
    write_integer(p, e, v);
  }
}

/// `n` elements of type `S` that lie `step` bytes apart. What type they have is asked once for all.
template <class S, class T>
void read_each(const std::byte* p, std::int64_t step, std::int64_t n, T* out) {
  for (std::int64_t k = 0; k < n; ++k) {
    S v;
    std::memcpy(&v, p + k * step, sizeof(S));
    out[k] = static_cast<T>(v);
  }
}
template <class S, class T>
void write_each(std::byte* p, std::int64_t step, std::int64_t n, const T* in) {
  for (std::int64_t k = 0; k < n; ++k) {
    const S v = static_cast<S>(in[k]);
    std::memcpy(p + k * step, &v, sizeof(S));
  }
}

/// `n` elements of row `i` from column `j` on.
template <class T>
void read_run(const scratchpad& pad, const resolved_operand& o, std::int64_t i, std::int64_t j,
              std::int64_t n, T* out) {
  if (n == 0) {  // an empty box may be anywhere
    return;
  }
  if (!o.scratch) {
    T v{};
    if constexpr (std::is_same_v<T, double>) {
      v = std::bit_cast<double>(o.scalar);
    } else if constexpr (std::is_same_v<T, float>) {
      v = std::bit_cast<float>(static_cast<std::uint32_t>(o.scalar));
    } else {
      std::array<std::byte, 8> low{};  // a register has more bits than the type
      write_integer(low.data(), o.type, static_cast<std::int64_t>(o.scalar));
      v = read_integer(low.data(), o.type);
    }
    std::fill_n(out, n, v);
    return;
  }
  const std::byte* p = pad.at(o.base + i * o.row_step + j * o.col_step);
  if (std::is_same_v<T, float> && o.type == element::f32 && o.col_step == sizeof(float)) {
    std::memcpy(out, p, static_cast<std::size_t>(n) * sizeof(float));
  } else if (o.col_step == 0) {
    std::fill_n(out, n, read_one<T>(p, o.type));
  } else if constexpr (std::is_same_v<T, double>) {
    read_each<double>(p, o.col_step, n, out);
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    switch (o.type) {
      case element::i8:
        return read_each<std::int8_t>(p, o.col_step, n, out);
      case element::i32:
        return read_each<std::int32_t>(p, o.col_step, n, out);
      case element::i64:
        return read_each<std::int64_t>(p, o.col_step, n, out);
      default:
        return read_each<std::uint8_t>(p, o.col_step, n, out);
    }
  } else if (o.type == element::f32) {
    read_each<float>(p, o.col_step, n, out);
  } else {
    for (std::int64_t k = 0; k < n; ++k) {
      out[k] = read_one<T>(p + k * o.col_step, o.type);
    }
  }
}
template <class T>
void write_run(scratchpad& pad, const resolved_operand& o, std::int64_t i, std::int64_t j,
               std::int64_t n, const T* in) {
  if (n == 0) {
    return;
  }
  std::byte* p = pad.at(o.base + i * o.row_step + j * o.col_step);
  if (std::is_same_v<T, float> && o.type == element::f32 && o.col_step == sizeof(float)) {
    std::memcpy(p, in, static_cast<std::size_t>(n) * sizeof(float));
  } else if constexpr (std::is_same_v<T, double>) {
    write_each<double>(p, o.col_step, n, in);
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    switch (o.type) {
      case element::boolean:
        for (std::int64_t k = 0; k < n; ++k) {
          p[k * o.col_step] = static_cast<std::byte>(in[k] != 0 ? 1 : 0);
        }
        return;
      case element::i32:
        return write_each<std::int32_t>(p, o.col_step, n, in);
      case element::i64:
        return write_each<std::int64_t>(p, o.col_step, n, in);
      default:  // the low bits
        return write_each<std::uint8_t>(p, o.col_step, n, in);
    }
  } else if (o.type == element::f32) {
    write_each<float>(p, o.col_step, n, in);
  } else {
    for (std::int64_t k = 0; k < n; ++k) {
      write_one<T>(p + k * o.col_step, o.type, in[k]);
    }
  }
}

}  // namespace ashlar::chip::npu_isa::detail

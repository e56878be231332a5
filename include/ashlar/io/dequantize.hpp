// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/io/entry.hpp"

namespace ashlar::io {

namespace detail {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

inline std::uint32_t u8(std::byte b) { return std::to_integer<std::uint32_t>(b); }

template <class T>
void widen(std::span<const std::byte> in, float* out) {
  for (std::size_t i = 0; i < in.size() / sizeof(T); ++i) {
    out[i] = static_cast<float>(load<T>(in.data() + i * sizeof(T)));
  }
}

// {f16 d; i8 q[32]}: x = d * q
inline void block_q8_0(const std::byte* in, float* out) {
  const float d = load<float16>(in);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(load<std::int8_t>(in + 2 + i));
  }
}

// {f16 d; u8 q[16]}: low nibbles are elements 0..15, high nibbles 16..31; x = d * (q - 8)
inline void block_q4_0(const std::byte* in, float* out) {
  const float d = load<float16>(in);
  for (int i = 0; i < 16; ++i) {
    const auto q = static_cast<int>(u8(in[2 + i]));
    out[i] = d * static_cast<float>((q & 15) - 8);
    out[i + 16] = d * static_cast<float>((q >> 4) - 8);
  }
}

// {f16 d, m; u8 scales[12]; u8 q[128]}: eight groups of 32, x = (d * scale) * q - m * minimum.
// Each 32 bytes of q hold group 2g in their low nibbles and group 2g + 1 in their high ones.
inline void block_q4_k(const std::byte* in, float* out) {
  const float d = load<float16>(in);
  const float m = load<float16>(in + 2);
  const std::byte* const s = in + 4;
  const std::byte* const q = in + 16;
  for (int group = 0; group < 8; ++group) {
    std::uint32_t scale = 0;
    std::uint32_t minimum = 0;
    if (group < 4) {
      scale = u8(s[group]) & 63u;
      minimum = u8(s[group + 4]) & 63u;
    } else {  // four low bits are in the last third, two high bits above those of group - 4
      scale = (u8(s[group + 4]) & 15u) | (u8(s[group - 4]) >> 6) << 4;
      minimum = (u8(s[group + 4]) >> 4) | (u8(s[group]) >> 6) << 4;
    }
    const float step = d * static_cast<float>(scale);
    const float low = m * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) {
      const std::uint32_t both = u8(q[group / 2 * 32 + i]);
      const std::uint32_t nibble = group % 2 == 0 ? both & 15u : both >> 4;
      out[group * 32 + i] = step * static_cast<float>(nibble) - low;
    }
  }
}

// {u8 low[128]; u8 high[64]; i8 scales[16]; f16 d}: sixteen groups of 16, x = d * scale * (q - 32).
// Per half of 128: element 32k + l has its low bits in nibble k / 2 of low[32 (k % 2) + l], its
// high bits at 2k of high[l].
inline void block_q6_k(const std::byte* in, float* out) {
  const float d = load<float16>(in + 208);
  for (int half = 0; half < 2; ++half) {
    const std::byte* const low = in + 64 * half;
    const std::byte* const high = in + 128 + 32 * half;
    const std::byte* const scale = in + 192 + 8 * half;
    for (int k = 0; k < 4; ++k) {
      for (int l = 0; l < 32; ++l) {
        const std::uint32_t nibble = (u8(low[32 * (k % 2) + l]) >> (k / 2 * 4)) & 15u;
        const std::uint32_t top = (u8(high[l]) >> (2 * k)) & 3u;
        const int q = static_cast<int>(nibble | top << 4) - 32;
        const auto s = static_cast<float>(load<std::int8_t>(scale + 2 * k + l / 16));
        out[128 * half + 32 * k + l] = d * s * static_cast<float>(q);
      }
    }
  }
}

template <class Block>
void each_block(const tensor_entry& entry, float* out, Block block) {
  const block_layout layout = layout_of(entry.format);
  for (std::size_t at = 0; at < entry.bytes.size(); at += static_cast<std::size_t>(layout.bytes)) {
    block(entry.bytes.data() + at, out);
    out += layout.elements;
  }
}

}  // namespace detail

/// Converts every element to `float`, whatever the format.
///
/// Requires: `entry` came from a reader: its bytes are what its extents say.
/// Throws:   `argument_error` where `out` has another number of elements.
/// Cost:     one pass; float64 and the integers round.
/// Source:   block formats of GGML.
inline void dequantize(const tensor_entry& entry, std::span<float> out) {
  if (static_cast<std::int64_t>(out.size()) != entry.size()) {
    throw argument_error("ashlar::io::dequantize",
                         "'" + entry.name + "' has " + std::to_string(entry.size()) +
                             " elements, the destination " + std::to_string(out.size()));
  }
  switch (entry.format) {
    case storage_format::boolean:
    case storage_format::uint8:
      return detail::widen<std::uint8_t>(entry.bytes, out.data());
    case storage_format::int8:
      return detail::widen<std::int8_t>(entry.bytes, out.data());
    case storage_format::int32:
      return detail::widen<std::int32_t>(entry.bytes, out.data());
    case storage_format::int64:
      return detail::widen<std::int64_t>(entry.bytes, out.data());
    case storage_format::float8_e4m3:
      return detail::widen<float8_e4m3>(entry.bytes, out.data());
    case storage_format::float8_e5m2:
      return detail::widen<float8_e5m2>(entry.bytes, out.data());
    case storage_format::float16:
      return detail::widen<float16>(entry.bytes, out.data());
    case storage_format::bfloat16:
      return detail::widen<bfloat16>(entry.bytes, out.data());
    case storage_format::float32:
      if (!out.empty()) {
        std::memcpy(out.data(), entry.bytes.data(), entry.bytes.size());
      }
      return;
    case storage_format::float64:
      return detail::widen<double>(entry.bytes, out.data());
    case storage_format::q8_0:
      return detail::each_block(entry, out.data(), detail::block_q8_0);
    case storage_format::q4_0:
      return detail::each_block(entry, out.data(), detail::block_q4_0);
    case storage_format::q4_k:
      return detail::each_block(entry, out.data(), detail::block_q4_k);
    case storage_format::q6_k:
      return detail::each_block(entry, out.data(), detail::block_q6_k);
  }
}

/// Packs floats as Q8_0: per 32, the largest magnitude becomes 127.
///
/// Requires: `in.size()` is a multiple of 32.
/// Throws:   `argument_error` where that is not so or a weight is not finite.
inline std::vector<std::byte> quantize_q8_0(std::span<const float> in) {
  if (in.size() % 32 != 0) {
    throw argument_error("ashlar::io::quantize_q8_0",
                         std::to_string(in.size()) + " weights; blocks hold 32");
  }
  std::vector<std::byte> out(in.size() / 32 * 34);
  for (std::size_t b = 0; b < in.size() / 32; ++b) {
    float largest = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      if (!std::isfinite(in[b * 32 + i])) {
        throw argument_error("ashlar::io::quantize_q8_0",
                             "weight " + std::to_string(b * 32 + i) + " is not finite");
      }
      largest = std::max(largest, std::abs(in[b * 32 + i]));
    }
    const float step = largest / 127;
    const float inverse = step < 0x1p-126F ? 0.0F : 1 / step;  // subnormal steps would overflow
    const float16 d(step);
    std::memcpy(&out[b * 34], &d, 2);
    for (std::size_t i = 0; i < 32; ++i) {
      const float q = std::round(in[b * 32 + i] * inverse);
      out[b * 34 + 2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(q));
    }
  }
  return out;
}

}  // namespace ashlar::io

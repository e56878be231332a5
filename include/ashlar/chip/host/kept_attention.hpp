// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "ashlar/chip/host/paged_attention.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/simd/reg.hpp"

namespace ashlar::chip::host_kernels {

/// Keys or values of all tokens as bytes, of which only `kept_attention`'s `read` knows the
/// meaning: (blocks, Hkv, block_tokens, head_bytes).
struct kept_cache {
  std::span<const std::byte> keys, values;
  std::int64_t blocks, kv_heads, dim, block_tokens;
  std::int64_t head_bytes;  ///< what one token's `Dh` numbers take

  /// Where a token's head begins.
  [[nodiscard]] constexpr std::size_t at(std::int64_t block, std::int64_t head,
                                         std::int64_t token) const {
    return static_cast<std::size_t>(((block * kv_heads + head) * block_tokens + token) *
                                    head_bytes);
  }
};

/// `paged_attention` over a cache of narrow numbers, read as it is: one head of one sequence after
/// the other is widened in the working memory of the thread that needs it, 16 tokens at a time, and
/// nothing else ever is.
///
/// `read(bytes, numbers)` turns `head_bytes` bytes into `Dh` floats, as a `kv::Precision` does.
/// The bits are those of `paged_attention` over the same numbers widened before.
///
/// Shapes: as in `paged_attention`, the cache as in `kept_cache`.
/// Requires: `out` does not overlap an input; `read` may be called by several threads.
/// Throws: `shape_error`; `argument_error` naming the row, or where the cache has not the bytes
///         that its sizes ask for; `std::bad_alloc`; what `read` throws, `out` is unspecified then.
/// Cost:   O(N H tokens Dh); reads `2 head_bytes` per token and head from memory.
template <std::floating_point T, std::invocable<std::span<const std::byte>, std::span<float>> Read>
void kept_attention(view<T> out, std::type_identity_t<view<const T>> q, const kept_cache& cache,
                    view<const std::int32_t> block_tables, view<const std::int32_t> sequence,
                    view<const std::int32_t> position, double scale, const Read& read) {
  if (cache.block_tokens < 1 || cache.keys.size() != cache.at(cache.blocks, 0, 0) ||
      cache.values.size() != cache.keys.size()) {
    throw argument_error("ashlar::kept_attention",
                         "the cache must have blocks x Hkv x block_tokens x head_bytes bytes of "
                         "keys, and as many of values; block_tokens at least 1");
  }
  const std::int64_t table_step = block_tables.rank() == 2 ? block_tables.stride(1) : 0;
  const auto dim = static_cast<std::size_t>(cache.dim);
  const auto bytes = static_cast<std::size_t>(cache.head_bytes);
  struct tile_scratch {};

  const auto gather = [&](const detail::paged_run& run, std::int64_t h,
                          const detail::paged_panels<T>& to) {
    constexpr std::int64_t width = detail::panel_tokens;
    float* numbers = nullptr;  // one head's
    T* tile = nullptr;         // (token, d)
    detail::place_in_scratch<tile_scratch>([&](detail::scratch_layout& layout) {
      numbers = layout.take<float>({cache.dim});
      tile = layout.take<T>({width, cache.dim});
    });
    // The tokens of panel `p`, as (token, d).
    const auto widen = [&](std::span<const std::byte> from, std::int64_t p, T* rows) {
      const std::int64_t count = std::min(width, run.seen - p * width);
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int64_t token = p * width + t;
        const std::int64_t block = run.blocks[token / cache.block_tokens * table_step];
        const auto kept = from.subspan(cache.at(block, h, token % cache.block_tokens), bytes);
        if constexpr (std::is_same_v<T, float>) {
          read(kept, std::span(rows + t * cache.dim, dim));
        } else {
          read(kept, std::span(numbers, dim));
          std::copy_n(numbers, cache.dim, rows + t * cache.dim);
        }
      }
      return count;
    };
    for (std::int64_t p = 0; p < to.panels; ++p) {
      const std::int64_t count = widen(cache.keys, p, tile);
      std::fill(tile + count * cache.dim, tile + width * cache.dim, T(0));
      T* const keys = to.keys + p * cache.dim * width;
      for (std::int64_t t = 0; t < width; t += simd::reg<T>::width) {
        simd::transpose_rows(tile + t * cache.dim, cache.dim, cache.dim, keys + t, width);
      }
      widen(cache.values, p, to.values + p * width * cache.dim);
    }
    return to.gathered(cache.dim);
  };
  detail::attend_in_blocks<T>(out, q, {cache.blocks, cache.kv_heads, cache.dim, cache.block_tokens},
                              block_tables, sequence, position, scale, false, gather);
}

}  // namespace ashlar::chip::host_kernels

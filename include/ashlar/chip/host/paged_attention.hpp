// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/detail/attention_panels.hpp"
#include "ashlar/chip/host/detail/attention_rows.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

namespace detail {

struct paged_scratch {};

/// Consecutive rows of one sequence; they are worked on together.
struct paged_run {
  std::int64_t begin, end;  ///< rows
  std::int64_t seen;        ///< the most tokens that one of them attends to
  const std::int32_t* blocks;
};

/// Sizes of a paged cache.
struct cache_sizes {
  std::int64_t blocks, kv_heads, dim, block_tokens;
};

/// Where the keys and values of one head go that are gathered, and where their panels begin.
template <class T>
struct paged_panels {
  std::int64_t panels = 0;
  T* keys = nullptr;    ///< (panels, Dh, 16)
  T* values = nullptr;  ///< (panels, 16, Dh)
  std::int64_t* key_offset = nullptr;
  std::int64_t* value_offset = nullptr;

  [[nodiscard]] head_panels<T> gathered(std::int64_t dim) const {
    return {keys, values, key_offset, value_offset, panel_tokens, dim};
  }
};

/// Throws: `shape_error` naming `op`.
template <class T>
cache_sizes check_cache(const char* op, view<T> keys, view<T> values) {
  if (keys.rank() != 4 || values.rank() != 4 || keys.extent(0) != values.extent(0) ||
      keys.extent(1) != values.extent(1) || keys.extent(2) != values.extent(3) ||
      keys.extent(3) != values.extent(2) || keys.extent(3) == 0) {
    throw shape_error(op, keys.shape(), values.shape(),
                      "the cache needs keys (blocks, Hkv, Dh, block_tokens) and values "
                      "(blocks, Hkv, block_tokens, Dh), block_tokens at least 1");
  }
  return {keys.extent(0), keys.extent(1), keys.extent(2), keys.extent(3)};
}

/// Cuts rows into runs of one sequence and at most `most` rows.
///
/// Returns: how many there are.
/// Throws: `argument_error` where a sequence, a position or a block does not exist.
inline std::int64_t find_runs(paged_run* runs, view<const std::int32_t> tables,
                              view<const std::int32_t> sequence, view<const std::int32_t> position,
                              const cache_sizes& cache, std::int64_t most) {
  const auto require = [](bool holds, const char* what, std::int64_t value, std::int64_t row) {
    if (!holds) {
      throw argument_error("ashlar::paged_attention", std::string(what) + " " +
                                                          std::to_string(value) + " of row " +
                                                          std::to_string(row) + " does not exist");
    }
  };
  std::int64_t count = 0;
  for (std::int64_t begin = 0, end = 0; begin < sequence.size(); begin = end) {
    const std::int64_t s = sequence(begin);
    require(s >= 0 && s < tables.extent(0), "sequence", s, begin);
    std::int64_t seen = 0;
    for (end = begin; end < sequence.size() && end - begin < most && sequence(end) == s; ++end) {
      const std::int64_t at = position(end);
      require(at >= 0 && at / cache.block_tokens < tables.extent(1), "position", at, end);
      seen = std::max(seen, at + 1);
    }
    const std::int32_t* const blocks = tables.data + s * tables.stride(0);
    for (std::int64_t i = 0; i * cache.block_tokens < seen; ++i) {
      const std::int64_t block = blocks[i * tables.stride(1)];
      require(block >= 0 && block < cache.blocks, "block", block, begin);
    }
    runs[count++] = {begin, end, seen, blocks};
  }
  return count;
}

/// Attention of a step's rows; `gather(run, h, panels)` finds keys and values of one head, the
/// first `run.seen` tokens of its sequence.
///
/// Throws: as `paged_attention`.
template <class T, class Gather>
void attend_in_blocks(view<T> out, view<const T> q, const cache_sizes& cache,
                      view<const std::int32_t> block_tables, view<const std::int32_t> sequence,
                      view<const std::int32_t> position, double scale, bool in_place,
                      const Gather& gather) {
  constexpr auto op = "paged_attention";
  if (q.rank() != 3 || !same_shape(*out.spec, *q.spec)) {
    throw shape_error(op, out.shape(), q.shape(), "queries and output are both (N, H, Dh)");
  }
  if (q.extent(2) != cache.dim ||
      (cache.kv_heads == 0 ? q.extent(1) != 0 : q.extent(1) % cache.kv_heads != 0)) {
    throw shape_error(op, q.shape(),
                      shape{cache.blocks, cache.kv_heads, cache.dim, cache.block_tokens}.span(),
                      "queries and keys must agree in Dh, and H must be a multiple of Hkv");
  }
  if (block_tables.rank() != 2) {
    throw shape_error(op, block_tables.shape(), q.shape(), "block tables are (S, blocks)");
  }
  for (const auto& x : {sequence, position}) {
    if (x.rank() != 1 || x.extent(0) != q.extent(0)) {
      throw shape_error(op, x.shape(), q.shape(), "one sequence and one position for each row");
    }
  }
  if (q.size() == 0) {
    return;
  }
  const std::int64_t group = q.extent(1) / cache.kv_heads;
  constexpr std::int64_t most_rows = 32;
  auto* const runs = static_cast<paged_run*>(
      thread_scratch<paged_scratch>(static_cast<std::size_t>(q.extent(0)) * sizeof(paged_run)));
  const std::int64_t run_count =
      find_runs(runs, block_tables, sequence, position, cache, most_rows);

  const auto item = [&](std::int64_t index) {
    // Heads outside: sequences differ in length, heads do not, so threads get equal shares.
    const paged_run& run = runs[fold(index % run_count, run_count)];
    const std::int64_t h = index / run_count;
    paged_panels<T> to{.panels = panels_for(run.seen)};
    T* work = nullptr;
    place_in_scratch<attention_scratch>([&](scratch_layout& layout) {
      to.keys = layout.take<T>({in_place ? 0 : to.panels, cache.dim, panel_tokens});
      to.values = layout.take<T>({in_place ? 0 : to.panels, panel_tokens, cache.dim});
      work = layout.take<T>({attend_scratch<T>(to.panels, cache.dim)});
      to.key_offset = layout.take<std::int64_t>({to.panels});
      to.value_offset = layout.take<std::int64_t>({to.panels});
    });
    if (!in_place) {
      fill_offsets(to.key_offset, to.panels, cache.dim * panel_tokens);
      fill_offsets(to.value_offset, to.panels, cache.dim * panel_tokens);
    }
    const head_panels<T> kv = gather(run, h, to);
    const auto rows = [&](auto x) {
      return head_rows<std::remove_pointer_t<decltype(x.data)>>{
          x.data + run.begin * x.stride(0) + h * group * x.stride(1), x.stride(0), x.stride(1),
          x.stride(2), group};
    };
    attend<T>(
        rows(out), rows(q), kv, 0, (run.end - run.begin) * group, cache.dim, static_cast<T>(scale),
        [&](std::int64_t i) { return position(run.begin + i) + 1; }, work);
  };
  std::int64_t seen = 0;
  for (std::int64_t i = 0; i < run_count; ++i) {
    seen += runs[i].seen * (runs[i].end - runs[i].begin);
  }
  const std::int64_t items = run_count * cache.kv_heads;
  for_each_item(items, attention_grain(group, ceil_div(seen, run_count), cache.dim), item);
}

}  // namespace detail

/// Attention of one serving step: rows of any sequences over a cache in blocks.
///
/// Row i attends to positions 0 ... `position[i]` of sequence `sequence[i]`, so decoding, chunks of
/// prompts and speculated tokens mix freely; rows of one sequence that stand together are cheaper.
/// Each row has the bits that `sdpa` gives with the same keys and values side by side.
///
/// Shapes: `q`, `out`: (N, H, Dh); `key_cache`: (blocks, Hkv, Dh, block_tokens), tokens along
/// lanes;
///         `value_cache`: (blocks, Hkv, block_tokens, Dh); `block_tables`: (S, most blocks of a
///         sequence), padding is not read; `sequence`, `position`: (N). The caches may be of a
///         narrower type than `T`: what is read of them is widened first.
/// Requires: `out` does not overlap an input.
/// Throws: `shape_error`, `argument_error` naming the row; `std::bad_alloc`.
/// Cost:   O(N H tokens Dh); nothing is copied where the caches are of `T`, `block_tokens` is a
///         multiple of 16 and their last axes are dense.
/// Source: PagedAttention (Kwon et al., 2023).
template <std::floating_point T, class Kept = T>
void paged_attention(view<T> out, std::type_identity_t<view<const T>> q,
                     std::type_identity_t<view<const Kept>> key_cache,
                     std::type_identity_t<view<const Kept>> value_cache,
                     view<const std::int32_t> block_tables, view<const std::int32_t> sequence,
                     view<const std::int32_t> position, double scale) {
  const detail::cache_sizes cache = detail::check_cache("paged_attention", key_cache, value_cache);
  const bool in_place = std::is_same_v<T, Kept> && cache.block_tokens % detail::panel_tokens == 0 &&
                        key_cache.stride(3) == 1 && (value_cache.stride(3) == 1 || cache.dim == 1);
  const std::int64_t table_step = block_tables.rank() == 2 ? block_tables.stride(1) : 0;

  const auto gather = [&](const detail::paged_run& run, std::int64_t h,
                          const detail::paged_panels<T>& to) -> detail::head_panels<T> {
    const Kept* const key_head = key_cache.data + h * key_cache.stride(1);
    const Kept* const value_head = value_cache.data + h * value_cache.stride(1);
    if (in_place) {
      const std::int64_t per_block = cache.block_tokens / detail::panel_tokens;
      for (std::int64_t p = 0, i = 0; p < to.panels; ++i) {
        const std::int64_t block = run.blocks[i * table_step];
        for (std::int64_t part = 0; part < per_block && p < to.panels; ++part, ++p) {
          const std::int64_t token = part * detail::panel_tokens;
          to.key_offset[p] = block * key_cache.stride(0) + token;
          to.value_offset[p] = block * value_cache.stride(0) + token * value_cache.stride(2);
        }
      }
      if constexpr (std::is_same_v<T, Kept>) {
        return {key_head,        value_head,          to.key_offset,
                to.value_offset, key_cache.stride(2), value_cache.stride(2)};
      }
    }
    std::fill_n(to.keys, to.panels * cache.dim * detail::panel_tokens, T(0));
    for (std::int64_t j = 0; j < run.seen; ++j) {
      const std::int64_t block = run.blocks[j / cache.block_tokens * table_step];
      const std::int64_t token = j % cache.block_tokens;
      const Kept* const key = key_head + block * key_cache.stride(0) + token * key_cache.stride(3);
      const Kept* const value =
          value_head + block * value_cache.stride(0) + token * value_cache.stride(2);
      T* const key_to = to.keys + j / detail::panel_tokens * cache.dim * detail::panel_tokens +
                        j % detail::panel_tokens;
      for (std::int64_t d = 0; d < cache.dim; ++d) {
        key_to[d * detail::panel_tokens] = static_cast<T>(key[d * key_cache.stride(2)]);
        to.values[j * cache.dim + d] = static_cast<T>(value[d * value_cache.stride(3)]);
      }
    }
    return to.gathered(cache.dim);
  };
  detail::attend_in_blocks<T>(out, q, cache, block_tables, sequence, position, scale, in_place,
                              gather);
}

/// Stores the keys and values of new tokens in a paged cache.
///
/// Shapes: `k`, `v`: (N, Hkv, Dh); the caches as in `paged_attention`; `slots`: (N), where slot
///         `block * block_tokens + offset` is a token's place.
/// Throws: `shape_error`, `argument_error` where a slot does not exist; the caches are unchanged.
template <Floating T>
void cache_write(view<T> key_cache, std::type_identity_t<view<T>> value_cache,
                 std::type_identity_t<view<const T>> k, std::type_identity_t<view<const T>> v,
                 view<const std::int64_t> slots) {
  constexpr auto op = "cache_write";
  const detail::cache_sizes cache = detail::check_cache<T>(op, key_cache, value_cache);
  for (const auto& x : {k, v}) {
    if (x.rank() != 3 || x.extent(1) != cache.kv_heads || x.extent(2) != cache.dim) {
      throw shape_error(op, x.shape(), value_cache.shape(), "new tokens are (N, Hkv, Dh)");
    }
  }
  if (slots.rank() != 1 || slots.extent(0) != k.extent(0) || v.extent(0) != k.extent(0)) {
    throw shape_error(op, slots.shape(), k.shape(), "one slot, key and value for each token");
  }
  for (std::int64_t i = 0; i < slots.size(); ++i) {
    if (slots(i) < 0 || slots(i) / cache.block_tokens >= cache.blocks) {
      throw argument_error("ashlar::cache_write", "slot " + std::to_string(slots(i)) + " of row " +
                                                      std::to_string(i) + "; the cache has " +
                                                      std::to_string(cache.blocks) + " blocks of " +
                                                      std::to_string(cache.block_tokens));
    }
  }
  const auto write_head = [&](std::int64_t h) {
    for (std::int64_t i = 0; i < slots.size(); ++i) {
      const std::int64_t block = slots(i) / cache.block_tokens;
      const std::int64_t token = slots(i) % cache.block_tokens;
      T* const key_to = key_cache.data + block * key_cache.stride(0) + h * key_cache.stride(1) +
                        token * key_cache.stride(3);
      T* const value_to = value_cache.data + block * value_cache.stride(0) +
                          h * value_cache.stride(1) + token * value_cache.stride(2);
      const T* const key = k.data + i * k.stride(0) + h * k.stride(1);
      const T* const value = v.data + i * v.stride(0) + h * v.stride(1);
      for (std::int64_t d = 0; d < cache.dim; ++d) {
        key_to[d * key_cache.stride(2)] = key[d * k.stride(2)];
        value_to[d * value_cache.stride(3)] = value[d * v.stride(2)];
      }
    }
  };
  const std::int64_t bytes_per_head = 1 + slots.size() * cache.dim;
  detail::for_each_item(cache.kv_heads, 1 + 65536 / bytes_per_head, write_head);
}

}  // namespace ashlar::chip::host_kernels

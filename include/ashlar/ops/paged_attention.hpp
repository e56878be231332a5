// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/paged_attention.hpp"
#include "ashlar/chip/host/widened.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/meta_kernels.hpp"

/// Attention over a key-value cache in blocks, and how tokens get there.
///
/// Shapes: `key_cache`: (blocks, Hkv, Dh, block_tokens); `value_cache`: (blocks, Hkv, block_tokens,
///         Dh). Slot `block * block_tokens + offset` is a token's place.
namespace ashlar {

namespace ops {

namespace detail {
constexpr void require_cache(std::string_view op, const tensor_spec& keys,
                             const tensor_spec& values) {
  if (keys.rank != 4 || values.rank != 4 || keys[0] != values[0] || keys[1] != values[1] ||
      keys[2] != values[3] || keys[3] != values[2] || keys[3] == 0) {
    throw shape_error(op, keys.shape(), values.shape(),
                      "the cache needs keys (blocks, Hkv, Dh, block_tokens) and values "
                      "(blocks, Hkv, block_tokens, Dh), block_tokens at least 1");
  }
}
}  // namespace detail

/// Row i attends to positions 0 ... `position[i]` of sequence `sequence[i]`.
///
/// Shapes: `query`, the result: (N, H, Dh); `block_tables`: (S, blocks); `sequence`, `position`:
///         (N); the last three int32.
/// Throws: `shape_error`; `argument_error` naming a row whose sequence, position or block is none.
struct paged_attention {
  static constexpr std::string_view name = "paged_attention";
  static constexpr std::array arguments{argument{"query"},          argument{"key_cache"},
                                        argument{"value_cache"},    argument{"block_tables", true},
                                        argument{"sequence", true}, argument{"position", true}};
  static constexpr tensor_spec meta(const tensor_spec& q, const tensor_spec& key_cache,
                                    const tensor_spec& value_cache, const tensor_spec& block_tables,
                                    const tensor_spec& sequence, const tensor_spec& position,
                                    double) {
    detail::require_cache(name, key_cache, value_cache);
    if (q.rank != 3 || q[2] != key_cache[2] ||
        (key_cache[1] == 0 ? q[1] != 0 : q[1] % key_cache[1] != 0)) {
      throw shape_error(name, q.shape(), key_cache.shape(),
                        "queries are (N, H, Dh) with the keys' Dh and a multiple of their Hkv");
    }
    if (block_tables.rank != 2) {
      throw shape_error(name, block_tables.shape(), q.shape(), "block tables are (S, blocks)");
    }
    for (const tensor_spec* rows : {&sequence, &position}) {
      if (rows->rank != 1 || (*rows)[0] != q[0]) {
        throw shape_error(name, rows->shape(), q.shape(),
                          "one sequence and one position for each row");
      }
    }
    return contiguous_like(q, promote(q.type, promote(key_cache.type, value_cache.type)));
  }
};

/// `cache_write(key_cache, value_cache, keys, values, slots)`: writes tokens to their slots.
struct cache_write {
  static constexpr std::string_view name = "cache_write";
  using result = void;
};

}  // namespace ops

template <>
struct kernel<ops::paged_attention, keys::backend<chip::host>> {
  template <std::floating_point T>
  static void impl(context<chip::host>&, view<T> out, view<const T> q, view<const T> key_cache,
                   view<const T> value_cache, view<const std::int32_t> block_tables,
                   view<const std::int32_t> sequence, view<const std::int32_t> position,
                   double factor) {
    chip::host_kernels::paged_attention<T>(out, q, key_cache, value_cache, block_tables, sequence,
                                           position, factor);
  }
  template <NarrowFloating T>
  static void impl(context<chip::host>&, view<T> out, view<const T> q, view<const T> key_cache,
                   view<const T> value_cache, view<const std::int32_t> block_tables,
                   view<const std::int32_t> sequence, view<const std::int32_t> position,
                   double factor) {
    using wide = chip::host_kernels::widened;
    wide y(*out.spec);
    chip::host_kernels::paged_attention<float, T>(y.result(), wide(q).elements(), key_cache,
                                                  value_cache, block_tables, sequence, position,
                                                  factor);
    chip::host_kernels::copy(out, y.elements());
  }
};
template <>
struct kernel<ops::cache_write, keys::backend<chip::host>> {
  static void impl(context<chip::host>&, const auto& key_cache, const auto& value_cache,
                   const auto& k, const auto& v, const auto& slots) {
    chip::host_kernels::cache_write(key_cache.view(), value_cache.view(), view_of(k), view_of(v),
                                    view_of(slots));
    ++key_cache.body()->root().version;
    ++value_cache.body()->root().version;
  }

 private:
  template <class X>
  static view<const typename X::value_type> view_of(const X& x) {
    return x.view();
  }
};
template <>
struct kernel<ops::cache_write, keys::backend<chip::meta>> {
  static void impl(auto&&...) {}
};

/// `paged_attention(q, key_cache, value_cache, block_tables, sequence, position, scale)`.
inline constexpr op_function<ops::paged_attention> paged_attention;

/// `cache_write(key_cache, value_cache, k, v, slots)`.
///
/// Shapes:  `k`, `v`: (N, Hkv, Dh); `slots`: (N), int64.
/// Effects: writes both caches, outside the tape.
/// Throws:  `shape_error`; `argument_error` where a slot does not exist: nothing is written then.
inline constexpr struct cache_write_function {
  void operator()(const Tensor auto& key_cache, const Tensor auto& value_cache,
                  const Tensor auto& k, const Tensor auto& v, const Tensor auto& slots) const {
    ops::detail::require_defined("cache_write", key_cache, value_cache, k, v, slots);
    op_function<ops::cache_write>{}(key_cache, value_cache, k, v, slots);
  }
} cache_write;

}  // namespace ashlar

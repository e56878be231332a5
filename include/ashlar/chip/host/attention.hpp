// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/detail/attention_panels.hpp"
#include "ashlar/chip/host/detail/attention_rows.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

namespace detail {

/// Sizes of one attention problem.
struct attention_sizes {
  std::int64_t batch, heads, kv_heads, queries, keys, dim;
  bool causal;

  [[nodiscard]] std::int64_t group() const { return heads / kv_heads; }
  [[nodiscard]] std::int64_t rows() const { return queries * group(); }
  /// Keys that query `i` sees; at most 0 where it sees none.
  [[nodiscard]] std::int64_t limit(std::int64_t i) const {
    return causal ? std::min(keys, i + keys - queries + 1) : keys;
  }
  [[nodiscard]] bool empty() const { return batch == 0 || heads == 0 || queries == 0 || dim == 0; }
};

/// Throws: `shape_error` naming `op`.
template <class T>
attention_sizes check_attention(const char* op, view<const T> out, view<const T> q, view<const T> k,
                                view<const T> v, bool causal) {
  if (q.rank() != 4 || k.rank() != 4) {
    throw shape_error(op, q.shape(), k.shape(), "queries and keys need four axes (B, H, T, Dh)");
  }
  if (!same_shape(*out.spec, *q.spec)) {
    throw shape_error(op, out.shape(), q.shape(), "the output must have the shape of the queries");
  }
  if (!same_shape(*k.spec, *v.spec)) {
    throw shape_error(op, k.shape(), v.shape(), "keys and values must have one shape");
  }
  if (k.extent(0) != q.extent(0) || k.extent(3) != q.extent(3)) {
    throw shape_error(op, q.shape(), k.shape(), "queries and keys must agree in B and Dh");
  }
  if (k.extent(1) == 0 ? q.extent(1) != 0 : q.extent(1) % k.extent(1) != 0) {
    throw shape_error(op, q.shape(), k.shape(),
                      "the number of query heads must be a multiple of that of key heads");
  }
  return {q.extent(0), q.extent(1), k.extent(1), q.extent(2), k.extent(2), q.extent(3), causal};
}

/// The rows of `x` (B, H, T, Dh) that belong to key-value head `h` of batch entry `b`.
template <class T>
head_rows<T> rows_of(view<T> x, std::int64_t b, std::int64_t h, std::int64_t group) {
  return {x.data + b * x.stride(0) + h * group * x.stride(1), x.stride(2), x.stride(1), x.stride(3),
          group};
}

template <class T>
head_matrix<T> head_of(view<T> x, std::int64_t b, std::int64_t h) {
  return {x.data + b * x.stride(0) + h * x.stride(1), x.stride(2), x.stride(3)};
}

struct attention_scratch {};

/// How many items of `rows` rows with `keys` keys are worth a thread's start.
constexpr std::int64_t attention_grain(std::int64_t rows, std::int64_t keys, std::int64_t dim) {
  constexpr double vectors_per_thread = 65536;  // some 20 us
  const double vectors = static_cast<double>(rows) * static_cast<double>(keys) *
                         static_cast<double>(2 * dim + 20) / simd::lanes;
  return 1 + static_cast<std::int64_t>(vectors_per_thread / (vectors + 1));
}

template <class F>
void for_each_item(std::int64_t items, std::int64_t grain, const F& item) {
  parallel_for(items, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      item(i);
    }
  });
}

/// Item `i` of `items`: first, last, second, last but one, ..., so that neighbours together cost
/// the same although later queries see more keys.
constexpr std::int64_t fold(std::int64_t i, std::int64_t items) {
  return i % 2 == 0 ? i / 2 : items - 1 - i / 2;
}

}  // namespace detail

/// Scaled dot-product attention, `out = softmax(scale * q k^T) v`.
///
/// With `causal`, query i sees the keys j <= i + (Tk - Tq): queries are the last Tq of Tk tokens. A
/// query that sees no key gives zeros. A row has the same bits alone, in a batch, in a longer
/// prompt or from a paged cache.
///
/// Shapes: `q`, `out`: (B, H, Tq, Dh); `k`, `v`: (B, Hkv, Tk, Dh), H a multiple of Hkv; query
///         head h reads key-value head h / (H / Hkv). Any strides; `scale` is rounded to T.
/// Requires: `out` does not overlap an input.
/// Throws: `shape_error`; `std::bad_alloc` where the working memory of a thread cannot grow.
/// Cost:   O(B H Tq Tk Dh); each thread keeps about (8 + Dh) Tk elements of working memory.
template <std::floating_point T>
void sdpa(view<T> out, std::type_identity_t<view<const T>> q, std::type_identity_t<view<const T>> k,
          std::type_identity_t<view<const T>> v, bool causal, double scale) {
  const detail::attention_sizes s = detail::check_attention<T>("sdpa", out, q, k, v, causal);
  if (s.empty()) {
    return;
  }
  const std::int64_t panels = detail::panels_for(s.keys);
  const bool copies_values = v.stride(3) != 1 && s.dim > 1;
  // Heads are shared out whole where that is fair; a smaller item packs the keys once more.
  constexpr std::int64_t least = 4 * detail::max_rows<T>;
  const std::int64_t heads = s.batch * s.kv_heads;
  const std::int64_t threads = host_threads();
  const std::int64_t chunks = heads % threads == 0 || heads >= 8 * threads
                                  ? 1
                                  : std::min<std::int64_t>(4 * threads, ceil_div(s.rows(), least));
  const std::int64_t chunk =
      ceil_div(ceil_div(s.rows(), chunks), detail::max_rows<T>) * detail::max_rows<T>;

  const auto item = [&](std::int64_t index) {
    const std::int64_t b = index / chunks / s.kv_heads;
    const std::int64_t h = index / chunks % s.kv_heads;
    const std::int64_t begin = std::min(s.rows(), detail::fold(index % chunks, chunks) * chunk);
    const std::int64_t end = std::min(s.rows(), begin + chunk);
    if (begin == end) {
      return;
    }
    T* packed = nullptr;
    T* values = nullptr;
    T* work = nullptr;
    std::int64_t* key_offset = nullptr;
    std::int64_t* value_offset = nullptr;
    detail::place_in_scratch<detail::attention_scratch>([&](detail::scratch_layout& layout) {
      packed = layout.take<T>({panels, s.dim, detail::panel_tokens});
      values = layout.take<T>({copies_values ? s.keys : 0, s.dim});
      work = layout.take<T>({detail::attend_scratch<T>(panels, s.dim)});
      key_offset = layout.take<std::int64_t>({panels});
      value_offset = layout.take<std::int64_t>({panels});
    });

    const std::int64_t seen = std::max<std::int64_t>(0, s.limit((end - 1) / s.group()));
    const auto value = detail::head_of(v, b, h);
    detail::pack_panels(packed, detail::head_of(k, b, h), seen, s.dim);
    detail::head_panels<T> kv{packed,       value.data,           key_offset,
                              value_offset, detail::panel_tokens, value.token_stride};
    if (copies_values) {
      detail::copy_head(values, s.dim, value, seen, s.dim);
      kv.values = values;
      kv.value_stride = s.dim;
    }
    detail::fill_offsets(key_offset, panels, s.dim * detail::panel_tokens);
    detail::fill_offsets(value_offset, panels, kv.value_stride * detail::panel_tokens);
    detail::attend<T>(
        detail::rows_of(out, b, h, s.group()), detail::rows_of(q, b, h, s.group()), kv, begin, end,
        s.dim, static_cast<T>(scale), [&](std::int64_t i) { return s.limit(i); }, work);
  };
  detail::for_each_item(heads * chunks, detail::attention_grain(chunk, s.keys, s.dim), item);
}

}  // namespace ashlar::chip::host_kernels

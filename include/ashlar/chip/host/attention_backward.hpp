// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/detail/attention_panels.hpp"
#include "ashlar/chip/host/detail/attention_rows.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

namespace detail {

/// Working memory for the gradients of one key-value head; rows of `*_rows` and of the sums are
/// `width` elements apart and zero from Dh on.
template <class T>
struct backward_space {
  std::int64_t panels, width;
  T *key_panels, *value_panels, *keys;
  T *dk, *dv;                   // sums, one row per token
  T *q_columns, *dout_columns;  // (Dh, R)
  T *q_rows, *dout_rows, *out_row;
  T *weights, *dscores;  // as scores: (panel, row, token)
  std::int64_t *panel_offset, *key_offset;

  backward_space(std::int64_t tokens, std::int64_t dh, bool copies_keys)
      : panels(panels_for(tokens)), width(panels_for(dh) * simd::lanes) {
    place_in_scratch<attention_scratch>(
        [&](scratch_layout& layout) { place(layout, tokens, dh, copies_keys); });
    std::fill_n(dk, panels * panel_tokens * width, T(0));
    std::fill_n(dv, panels * panel_tokens * width, T(0));
    std::fill_n(q_rows, max_rows<T> * width, T(0));
    std::fill_n(dout_rows, max_rows<T> * width, T(0));
    std::fill_n(out_row, width, T(0));
  }

 private:
  void place(scratch_layout& layout, std::int64_t tokens, std::int64_t dh, bool copies_keys) {
    key_panels = layout.take<T>({panels, dh, panel_tokens});
    value_panels = layout.take<T>({panels, dh, panel_tokens});
    keys = layout.take<T>({copies_keys ? tokens : 0, dh});
    dk = layout.take<T>({panels, panel_tokens, width});
    dv = layout.take<T>({panels, panel_tokens, width});
    q_columns = layout.take<T>({dh, max_rows<T>});
    dout_columns = layout.take<T>({dh, max_rows<T>});
    q_rows = layout.take<T>({max_rows<T>, width});
    dout_rows = layout.take<T>({max_rows<T>, width});
    out_row = layout.take<T>({width});
    weights = layout.take<T>({panels, max_rows<T>, panel_tokens});
    dscores = layout.take<T>({panels, max_rows<T>, panel_tokens});
    panel_offset = layout.take<std::int64_t>({panels});
    key_offset = layout.take<std::int64_t>({panels});
  }
};

/// `sums(j, :) += weights(0, j) * rows(0, :) + ... + weights(R - 1, j) * rows(R - 1, :)`, a chain
/// in this order, for 16 C columns and the tokens of the first `panels` panels.
template <class T, int R, int C>
void add_outer_columns(T* sums, const T* weights, const T* rows, std::int64_t width,
                       std::int64_t panels) {
  simd::vec<T> row[R][C];
  unroll<R>([&](auto r) __attribute__((always_inline)) {
    unroll<C>([&](auto c) __attribute__((always_inline)) {
      row[r][c] = simd::load(rows + r * width + c * simd::lanes);
    });
  });
  for (std::int64_t p = 0; p < panels; ++p) {
    const T* const weight = weights + p * R * panel_tokens;
    for (std::int64_t t = 0; t < panel_tokens; ++t) {
      T* const at = sums + (p * panel_tokens + t) * width;
      simd::vec<T> sum[C];
      unroll<C>([&](auto c)
                    __attribute__((always_inline)) { sum[c] = simd::load(at + c * simd::lanes); });
      unroll<R>([&](auto r) __attribute__((always_inline)) {
        const simd::vec<T> w = simd::broadcast(weight[r * panel_tokens + t]);
        unroll<C>([&](auto c) __attribute__((always_inline)) {
          sum[c] = simd::madd(w, row[r][c], sum[c]);
        });
      });
      unroll<C>([&](auto c)
                    __attribute__((always_inline)) { simd::store(at + c * simd::lanes, sum[c]); });
    }
  }
}

template <class T, int R>
void add_outer(T* sums, const T* weights, const T* rows, std::int64_t width, std::int64_t panels) {
  constexpr int columns = std::min(4, sum_columns<T, R>);
  std::int64_t d = 0;
  for (; d + columns * simd::lanes <= width; d += columns * simd::lanes) {
    add_outer_columns<T, R, columns>(sums + d, weights, rows + d, width, panels);
  }
  for (; d < width; d += simd::lanes) {
    add_outer_columns<T, R, 1>(sums + d, weights, rows + d, width, panels);
  }
}

/// From probabilities and their gradients to the gradients of the scores, in place of the latter.
///
/// Effects: zeroes both from token `n` on, up to the end of panel `panels - 1`.
template <class T, int R>
void score_gradient_row(T* dscores, T* weights, std::int64_t n, std::int64_t panels, T mean,
                        T scale) {
  constexpr std::int64_t step = R * panel_tokens;
  const simd::vec<T> zero = simd::broadcast(T(0));
  const simd::vec<T> shift = simd::broadcast(mean);
  const simd::vec<T> factor = simd::broadcast(scale);
  for (std::int64_t p = 0; p < panels; ++p) {
    const int seen =
        static_cast<int>(std::clamp<std::int64_t>(n - p * panel_tokens, 0, panel_tokens));
    if (seen == 0) {
      simd::store(weights + p * step, zero);
      simd::store(dscores + p * step, zero);
      continue;
    }
    const simd::vec<T> ds =
        (simd::load(dscores + p * step) - shift) * simd::load(weights + p * step) * factor;
    simd::store(dscores + p * step,
                seen == panel_tokens ? ds : simd::select(simd::first_lanes<T>(seen), ds, zero));
  }
}

/// `sum over d of a(d) * b(d)` for rows padded with zeros.
template <class T>
T dot_padded(const T* a, const T* b, std::int64_t width) {
  simd::vec<T> sum = simd::broadcast(T(0));
  for (std::int64_t d = 0; d < width; d += simd::lanes) {
    sum = simd::madd(simd::load(a + d), simd::load(b + d), sum);
  }
  return simd::sum(sum);
}

template <class T>
void copy_row(T* to, const head_rows<const T>& from, std::int64_t r, std::int64_t dh) {
  const T* const row = from.row(r);
  for (std::int64_t d = 0; d < dh; ++d) {
    to[d] = row[d * from.dim_stride];
  }
}

/// The share of R rows in all gradients of one key-value head.
template <class T, int R>
void attend_backward_block(const head_rows<T>& dq, const head_rows<const T>& dout,
                           const head_rows<const T>& q, const head_rows<const T>& out,
                           const head_panels<T>& keys, const head_panels<T>& values,
                           const attention_sizes& s, std::int64_t first, T scale,
                           const backward_space<T>& space) {
  std::int64_t n[R];
  for (int r = 0; r < R; ++r) {
    n[r] = std::max<std::int64_t>(0, s.limit((first + r) / s.group()));
  }
  const std::int64_t panels = panels_for(*std::max_element(n, n + R));
  pack_rows<T, R>(space.q_columns, q, first, s.dim);
  pack_rows<T, R>(space.dout_columns, dout, first, s.dim);
  score_rows<T, R>(space.weights, space.q_columns, keys, panels, s.dim, scale);
  score_rows<T, R>(space.dscores, space.dout_columns, values, panels, s.dim, T(1));
  for (int r = 0; r < R; ++r) {
    T* const dout_row = space.dout_rows + r * space.width;
    copy_row(space.q_rows + r * space.width, q, first + r, s.dim);
    copy_row(dout_row, dout, first + r, s.dim);
    copy_row(space.out_row, out, first + r, s.dim);
    T* const weights = space.weights + r * panel_tokens;
    if (n[r] > 0) {
      softmax_row<T, R>(weights, n[r]);
    }
    score_gradient_row<T, R>(space.dscores + r * panel_tokens, weights, n[r], panels,
                             dot_padded(dout_row, space.out_row, space.width), scale);
  }
  weigh_values<T, R>(dq, first, space.dscores, keys, n, s.dim);
  add_outer<T, R>(space.dk, space.dscores, space.q_rows, space.width, panels);
  add_outer<T, R>(space.dv, space.weights, space.dout_rows, space.width, panels);
}

}  // namespace detail

/// Gradients of `sdpa` from those of its output; probabilities are computed again.
///
/// Every element of `dk` and `dv` is one chain of multiply-adds over the queries in order, the
/// query heads of a group side by side, so that the bits do not depend on the number of threads.
///
/// Shapes: `dq`, `dout`, `q`, `out`: (B, H, Tq, Dh); `dk`, `dv`, `k`, `v`: (B, Hkv, Tk, Dh).
/// Requires: `out` is what `sdpa` gave; no gradient overlaps another view.
/// Throws: `shape_error`; `std::bad_alloc` where the working memory of a thread cannot grow.
/// Cost:   O(B H Tq Tk Dh), threads share B Hkv; about 5 Tk Dh elements of working memory each.
template <std::floating_point T>
void sdpa_backward(view<T> dq, std::type_identity_t<view<T>> dk, std::type_identity_t<view<T>> dv,
                   std::type_identity_t<view<const T>> dout, std::type_identity_t<view<const T>> q,
                   std::type_identity_t<view<const T>> k, std::type_identity_t<view<const T>> v,
                   std::type_identity_t<view<const T>> out, bool causal, double scale) {
  constexpr auto op = "sdpa_backward";
  const detail::attention_sizes s = detail::check_attention<T>(op, out, q, k, v, causal);
  for (const auto& x : {view<const T>(dq), dout}) {
    if (!same_shape(*x.spec, *q.spec)) {
      throw shape_error(op, x.shape(), q.shape(), "a gradient must have the shape of its tensor");
    }
  }
  for (const auto& x : {dk, dv}) {
    if (!same_shape(*x.spec, *k.spec)) {
      throw shape_error(op, x.shape(), k.shape(), "a gradient must have the shape of its tensor");
    }
  }
  if (s.batch == 0 || s.kv_heads == 0 || s.dim == 0) {
    return;
  }
  const bool copies_keys = k.stride(3) != 1 && s.dim > 1;
  const auto item = [&](std::int64_t index) {
    const std::int64_t b = index / s.kv_heads;
    const std::int64_t h = index % s.kv_heads;
    const detail::backward_space<T> space(s.keys, s.dim, copies_keys);
    const auto key = detail::head_of(k, b, h);
    detail::pack_panels(space.key_panels, key, s.keys, s.dim);
    detail::pack_panels(space.value_panels, detail::head_of(v, b, h), s.keys, s.dim);
    detail::head_panels<T> keys{space.key_panels,     key.data,
                                space.panel_offset,   space.key_offset,
                                detail::panel_tokens, key.token_stride};
    if (copies_keys) {
      detail::copy_head(space.keys, s.dim, key, s.keys, s.dim);
      keys.values = space.keys;
      keys.value_stride = s.dim;
    }
    detail::fill_offsets(space.panel_offset, space.panels, s.dim * detail::panel_tokens);
    detail::fill_offsets(space.key_offset, space.panels, keys.value_stride * detail::panel_tokens);
    const detail::head_panels<T> values{space.value_panels,   nullptr, space.panel_offset, nullptr,
                                        detail::panel_tokens, 0};
    const std::int64_t group = s.group();
    detail::for_each_block<detail::max_rows<T>>(0, s.rows(), [&](std::int64_t first, auto rows) {
      detail::attend_backward_block<T, rows()>(
          detail::rows_of(dq, b, h, group), detail::rows_of(dout, b, h, group),
          detail::rows_of(q, b, h, group), detail::rows_of(out, b, h, group), keys, values, s,
          first, static_cast<T>(scale), space);
    });
    const detail::head_matrix<T> dk_head = detail::head_of(dk, b, h);
    const detail::head_matrix<T> dv_head = detail::head_of(dv, b, h);
    for (std::int64_t j = 0; j < s.keys; ++j) {
      for (std::int64_t d = 0; d < s.dim; ++d) {
        dk_head.data[j * dk_head.token_stride + d * dk_head.dim_stride] =
            space.dk[j * space.width + d];
        dv_head.data[j * dv_head.token_stride + d * dv_head.dim_stride] =
            space.dv[j * space.width + d];
      }
    }
  };
  detail::for_each_item(s.batch * s.kv_heads, detail::attention_grain(3 * s.rows(), s.keys, s.dim),
                        item);
}

}  // namespace ashlar::chip::host_kernels

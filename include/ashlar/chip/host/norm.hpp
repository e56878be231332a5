// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/rows.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/view.hpp"

/// Normalisation along the last axis.
///
/// Rows are computed alone, with sums by sixteen lanes and the tree of `simd::sum`. Threads, batch
/// and layout do not change a bit. The gradients of weights are tile programs. Shapes: `x`, `g`,
/// outputs: (..., C) alike; `weight`, `bias`: (C).
namespace ashlar::chip::host_kernels {

namespace detail {

/// The factor of RMS normalisation: `1 / sqrt(mean(x^2) + eps)`.
template <class C, class S>
ASHLAR_INLINE C inverse_rms(const S* x, std::int64_t n, double eps) {
  simd::vec<C> acc = simd::broadcast(C(0));
  for_each_vector(
      n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
        const simd::vec<C> v = get<C>(x + i, 1, m);
        acc = simd::madd(v, v, acc);
      });
  return C(1) / std::sqrt(simd::sum(acc) / static_cast<C>(n) + static_cast<C>(eps));
}

template <class C>
struct moments {
  C mean, inverse_deviation;
};

/// Mean and `1 / sqrt(variance + eps)` in two passes: no cancellation for rows far from zero.
template <class C, class S>
ASHLAR_INLINE moments<C> row_moments(const S* x, std::int64_t n, double eps) {
  simd::vec<C> acc = simd::broadcast(C(0));
  for_each_vector(
      n, [&](std::int64_t i, int m) __attribute__((always_inline)) { acc += get<C>(x + i, 1, m); });
  const C mean = simd::sum(acc) / static_cast<C>(n);
  const simd::vec<C> centre = simd::broadcast(mean);
  acc = simd::broadcast(C(0));
  for_each_vector(
      n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
        const simd::vec<C> v = get<C>(x + i, 1, m, mean) - centre;
        acc = simd::madd(v, v, acc);
      });
  return {mean, C(1) / std::sqrt(simd::sum(acc) / static_cast<C>(n) + static_cast<C>(eps))};
}

}  // namespace detail

/// `out = x / sqrt(mean(x^2) + eps) * weight`.
template <Scalar T, class S, class W>
void rms_norm(view<T> out, view<S> x, view<W> weight, double eps) {
  using C = compute_type<T>;
  const T* const w = weight.data;
  const std::int64_t ws = weight.stride(0);
  detail::for_each_row(
      x.rank() - 1, 2,
      [=](std::int64_t, std::int64_t n, T* y, const T* row) {
        const simd::vec<C> inverse = simd::broadcast(detail::inverse_rms<C>(row, n, eps));
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              detail::put(
                  y + i, 1, m,
                  detail::get<C>(row + i, 1, m) * inverse * detail::get<C>(w + i * ws, ws, m));
            });
      },
      out, view<const T>(x));
}

/// The gradient of `rms_norm` for `x`.
template <Scalar T, class S, class G, class W>
void rms_norm_backward_x(view<T> dx, view<G> g, view<S> x, view<W> weight, double eps) {
  using C = compute_type<T>;
  const T* const w = weight.data;
  const std::int64_t ws = weight.stride(0);
  detail::for_each_row(
      x.rank() - 1, 4,
      [=](std::int64_t, std::int64_t n, T* d, const T* grad, const T* row) {
        const C inverse = detail::inverse_rms<C>(row, n, eps);
        simd::vec<C> acc = simd::broadcast(C(0));
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              acc = simd::madd(detail::get<C>(grad + i, 1, m) * detail::get<C>(w + i * ws, ws, m),
                               detail::get<C>(row + i, 1, m), acc);
            });
        // d = inverse * (g w - x * inverse^2 * mean(g w x))
        const simd::vec<C> scale = simd::broadcast(inverse);
        const simd::vec<C> along =
            simd::broadcast(inverse * inverse * (simd::sum(acc) / static_cast<C>(n)));
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              const simd::vec<C> gw =
                  detail::get<C>(grad + i, 1, m) * detail::get<C>(w + i * ws, ws, m);
              detail::put(d + i, 1, m, scale * (gw - detail::get<C>(row + i, 1, m) * along));
            });
      },
      dx, view<const T>(g), view<const T>(x));
}

/// `out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, with the variance over n.
template <Scalar T, class S, class W, class B>
void layer_norm(view<T> out, view<S> x, view<W> weight, view<B> bias, double eps) {
  using C = compute_type<T>;
  const T* const w = weight.data;
  const std::int64_t ws = weight.stride(0);
  const T* const b = bias.data;
  const std::int64_t bs = bias.stride(0);
  detail::for_each_row(
      x.rank() - 1, 3,
      [=](std::int64_t, std::int64_t n, T* y, const T* row) {
        const detail::moments<C> s = detail::row_moments<C>(row, n, eps);
        const simd::vec<C> centre = simd::broadcast(s.mean);
        const simd::vec<C> scale = simd::broadcast(s.inverse_deviation);
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              const simd::vec<C> v = (detail::get<C>(row + i, 1, m) - centre) * scale;
              detail::put(
                  y + i, 1, m,
                  v * detail::get<C>(w + i * ws, ws, m) + detail::get<C>(b + i * bs, bs, m));
            });
      },
      out, view<const T>(x));
}

/// The gradient of `layer_norm` for `x`.
template <Scalar T, class S, class G, class W>
void layer_norm_backward_x(view<T> dx, view<G> g, view<S> x, view<W> weight, double eps) {
  using C = compute_type<T>;
  const T* const w = weight.data;
  const std::int64_t ws = weight.stride(0);
  detail::for_each_row(
      x.rank() - 1, 5,
      [=](std::int64_t, std::int64_t n, T* d, const T* grad, const T* row) {
        const detail::moments<C> s = detail::row_moments<C>(row, n, eps);
        const simd::vec<C> centre = simd::broadcast(s.mean);
        const simd::vec<C> scale = simd::broadcast(s.inverse_deviation);
        simd::vec<C> total = simd::broadcast(C(0));
        simd::vec<C> dot = simd::broadcast(C(0));
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              // g w is zero in the lanes beyond the row's end.
              const simd::vec<C> gw =
                  detail::get<C>(grad + i, 1, m) * detail::get<C>(w + i * ws, ws, m);
              const simd::vec<C> v = (detail::get<C>(row + i, 1, m, s.mean) - centre) * scale;
              total += gw;
              dot = simd::madd(gw, v, dot);
            });
        // d = inverse * (g w - mean(g w) - v * mean(g w v)), v the normalised row
        const simd::vec<C> flat = simd::broadcast(simd::sum(total) / static_cast<C>(n));
        const simd::vec<C> along = simd::broadcast(simd::sum(dot) / static_cast<C>(n));
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              const simd::vec<C> gw =
                  detail::get<C>(grad + i, 1, m) * detail::get<C>(w + i * ws, ws, m);
              const simd::vec<C> v = (detail::get<C>(row + i, 1, m) - centre) * scale;
              detail::put(d + i, 1, m, scale * (gw - flat - v * along));
            });
      },
      dx, view<const T>(g), view<const T>(x));
}

}  // namespace ashlar::chip::host_kernels

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/rows.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/view.hpp"

/// Softmax, its logarithm and their derivatives along one axis.
///
/// Each row is computed alone, its sums by sixteen lanes and the tree of `simd::sum`: a row has the
/// same bits in any batch, layout and number of threads.
namespace ashlar::chip::host_kernels {

namespace detail {

/// The largest element of a row; some element or NaN where there are NaNs.
template <class C, class S>
ASHLAR_INLINE C row_max(const S* x, std::int64_t n) {
  constexpr C lowest = -std::numeric_limits<C>::infinity();
  simd::vec<C> best = simd::broadcast(lowest);
  for_each_vector(
      n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
        best = simd::max(best, get<C>(x + i, 1, m, lowest));
      });
  return simd::max(best);
}

/// The sum of `exp(x - shift)` over a row; `each(i, m, e)` sees the terms.
template <class C, class S, class Each>
ASHLAR_INLINE C row_sum_exp(const S* x, std::int64_t n, C shift, const Each& each) {
  constexpr C lowest = -std::numeric_limits<C>::infinity();
  const simd::vec<C> s = simd::broadcast(shift);
  simd::vec<C> acc = simd::broadcast(C(0));
  for_each_vector(
      n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
        const simd::vec<C> e = simd::exp(get<C>(x + i, 1, m, lowest) - s);
        each(i, m, e);
        if (m == lanes) {
          acc += e;
        } else {
          acc += simd::select(simd::first_lanes<C>(m), e, simd::broadcast(C(0)));
        }
      });
  return simd::sum(acc);
}

template <class C, class R, class S>
void softmax_row(R* y, const S* x, std::int64_t n) {
  const C largest = row_max<C>(x, n);
  C total;
  if constexpr (std::is_same_v<R, C>) {
    total = row_sum_exp(
        x, n,
        largest, [&](std::int64_t i, int m, const simd::vec<C>& e) __attribute__((always_inline)) {
          put(y + i, 1, m, e);
        });
    const simd::vec<C> divisor = simd::broadcast(total);
    for_each_vector(
        n, [&](std::int64_t i, int m)
               __attribute__((always_inline)) { put(y + i, 1, m, get<C>(y + i, 1, m) / divisor); });
  } else {
    // The output rounds to 16 bits: compute the terms again in place of rounding them twice.
    total = row_sum_exp(x, n, largest, [](std::int64_t, int, const simd::vec<C>&) {});
    const simd::vec<C> shift = simd::broadcast(largest);
    const simd::vec<C> divisor = simd::broadcast(total);
    for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          put(y + i, 1, m, simd::exp(get<C>(x + i, 1, m) - shift) / divisor);
        });
  }
}

/// The logarithm of the sum of `exp(x)` over a row, less `largest`.
template <class C, class S>
C row_log_sum(const S* x, std::int64_t n, C largest) {
  return simd::log(row_sum_exp(x, n, largest, [](std::int64_t, int, const simd::vec<C>&) {}));
}

/// The work per element of a row with an exponential.
inline constexpr std::int64_t exp_cost = 4;

/// `for_each_row`, where a tensor without dimensions is one row of one element.
template <class T, class... In>
void for_each_softmax_row(int axis, std::int64_t cost, const auto& kernel, view<T> out,
                          view<In>... in) {
  if (out.rank() == 0) {
    kernel(0, 1, out.data, in.data...);
    return;
  }
  for_each_row(axis, cost, kernel, out, in...);
}

}  // namespace detail

/// `exp(x) / sum(exp(x))` along `axis`.
///
/// A row that is all -infinity, or holds +infinity or NaN, becomes NaN. May work in place.
/// Shapes: `out` and `x` alike; `axis` counts from the front.
template <Scalar T, class S>
void softmax(view<T> out, view<S> x, int axis) {
  using C = compute_type<T>;
  detail::for_each_softmax_row(
      axis, detail::exp_cost,
      [](std::int64_t, std::int64_t n, T* y, const T* row) { detail::softmax_row<C>(y, row, n); },
      out, view<const T>(x));
}

/// `x - log(sum(exp(x)))` along `axis`. Shapes as for `softmax`.
template <Scalar T, class S>
void log_softmax(view<T> out, view<S> x, int axis) {
  using C = compute_type<T>;
  const auto kernel = [](std::int64_t, std::int64_t n, T* y, const T* row) {
    const C largest = detail::row_max<C>(row, n);
    const simd::vec<C> first = simd::broadcast(largest);
    const simd::vec<C> second = simd::broadcast(detail::row_log_sum(row, n, largest));
    detail::for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          detail::put(y + i, 1, m, detail::get<C>(row + i, 1, m) - first - second);
        });
  };
  detail::for_each_softmax_row(axis, detail::exp_cost, kernel, out, view<const T>(x));
}

/// The gradient of `softmax` from its output: `y * (g - sum(y * g))`.
///
/// Shapes: all alike.
template <Scalar T, class S, class G>
void softmax_backward(view<T> dx, view<S> y, view<G> g, int axis) {
  using C = compute_type<T>;
  const auto kernel = [](std::int64_t, std::int64_t n, T* d, const T* p, const T* grad) {
    simd::vec<C> acc = simd::broadcast(C(0));
    detail::for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          acc = simd::madd(detail::get<C>(p + i, 1, m), detail::get<C>(grad + i, 1, m), acc);
        });
    const simd::vec<C> dot = simd::broadcast(simd::sum(acc));
    detail::for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          detail::put(d + i, 1, m,
                      detail::get<C>(p + i, 1, m) * (detail::get<C>(grad + i, 1, m) - dot));
        });
  };
  detail::for_each_softmax_row(axis, 2, kernel, dx, view<const T>(y), view<const T>(g));
}

/// The gradient of `log_softmax` from its output: `g - exp(y) * sum(g)`.
///
/// Shapes: all alike.
template <Scalar T, class S, class G>
void log_softmax_backward(view<T> dx, view<S> y, view<G> g, int axis) {
  using C = compute_type<T>;
  const auto kernel = [](std::int64_t, std::int64_t n, T* d, const T* p, const T* grad) {
    simd::vec<C> acc = simd::broadcast(C(0));
    detail::for_each_vector(
        n, [&](std::int64_t i, int m)
               __attribute__((always_inline)) { acc += detail::get<C>(grad + i, 1, m); });
    const simd::vec<C> total = simd::broadcast(simd::sum(acc));
    detail::for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          detail::put(
              d + i, 1, m,
              detail::get<C>(grad + i, 1, m) - simd::exp(detail::get<C>(p + i, 1, m)) * total);
        });
  };
  detail::for_each_softmax_row(axis, detail::exp_cost, kernel, dx, view<const T>(y),
                               view<const T>(g));
}

}  // namespace ashlar::chip::host_kernels

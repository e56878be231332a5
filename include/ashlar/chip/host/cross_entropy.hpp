// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/rows.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/reduce.hpp"
#include "ashlar/chip/host/softmax.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels {

/// How the losses of the rows become one number.
enum class loss_reduction : std::uint8_t {
  mean,  ///< over the rows that are not ignored; NaN if all are
  sum
};

namespace detail {

struct loss_scratch;

/// Returns: how many rows count.
/// Throws:  `argument_error` for the first target that is no class and not `ignored`.
template <std::integral Index>
std::int64_t count_targets(view<const Index> targets, std::int64_t classes, std::int64_t ignored) {
  std::int64_t count = 0;
  const std::int64_t step = targets.rank() == 0 ? 0 : targets.stride(0);
  for (std::int64_t i = 0; i < targets.size(); ++i) {
    const auto target = static_cast<std::int64_t>(targets.data[i * step]);
    if (target == ignored) {
      continue;
    }
    if (target < 0 || target >= classes) {
      throw argument_error("ashlar::cross_entropy",
                           "target " + std::to_string(target) + " of row " + std::to_string(i) +
                               "; there are " + std::to_string(classes) +
                               " classes, and the ignored target is " + std::to_string(ignored));
    }
    ++count;
  }
  return count;
}

}  // namespace detail

/// The mean or sum over rows of `log(sum(exp(logits))) - logits[target]`.
///
/// Shapes: `loss`: one element; `logits`: (N, V); `targets`: (N).
/// Throws: `argument_error` naming the first target out of range; nothing is written then.
template <Scalar T, class S, class I>
  requires std::integral<I>
void cross_entropy(view<T> loss, view<S> logits, view<I> targets, std::int64_t ignore_index,
                   loss_reduction reduction) {
  using C = compute_type<T>;
  using Index = std::remove_const_t<I>;
  const std::int64_t classes = logits.extent(1);
  const std::int64_t count =
      detail::count_targets(view<const Index>(targets), classes, ignore_index);
  const std::int64_t rows = targets.size();
  C* const losses = static_cast<C*>(
      detail::thread_scratch<detail::loss_scratch>(static_cast<std::size_t>(rows) * sizeof(C)));
  const std::int64_t step = targets.stride(0);
  detail::for_each_row(
      1, detail::exp_cost,
      [&](std::int64_t number, std::int64_t n, const T* row) {
        const auto target = static_cast<std::int64_t>(targets.data[number * step]);
        if (target == ignore_index) {
          losses[number] = C(0);
          return;
        }
        const C largest = detail::row_max<C>(row, n);
        losses[number] =
            detail::row_log_sum(row, n, largest) - (static_cast<C>(row[target]) - largest);
      },
      view<const T>(logits));
  const C total = detail::reduce_run<detail::sum_step, C>(losses, 1, rows);
  loss.data[0] =
      static_cast<T>(reduction == loss_reduction::sum ? total : total / static_cast<C>(count));
}

/// The gradient of `cross_entropy` for the logits: `(softmax(logits) - one_hot(target)) * g`, over
/// the number of rows that count where the loss was a mean; 0 in ignored rows.
///
/// Shapes: `dlogits`, `logits`: (N, V); `g`: one element; `targets`: (N).
/// Throws: as `cross_entropy`.
template <Scalar T, class G, class S, class I>
  requires std::integral<I>
void cross_entropy_backward(view<T> dlogits, view<G> g, view<S> logits, view<I> targets,
                            std::int64_t ignore_index, loss_reduction reduction) {
  using C = compute_type<T>;
  using Index = std::remove_const_t<I>;
  const std::int64_t count =
      detail::count_targets(view<const Index>(targets), logits.extent(1), ignore_index);
  const std::int64_t step = targets.stride(0);
  const C arriving = static_cast<C>(g.data[0]);
  const C weight = reduction == loss_reduction::sum ? arriving : arriving / static_cast<C>(count);
  detail::for_each_row(
      1, detail::exp_cost,
      [&](std::int64_t number, std::int64_t n, T* d, const T* row) {
        const auto target = static_cast<std::int64_t>(targets.data[number * step]);
        if (target == ignore_index) {
          detail::for_each_vector(
              n, [&](std::int64_t i, int m) { detail::put(d + i, 1, m, simd::broadcast(C(0))); });
          return;
        }
        const C largest = detail::row_max<C>(row, n);
        const C total =
            detail::row_sum_exp(row, n, largest, [](std::int64_t, int, const simd::vec<C>&) {});
        const simd::vec<C> shift = simd::broadcast(largest);
        const simd::vec<C> divisor = simd::broadcast(total);
        const simd::vec<C> factor = simd::broadcast(weight);
        detail::for_each_vector(
            n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
              const simd::vec<C> p = simd::exp(detail::get<C>(row + i, 1, m) - shift) / divisor;
              detail::put(d + i, 1, m, p * factor);
            });
        // One rounding of p - 1 in place of a difference of rounded products.
        const C p = simd::exp(static_cast<C>(row[target]) - largest) / total;
        d[target] = static_cast<T>((p - C(1)) * weight);
      },
      dlogits, view<const T>(logits));
}

}  // namespace ashlar::chip::host_kernels

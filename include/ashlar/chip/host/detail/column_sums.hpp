// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/rows.hpp"
#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar::chip::host_kernels::detail {

struct statistic_scratch;

/// Sums over all rows of what `body` makes of each element; columns are the last axis.
///
/// `statistic(row, n)` is computed once for each row of `x`. `body(g, x, statistic, add)` sees
/// sixteen columns of one row and calls `add(k, values)` once for each output `k`.
/// The order is that of `sum` over all axes but the last.
/// Shapes: `g`, `x`: (..., C) alike; each output: C elements, dense.
template <int Outputs, class C, class T, class Statistic, class Body>
void sum_over_rows(const std::array<T*, Outputs>& out, view<const T> g, view<const T> x,
                   const Statistic& statistic, const Body& body) {
  using value = decltype(statistic(x.data, std::int64_t{}));
  constexpr std::int64_t rows_per_fold = 4096;
  constexpr int width = 256 / static_cast<int>(sizeof(C));
  const int last = x.rank() - 1;
  const std::int64_t columns = x.extent(last);

  loop_nest<2> nest;
  for (int i = 0; i < last; ++i) {
    nest.size *= x.extent(i);
    nest.push(x.extent(i), {g.stride(i), x.stride(i)});
  }
  nest.close();
  value* const statistics = static_cast<value*>(
      thread_scratch<statistic_scratch>(static_cast<std::size_t>(nest.size) * sizeof(value)));
  for_each_row(
      last, 1,
      [&](std::int64_t number, std::int64_t n, const T* row) {
        statistics[number] = statistic(row, n);
      },
      x);

  const std::int64_t g_step = g.stride(last);
  const std::int64_t x_step = x.stride(last);
  const std::int64_t blocks = ceil_div(columns, width);
  parallel(blocks, nest.size * width * 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t c0 = block * width;
      const auto w = static_cast<int>(std::min<std::int64_t>(width, columns - c0));
      alignas(64) C lane[Outputs][lanes][width] = {};
      alignas(64) C total[Outputs][lanes][width] = {};
      const auto fold = [&] {
        for (std::size_t k = 0; k < Outputs; ++k) {
          for (std::size_t l = 0; l < lanes; ++l) {
            for (int c = 0; c < width; c += lanes) {
              simd::store(&total[k][l][c],
                          simd::load(&total[k][l][c]) + simd::load(&lane[k][l][c]));
              simd::store(&lane[k][l][c], simd::broadcast(C(0)));
            }
          }
        }
      };
      std::int64_t r = 0;
      for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t rows) {
        for (std::int64_t i = 0; i < rows; ++i) {
          const T* const gs = g.data + at[0] + i * nest.inner_stride()[0] + c0 * g_step;
          const T* const xs = x.data + at[1] + i * nest.inner_stride()[1] + c0 * x_step;
          const auto slot = static_cast<std::size_t>(r % lanes);
          for_each_vector(
              w, [&](std::int64_t c, int m) __attribute__((always_inline)) {
                body(
                    get<C>(gs + c * g_step, g_step, m), get<C>(xs + c * x_step, x_step, m),
                    statistics[r],
                    [&](std::size_t k, const simd::vec<C>& v) __attribute__((always_inline)) {
                      C* const acc = &lane[k][slot][c];
                      simd::store(acc, simd::load(acc) + v);
                    });
              });
          if (++r % rows_per_fold == 0) {
            fold();
          }
        }
      });
      fold();
      for (std::size_t k = 0; k < Outputs; ++k) {
        for (std::size_t half = lanes / 2; half > 0; half /= 2) {
          for (std::size_t l = 0; l < half; ++l) {
            for (int c = 0; c < width; c += lanes) {
              simd::store(&total[k][l][c],
                          simd::load(&total[k][l][c]) + simd::load(&total[k][l + half][c]));
            }
          }
        }
        for (int c = 0; c < w; ++c) {
          out[k][c0 + c] = static_cast<T>(total[k][0][c]);
        }
      }
    }
  });
}

}  // namespace ashlar::chip::host_kernels::detail

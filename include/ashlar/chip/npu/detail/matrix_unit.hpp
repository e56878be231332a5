// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/runs.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"

namespace ashlar::chip::npu_isa::detail {

/// In a floating type, one `simd::madd` for each k.
template <class T>
void multiply(scratchpad& pad, const job& w) {
  const std::int64_t n = w.cols;
  const auto u = [](std::int64_t v) { return static_cast<std::size_t>(v); };
  const bool accumulate = w.i->mode == 1;
  constexpr std::int64_t lanes = simd::lanes;
  const std::int64_t panels = ceil_div(n, lanes);
  // (k, j) -> (j / 16, k, j mod 16), so that the innermost loop walks straight on.
  std::vector<T> b(u(panels * w.depth * lanes));
  std::vector<T> a(u(w.rows * w.depth));
  std::vector<T> row(u(panels * lanes));
  for (std::int64_t k = 0; k < w.depth; ++k) {
    read_run(pad, w.b, k, 0, n, row.data());
    for (std::int64_t j = 0; j < n; ++j) {
      b[u((j / lanes * w.depth + k) * lanes + j % lanes)] = row[u(j)];
    }
  }
  for (std::int64_t i = 0; i < w.rows; ++i) {
    read_run(pad, w.a, i, 0, w.depth, a.data() + i * w.depth);
  }
  for (std::int64_t i = 0; i < w.rows; ++i) {
    std::fill(row.begin(), row.end(), T(0));
    if (accumulate) {
      read_run(pad, w.dst, i, 0, n, row.data());
    }
    const T* left = a.data() + i * w.depth;
    for (std::int64_t p = 0; p < panels; ++p) {
      const T* right = b.data() + p * w.depth * lanes;
      simd::vec<T> sum = simd::load(row.data() + p * lanes);
      for (std::int64_t k = 0; k < w.depth; ++k) {
        sum = simd::madd(simd::broadcast(left[k]), simd::load(right + k * lanes), sum);
      }
      simd::store(row.data() + p * lanes, sum);
    }
    write_run(pad, w.dst, i, 0, n, row.data());
  }
}

/// `dst (+)= a b`: every element is a chain over k in order, in float one `simd::madd` each.
///
/// Requires: every box lies in the scratchpad.
inline void run_matrix(scratchpad& pad, const job& w) {
  const std::int64_t n = w.cols;
  const auto u = [](std::int64_t v) { return static_cast<std::size_t>(v); };
  const bool accumulate = w.i->mode == 1;
  if (w.i->type == element::i8) {
    std::vector<std::int64_t> b(u(w.depth * n));
    std::vector<std::int64_t> row(u(w.depth));
    std::vector<std::int64_t> sum(u(n));
    for (std::int64_t k = 0; k < w.depth; ++k) {
      read_run(pad, w.b, k, 0, n, b.data() + k * n);
    }
    for (std::int64_t i = 0; i < w.rows; ++i) {
      read_run(pad, w.a, i, 0, w.depth, row.data());
      std::fill(sum.begin(), sum.end(), 0);
      if (accumulate) {
        read_run(pad, w.dst, i, 0, n, sum.data());
      }
      for (std::int64_t k = 0; k < w.depth; ++k) {
        for (std::int64_t j = 0; j < n; ++j) {
          sum[u(j)] += row[u(k)] * b[u(k * n + j)];
        }
      }
      write_run(pad, w.dst, i, 0, n, sum.data());
    }
    return;
  }
  w.i->type == element::f64 ? multiply<double>(pad, w) : multiply<float>(pad, w);
}

}  // namespace ashlar::chip::npu_isa::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace ashlar::chip {

/// One matrix multiplication, `C(M,N) = start + A(M,K) * B(K,N)`; strides in elements, any sign.
/// `R` is what products of `T` add up in.
template <class T, class R = T>
struct gemm_args {
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t a_row = 0, a_col = 1;
  const T* b = nullptr;
  std::int64_t b_row = 0, b_col = 1;
  R* c = nullptr;
  std::int64_t c_row = 0, c_col = 1;
  /// What the sums start from. Null: zero. `c` with C's strides: accumulate. A row of bias: row
  /// stride 0, column stride 1.
  const R* start = nullptr;
  std::int64_t start_row = 0, start_col = 0;
};

/// Steps in elements from one product of a batch to the next; 0 repeats an operand.
struct gemm_steps {
  std::int64_t a = 0, b = 0, c = 0, start = 0;
};

}  // namespace ashlar::chip

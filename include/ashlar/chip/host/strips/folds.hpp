// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/host/codegen/reduce.hpp"
#include "ashlar/chip/host/strips/kernels.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/vec.hpp"

/// Reductions of rows in registers, and products of matrices, in the tile IR's order.
namespace ashlar::chip::strips::detail {

template <class T, opcode Op>
void reduce_rows(T* to, const T* from, std::int64_t rows, std::int64_t n) {
  const auto one = [](const simd::vec<T>& a, const simd::vec<T>& b) __attribute__((always_inline)) {
    return code::apply<Op>(std::type_identity<T>{}, a, b);
  };
  for (std::int64_t r = 0; r < rows; ++r, from += n) {
    if (n < lanes) {
      T lane[lanes];
      std::copy_n(from, n, lane);
      to[r] = code::detail::combined_lanes(lane, static_cast<int>(n), [](T a, T b) {
        return code::apply<Op>(std::type_identity<T>{}, a, b);
      });
      continue;
    }
    simd::vec<T> sum = simd::load(from);
    std::int64_t i = lanes;
    for (; i + lanes <= n; i += lanes) {
      sum = one(sum, simd::load(from + i));
    }
    if (i < n) {
      const int rest = static_cast<int>(n - i);
      sum = simd::select(simd::first_lanes<T>(rest), one(sum, simd::load_partial(from + i, rest)),
                         sum);
    }
    to[r] = code::detail::combined_packet<Op, T>(sum);
  }
}

/// Reduces rows that lie one behind the other. Returns: whether there is code for it.
template <class T>
bool reduce_rows_by(opcode op, T* to, const T* from, std::int64_t rows, std::int64_t n) {
  switch (op) {
    case opcode::add:
      reduce_rows<T, opcode::add>(to, from, rows, n);
      return true;
    case opcode::max:
      reduce_rows<T, opcode::max>(to, from, rows, n);
      return true;
    case opcode::min:
      reduce_rows<T, opcode::min>(to, from, rows, n);
      return true;
    default:
      return false;
  }
}

/// `Rows` rows by sixteen columns of `c += a b`, sequential in K; `m` columns are there.
template <class T, int Rows>
ASHLAR_INLINE void product_block(T* c, const T* a, const T* b, std::int64_t k_end, std::int64_t n,
                                 int m) {
  const auto load = [m](const T* p) __attribute__((always_inline)) {
    return m == lanes ? simd::load(p) : simd::load_partial(p, m);
  };
  simd::vec<T> sum[Rows];
  for (int r = 0; r < Rows; ++r) {
    sum[r] = load(c + r * n);
  }
  for (std::int64_t k = 0; k < k_end; ++k) {
    const simd::vec<T> column = load(b + k * n);
    for (int r = 0; r < Rows; ++r) {
      sum[r] = simd::madd(simd::broadcast(a[r * k_end + k]), column, sum[r]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    if (m == lanes) {
      simd::store(c + r * n, sum[r]);
    } else {
      simd::store_partial(c + r * n, m, sum[r]);
    }
  }
}

/// `c += a b` of dense matrices.
template <class T>
void product(T* c, const T* a, const T* b, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr int rows = 4;
  for (std::int64_t j = 0; j < n; j += lanes) {
    const int columns = static_cast<int>(std::min<std::int64_t>(lanes, n - j));
    std::int64_t i = 0;
    for (; i + rows <= m; i += rows) {
      product_block<T, rows>(c + i * n + j, a + i * k, b + j, k, n, columns);
    }
    for (; i < m; ++i) {
      product_block<T, 1>(c + i * n + j, a + i * k, b + j, k, n, columns);
    }
  }
}

/// `dot_scaled` of dense matrices onto `c`: groups of 32 along K.
inline void scaled_product(float* c, const float* a, const float* sa, const float* b,
                           const float* sb, std::int64_t m_end, std::int64_t n_end,
                           std::int64_t k_end) {
  constexpr std::int64_t group = 32;
  for (std::int64_t m = 0; m < m_end; ++m) {
    for (std::int64_t n = 0; n < n_end; n += lanes) {
      const int there = static_cast<int>(std::min<std::int64_t>(lanes, n_end - n));
      simd::vec<float> sum = simd::load_partial(c + m * n_end + n, there);
      for (std::int64_t g = 0; g < k_end / group; ++g) {
        simd::vec<float> part = simd::broadcast(0.0f);
        for (std::int64_t k = g * group; k < (g + 1) * group; ++k) {
          part = simd::madd(simd::broadcast(a[m * k_end + k]),
                            simd::load_partial(b + k * n_end + n, there), part);
        }
        const auto scale = simd::broadcast(sa[m * (k_end / group) + g]) *
                           simd::load_partial(sb + g * n_end + n, there);
        sum = simd::madd(part, scale, sum);
      }
      simd::store_partial(c + m * n_end + n, there, sum);
    }
  }
}

}  // namespace ashlar::chip::strips::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/chip/host/product.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reg.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/type.hpp"

/// `dot`: each element of C adds its products in the order of K, C's own value first, or as
/// `product_order` says.
namespace ashlar::chip::host_codegen::detail {

/// A matrix in memory.
template <class T>
struct matrix_ref {
  const T* data;
  std::int64_t row;
  std::int64_t column;
};

/// `Rows` rows by `Across` packets of C from the element (row, 16 column) on.
template <int N, int K, int Rows, int Across, class T, std::int64_t Size>
ASHLAR_INLINE void dot_block(tile_value<T, Size>& result, const tile_value<T, Size>& c,
                             const matrix_ref<T>& a, const matrix_ref<T>& b, int row, int column) {
  constexpr int width = N / lanes;
  simd::vec<T> sum[Rows * Across];
  unrolled<Rows * Across>([&](auto i) __attribute__((always_inline)) {
    sum[i] = c.part[(row + i / Across) * width + column + i % Across];
  });
  const T* left = a.data + row * a.row;
  const T* right = b.data + column * lanes;
  for (int k = 0; k < K; ++k, left += a.column, right += b.row) {
    simd::vec<T> columns[Across];
    unrolled<Across>([&](auto j) __attribute__((always_inline)) {
      columns[j] = simd::load(right + j * lanes);
    });
    unrolled<Rows>([&](auto m) __attribute__((always_inline)) {
      const simd::vec<T> x = simd::broadcast(left[m * a.row]);
      unrolled<Across>([&](auto j) __attribute__((always_inline)) {
        sum[m * Across + j] = simd::madd(x, columns[j], sum[m * Across + j]);
      });
    });
  }
  unrolled<Rows * Across>([&](auto i) __attribute__((always_inline)) {
    result.part[(row + i / Across) * width + column + i % Across] = sum[i];
  });
}

/// C = `c` + A (any strides) times B (unit column stride), N a multiple of sixteen.
template <int M, int N, int K, class T>
ASHLAR_INLINE void dot_packets(tile_value<T, std::int64_t{M} * N>& result,
                               const tile_value<T, std::int64_t{M} * N>& c, const matrix_ref<T>& a,
                               const matrix_ref<T>& b) {
  constexpr int across = N / lanes;
  // Sums that stay in registers beside a row of B and an element of A.
  constexpr int most = std::max((simd::register_count - 4) / simd::vec<T>::parts, 1);
  if constexpr (M * across <= most) {
    dot_block<N, K, M, across>(result, c, a, b, 0, 0);
  } else {
    constexpr int wide = std::min(across, most >= 12 ? 4 : 2);
    constexpr int rows = std::clamp((most - wide) / wide, 1, M);
    const auto columns = [&]<int Wide>(int j, std::integral_constant<int, Wide>)
        __attribute__((always_inline)) {
      for (int i = 0; i + rows <= M; i += rows) {
        dot_block<N, K, rows, Wide>(result, c, a, b, i, j);
      }
      if constexpr (M % rows != 0) {
        dot_block<N, K, M % rows, Wide>(result, c, a, b, M - M % rows, j);
      }
    };
    for (int j = 0; j + wide <= across; j += wide) {
      columns(j, std::integral_constant<int, wide>{});
    }
    if constexpr (across % wide != 0) {
      columns(across - across % wide, std::integral_constant<int, across % wide>{});
    }
  }
}

/// Any extents, one element at a time.
template <class T>
ASHLAR_INLINE T product_onto(T c, T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return tile::eval::binary(opcode::add, c, tile::eval::binary(opcode::mul, a, b));
  } else {
    return simd::madd(a, b, c);
  }
}
template <int M, int N, int K, class T>
void dot_elements(const matrix_ref<T>& a, const matrix_ref<T>& b, T* c) {
  for (int m = 0; m < M; ++m) {
    for (int k = 0; k < K; ++k) {
      for (int n = 0; n < N; ++n) {
        c[m * N + n] = product_onto(c[m * N + n], a.data[m * a.row + k * a.column],
                                    b.data[k * b.row + n * b.column]);
      }
    }
  }
}

/// Calls `f(matrix)` with an operand's elements where they lie, or in memory of their own.
template <int Columns, class T, std::int64_t Size, class F>
ASHLAR_INLINE void with_matrix(const direct_tile<T, Size>& v, const F& f) {
  f(matrix_ref<T>{v.data, v.row, v.column});
}
template <int Columns, class T, std::int64_t Size, class F>
ASHLAR_INLINE void with_matrix(const tile_value<T, Size>& v, const F& f) {
  const tile_memory<T, Size> m(v);
  f(matrix_ref<T>{m.element, Columns, 1});
}

/// A narrow matrix as what its products add up in.
template <int Rows, int Columns, class T, class R = sum_of<T>>
struct widened_matrix {
  alignas(64) R element[static_cast<std::size_t>(Rows) * Columns];

  explicit widened_matrix(const matrix_ref<T>& m) {
    for (int i = 0; i < Rows; ++i) {
      int j = 0;
      if constexpr (std::is_same_v<R, float>) {
        if (m.column == 1) {
          for (; j + lanes <= Columns; j += lanes) {
            simd::store(element + i * Columns + j, simd::load_as<R>(m.data + i * m.row + j));
          }
        }
      }
      for (; j < Columns; ++j) {
        element[i * Columns + j] = static_cast<R>(m.data[i * m.row + j * m.column]);
      }
    }
  }
};

/// `result = c + a b` of two matrices; `c` may be `result`.
template <product_order Order, int M, int N, int K, class T, class R>
ASHLAR_INLINE void dot_matrices(tile_value<R, std::int64_t{M} * N>& result,
                                const tile_value<R, std::int64_t{M} * N>& c, const matrix_ref<T>& a,
                                const matrix_ref<T>& b) {
  if constexpr (adds_groups<T>(Order)) {
    tile_memory<R, std::int64_t{M} * N> sum(c);
    chip::detail::narrow_serial<Order, T>({.m = M,
                                           .n = N,
                                           .k = K,
                                           .a = a.data,
                                           .a_row = a.row,
                                           .a_col = a.column,
                                           .b = b.data,
                                           .b_row = b.row,
                                           .b_col = b.column,
                                           .c = sum.element,
                                           .c_row = N,
                                           .start = sum.element,
                                           .start_row = N,
                                           .start_col = 1});
    sum.read_into(result);
  } else if constexpr (Narrow<T>) {
    const widened_matrix<M, K, T> x(a);
    const widened_matrix<K, N, T> y(b);
    dot_matrices<Order, M, N, K>(result, c, matrix_ref<R>{x.element, K, 1},
                                 matrix_ref<R>{y.element, N, 1});
  } else if constexpr (N % lanes == 0) {
    dot_packets<M, N, K>(result, c, a, b);
  } else {
    tile_memory<R, std::int64_t{M} * N> sum(c);
    dot_elements<M, N, K>(a, b, sum.element);
    sum.read_into(result);
  }
}

/// `result = c + a b`.
template <tile::tile_type AType, tile::tile_type CType, product_order Order, class A, class B,
          class C>
ASHLAR_INLINE void dot(C& result, const A& a, const B& b, const C& c) {
  using T = typename A::value_type;
  using R = typename C::value_type;
  constexpr int r = CType.rank;
  constexpr int m_end = CType.extent(r - 2);
  constexpr int n_end = CType.extent(r - 1);
  constexpr int k_end = AType.extent(r - 1);
  if constexpr (r == 2) {
    with_matrix<k_end>(
        a, [&](const matrix_ref<T>& x) __attribute__((always_inline)) {
          with_matrix<n_end>(
              b, [&](const matrix_ref<T>& y) __attribute__((always_inline)) {
                dot_matrices<Order, m_end, n_end, k_end>(result, c, x, y);
              });
        });
  } else {
    constexpr std::int64_t size = std::int64_t{m_end} * n_end;
    const tile_memory<T, A::size> x(a);
    const tile_memory<T, B::size> y(b);
    tile_memory<R, C::size> z(c);
    for (int batch = 0; batch < CType.extent(0); ++batch) {
      // A tile of its own: matrices of a batch need not begin with a packet.
      tile_memory<R, size> one;
      std::copy_n(z.element + batch * size, size, one.element);
      std::fill(one.element + size, one.element + one.packets * lanes, R(0));
      tile_value<R, size> sum;
      one.read_into(sum);
      dot_matrices<Order, m_end, n_end, k_end>(
          sum, sum, matrix_ref<T>{x.element + batch * m_end * k_end, k_end, 1},
          matrix_ref<T>{y.element + batch * k_end * n_end, n_end, 1});
      std::copy_n(tile_memory<R, size>(sum).element, size, z.element + batch * size);
    }
    z.read_into(result);
  }
}

/// `result = c + (a scaled) (b scaled)`: each group of 32 along K is summed first, then scaled.
template <tile::tile_type AType, tile::tile_type CType, class A, class SA, class B, class SB,
          class C>
void dot_scaled(C& result, const A& a, const SA& scale_a, const B& b, const SB& scale_b,
                const C& c) {
  using T = typename A::value_type;
  constexpr std::int64_t m_end = CType.extent(0);
  constexpr std::int64_t n_end = CType.extent(1);
  constexpr std::int64_t k_end = AType.extent(1);
  constexpr std::int64_t group = 32;
  const tile_memory<T, A::size> x(a);
  const tile_memory<T, B::size> y(b);
  const tile_memory<float, SA::size> sx(scale_a);
  const tile_memory<float, SB::size> sy(scale_b);
  tile_memory<float, C::size> z(c);
  for (std::int64_t m = 0; m < m_end; ++m) {
    for (std::int64_t n = 0; n < n_end; ++n) {
      float total = z.element[m * n_end + n];
      for (std::int64_t g = 0; g < k_end / group; ++g) {
        float part = 0;
        for (std::int64_t k = g * group; k < (g + 1) * group; ++k) {
          part = simd::madd(static_cast<float>(x.element[m * k_end + k]),
                            static_cast<float>(y.element[k * n_end + n]), part);
        }
        total = simd::madd(part, sx.element[m * (k_end / group) + g] * sy.element[g * n_end + n],
                           total);
      }
      z.element[m * n_end + n] = total;
    }
  }
  z.read_into(result);
}

}  // namespace ashlar::chip::host_codegen::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reg.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/type.hpp"

/// `dot`: each element of C adds its products in the order of K, C's own value first.
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

/// Any types and extents, one element at a time.
template <class T, class C, class A>
ASHLAR_INLINE C product_onto(C c, A a, A b) {
  if constexpr (std::is_integral_v<C>) {
    return tile::eval::binary(
        opcode::add, c, tile::eval::binary(opcode::mul, static_cast<C>(a), static_cast<C>(b)));
  } else {
    return simd::madd(static_cast<C>(a), static_cast<C>(b), c);
  }
}
template <tile::tile_type AType, tile::tile_type CType, class A, class C>
void dot_elements(const A* a, const A* b, C* c) {
  constexpr int r = CType.rank;
  constexpr std::int64_t batches = r == 3 ? CType.extent(0) : 1;
  constexpr std::int64_t m_end = CType.extent(r - 2);
  constexpr std::int64_t n_end = CType.extent(r - 1);
  constexpr std::int64_t k_end = AType.extent(r - 1);
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    for (std::int64_t m = 0; m < m_end; ++m) {
      for (std::int64_t k = 0; k < k_end; ++k) {
        for (std::int64_t n = 0; n < n_end; ++n) {
          C& to = c[(batch * m_end + m) * n_end + n];
          to = product_onto<A>(to, a[(batch * m_end + m) * k_end + k],
                               b[(batch * k_end + k) * n_end + n]);
        }
      }
    }
  }
}

template <class V>
inline constexpr bool is_direct_value = false;
template <class T, std::int64_t Size>
inline constexpr bool is_direct_value<direct_tile<T, Size>> = true;

/// `result = c + a b`.
template <tile::tile_type AType, tile::tile_type CType, class A, class B, class C>
ASHLAR_INLINE void dot(C& result, const A& a, const B& b, const C& c) {
  using T = typename A::value_type;
  using R = typename C::value_type;
  constexpr int r = CType.rank;
  constexpr int m_end = CType.extent(r - 2);
  constexpr int n_end = CType.extent(r - 1);
  constexpr int k_end = AType.extent(r - 1);
  if constexpr (r == 2 && n_end % lanes == 0 && std::is_same_v<T, R> &&
                std::is_floating_point_v<T>) {
    const auto run = [&](const matrix_ref<T>& x, const matrix_ref<T>& y)
        __attribute__((always_inline)) {
      dot_packets<m_end, n_end, k_end>(result, c, x, y);
    };
    const auto with_a = [&](const matrix_ref<T>& x) __attribute__((always_inline)) {
      if constexpr (is_direct_value<B>) {
        run(x, {b.data, b.row, b.column});
      } else {
        const tile_memory<T, B::size> y(b);
        run(x, {y.element, n_end, 1});
      }
    };
    if constexpr (is_direct_value<A>) {
      with_a({a.data, a.row, a.column});
    } else {
      const tile_memory<T, A::size> x(a);
      with_a({x.element, k_end, 1});
    }
  } else {
    const tile_memory<T, A::size> x(a);
    const tile_memory<T, B::size> y(b);
    tile_memory<R, C::size> z(c);
    dot_elements<AType, CType>(x.element, y.element, z.element);
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

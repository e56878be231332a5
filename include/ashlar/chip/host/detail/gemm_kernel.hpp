// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/simd/reg.hpp"

// Arrays of registers stay in registers only when their loops are unrolled. clang does so unasked;
// under sanitizers it would only multiply the checks.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define ASHLAR_DETAIL_UNROLL _Pragma("GCC unroll 16")
#else
#define ASHLAR_DETAIL_UNROLL
#endif

namespace ashlar::chip::detail {

/// Operands of one register block of C; strides in elements.
///
/// The last register of a row may start early (`last` < its regular place), so that a tail of
/// columns needs no mask: two registers then hold the same columns and write the same bits.
template <class T>
struct gemm_block {
  std::int64_t k;
  const T* a;
  std::int64_t a_row, a_col;
  const T* b;
  std::int64_t b_row;
  const T* start;  ///< null: zero
  std::int64_t start_row;
  T* c;
  std::int64_t c_row;
  std::int64_t b_last;     ///< column of B's last register
  std::int64_t last;       ///< column of C's last register
  std::int64_t ahead = 0;  ///< from what is read of B first to what is fetched for later
  std::int64_t slow = 0;   ///< one less than the steps of k for each row fetched, a power of two
  T* copy = nullptr;       ///< where the rows of B that are read go, packed, if at all
};

/// `Rows` rows by `Regs` registers of C, each element one chain of `madd` in the order of k.
/// `Copy`: B is read where it lies, and packed on the way.
template <class T, int Rows, int Regs, bool Copy = false>
[[gnu::noinline]] void gemm_kernel(const gemm_block<T>& block) {
  using reg = simd::reg<T>;
  constexpr std::int64_t width = reg::width;
  const auto place = [last = block.last](int v) { return v == Regs - 1 ? last : v * width; };
  reg acc[Rows][Regs];
  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      acc[r][v] = block.start == nullptr
                      ? simd::reg_broadcast(T(0))
                      : simd::reg_load(block.start + r * block.start_row + place(v));
    }
  }

  const T* a = block.a;
  const T* b = block.b;
  const std::int64_t a_row = block.a_row;
  const std::int64_t a_col = block.a_col;
  const std::int64_t b_row = block.b_row;
  const std::int64_t b_last = block.b_last;
  const T* later = b + block.ahead;
  const std::int64_t slow = block.slow;
  [[maybe_unused]] T* copy = block.copy;
  for (std::int64_t k = block.k; k > 0; --k) {
    // The side with fewer registers stays; the other one passes through a single register.
    if constexpr (Regs <= Rows) {
      reg x[Regs];
      ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
        x[v] = simd::reg_load(b + (v == Regs - 1 ? b_last : v * width));
        simd::reg_pin(x[v]);
        __builtin_prefetch(later + v * width);
        if constexpr (Copy) {
          simd::reg_store(copy + v * width, x[v]);
        }
      }
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
        const reg y = simd::reg_broadcast(a[r * a_row]);
        ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
          acc[r][v] = simd::reg_madd(y, x[v], acc[r][v]);
        }
      }
    } else {
      reg y[Rows];
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
        y[r] = simd::reg_broadcast(a[r * a_row]);
      }
      ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
        reg x = simd::reg_load(b + (v == Regs - 1 ? b_last : v * width));
        if constexpr (Rows > 1) {
          simd::reg_pin(x);
        }
        __builtin_prefetch(later + v * width);
        ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
          acc[r][v] = simd::reg_madd(y[r], x, acc[r][v]);
        }
      }
    }
    a += a_col;
    b += b_row;
    later += (k & slow) == 0 ? b_row : 0;
    if constexpr (Copy) {
      copy += Regs * width;
    }
  }

  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Regs; ++v) {
      simd::reg_store(block.c + r * block.c_row + place(v), acc[r][v]);
    }
  }
}

/// Shape of the register block for this machine.
struct gemm_tiling {
  int rows;      ///< rows of C per register block
  int regs;      ///< registers per row of C
  int max_regs;  ///< registers per row where few rows leave room for more
};

// The accumulators take what the register file leaves beside one row of B and one broadcast of A:
// 8 x 3 of 32, 6 x 2 of 16; without fused multiply-add a product needs a register too.
template <class T>
inline constexpr gemm_tiling default_gemm_tiling =
    simd::register_count >= 32 ? gemm_tiling{8, 3, 6}
                               : (simd::fused_madd ? gemm_tiling{6, 2, 6} : gemm_tiling{4, 2, 6});

/// Registers per row for a block of `rows` rows.
template <class T>
constexpr int gemm_regs(int rows) {
  constexpr gemm_tiling t = default_gemm_tiling<T>;
  return std::clamp(t.rows * t.regs / rows, t.regs, t.max_regs);
}

template <class T>
using gemm_kernel_pointer = void (*)(const gemm_block<T>&);

template <class T>
using gemm_kernel_row = std::array<gemm_kernel_pointer<T>, default_gemm_tiling<T>.max_regs>;

template <class T, int Rows>
constexpr gemm_kernel_row<T> gemm_kernels_of() {
  gemm_kernel_row<T> kernels{};
  [&]<int... V>(std::integer_sequence<int, V...>) {
    ((kernels[V] = &gemm_kernel<T, Rows, V + 1>), ...);
  }(std::make_integer_sequence<int, gemm_regs<T>(Rows)>{});
  return kernels;
}

/// Kernels by rows - 1 and registers - 1.
template <class T>
inline constexpr auto gemm_kernels = []<int... R>(std::integer_sequence<int, R...>) {
  return std::array<gemm_kernel_row<T>, sizeof...(R)>{gemm_kernels_of<T, R + 1>()...};
}(std::make_integer_sequence<int, default_gemm_tiling<T>.rows>{});

}  // namespace ashlar::chip::detail

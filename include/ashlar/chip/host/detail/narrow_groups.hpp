// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "ashlar/chip/host/detail/gemm_kernel.hpp"
#include "ashlar/chip/host/detail/gemm_paths.hpp"
#include "ashlar/chip/host/gemm_args.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/simd/groups.hpp"
#include "ashlar/simd/tile_unit.hpp"

/// Products of bfloat16 and int8 by the tile unit, or by instructions that add up groups.
namespace ashlar::chip::detail {

#if ASHLAR_DETAIL_BF16_GROUPS || ASHLAR_DETAIL_INT8_GROUPS

/// How a product of groups is cut.
struct narrow_blocking {
  std::int64_t steps = 16;  ///< depth of a packed block, in steps: 32 rows of A take 32 KiB
  std::int64_t units = 32;  ///< columns of a packed block of B, in units: 512 KiB
};

/// Up to two panels of sixteen rows of A against some units of sixteen columns of B.
template <class T>
struct narrow_block {
  using R = simd::group_sum<T>;
  const std::byte* a;  ///< panels, each `steps` blocks
  const std::byte* b;  ///< units, each `steps` blocks
  std::int64_t steps;
  const std::int32_t* bias;  ///< int8: 128 times the sum of each column of B
  R* c;
  std::int64_t c_row;
  int rows;   ///< of C that are there
  int units;  ///< of B
  bool from_zero;
};

/// `Rows` rows by `Units` registers of C by instructions that add up groups.
template <class T, int Rows, int Units>
[[gnu::noinline]] void narrow_registers(const narrow_block<T>& block) {
  using R = simd::group_sum<T>;
  constexpr std::int64_t line = 64;
  const std::int64_t unit = block.steps * simd::block_bytes;
  simd::reg<R> acc[Rows][Units];
  ASHLAR_DETAIL_UNROLL for (int v = 0; v < Units; ++v) {
    ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
      acc[r][v] = block.from_zero
                      ? simd::reg_broadcast(R(0))
                      : simd::reg_load(block.c + r * block.c_row + v * simd::block_side);
    }
    if constexpr (std::same_as<T, std::int8_t>) {
      const simd::reg<R> bias = simd::reg_load(block.bias + v * simd::block_side);
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
        acc[r][v].value = acc[r][v].value - bias.value;
      }
    }
  }
  const std::byte* a = block.a;
  const std::byte* b = block.b;
  for (std::int64_t k = block.steps; k > 0; --k, a += simd::block_bytes) {
    for (int g = 0; g < simd::block_side; ++g, b += line) {
      simd::reg<std::int32_t> x[Units];
      ASHLAR_DETAIL_UNROLL for (int v = 0; v < Units; ++v) {
        x[v] = simd::reg_load(reinterpret_cast<const std::int32_t*>(b + v * unit));
        simd::reg_pin(x[v]);
      }
      ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
        std::int32_t y;
        std::memcpy(&y, a + r * line + g * 4, 4);
        ASHLAR_DETAIL_UNROLL for (int v = 0; v < Units; ++v) {
          acc[r][v] = simd::group_madd<T>(y, x[v], acc[r][v]);
        }
      }
    }
  }
  ASHLAR_DETAIL_UNROLL for (int r = 0; r < Rows; ++r) {
    ASHLAR_DETAIL_UNROLL for (int v = 0; v < Units; ++v) {
      simd::reg_store(block.c + r * block.c_row + v * simd::block_side, acc[r][v]);
    }
  }
}

/// Packs up to sixteen rows of A, step by step; biased by 128 where the instruction wants that.
template <bool Biased, class T, class R>
void narrow_pack_a(const gemm_args<T, R>& g, std::int64_t row, std::int64_t step0,
                   std::int64_t steps, std::byte* to) {
  constexpr std::int64_t depth = simd::step_size<T>;
  const std::int64_t rows = std::min<std::int64_t>(simd::block_side, g.m - row);
  for (std::int64_t s = 0; s < steps; ++s, to += simd::block_bytes) {
    const std::int64_t k = (step0 + s) * depth;
    simd::pack_block_a(g.a + row * g.a_row + k * g.a_col, g.a_row, g.a_col, rows,
                       std::min(depth, g.k - k), to);
    if constexpr (Biased) {
      simd::bias_block(to);
    }
  }
}

/// Packs a block of B, unit by unit, and adds up what A's bias will add to each column.
template <bool Biased, class T, class R>
void narrow_pack_b(const gemm_args<T, R>& g, std::int64_t step0, std::int64_t steps,
                   std::int64_t unit0, std::int64_t units, std::byte* to, std::int32_t* bias) {
  constexpr std::int64_t depth = simd::step_size<T>;
  constexpr std::int64_t side = simd::block_side;
  if constexpr (Biased) {
    std::fill_n(bias, units * side, 0);
  }
  const auto block = [&](std::int64_t s, std::int64_t u) {
    return to + (u * steps + s) * simd::block_bytes;
  };
  const auto first = [&](std::int64_t s, std::int64_t u) {
    return g.b + (step0 + s) * depth * g.b_row + (unit0 + u) * side * g.b_col;
  };
  const auto add_bias = [&](std::int64_t s, std::int64_t u) {
    if constexpr (Biased) {
      std::int32_t* const sums = bias + u * side;
      simd::reg_store(sums, simd::add_bias_of_block(block(s, u), simd::reg_load(sums)));
    }
  };
  const auto pack = [&](std::int64_t s, std::int64_t u) {
    simd::pack_block_b(first(s, u), g.b_row, g.b_col, std::min(depth, g.k - (step0 + s) * depth),
                       std::min(side, g.n - (unit0 + u) * side), block(s, u));
    add_bias(s, u);
  };
  // In the order in which B lies in memory.
  if (g.b_col == 1) {
    constexpr std::int64_t wide = simd::line_blocks<T>;
    for (std::int64_t s = 0; s < steps; ++s) {
      // Of this step, what has whole lines; none where the step itself is not whole.
      const std::int64_t whole = (step0 + s + 1) * depth > g.k ? 0 : g.n / side - unit0;
      std::int64_t u = 0;
      for (; u + wide <= std::min(units, whole); u += wide) {
        simd::pack_line_of_blocks_b(first(s, u), g.b_row, block(s, u), steps * simd::block_bytes);
        for (std::int64_t q = u; q < u + wide; ++q) {
          add_bias(s, q);
        }
      }
      for (; u < units; ++u) {
        pack(s, u);
      }
    }
  } else {
    for (std::int64_t u = 0; u < units; ++u) {
      for (std::int64_t s = 0; s < steps; ++s) {
        pack(s, u);
      }
    }
  }
}

/// By instructions that add up groups.
template <class T>
struct group_unit {
  static constexpr bool biased = std::same_as<T, std::int8_t>;
  static constexpr int rows = 1;   ///< C has to have a multiple of so many in a block
  static constexpr int units = 3;  ///< columns of a block, in units of sixteen; one panel: as many
  static constexpr narrow_blocking blocking{};

  static constexpr int units_for(std::int64_t) { return units; }

  struct scope {};

  static void multiply(const narrow_block<T>& block) {
    constexpr auto kernels = []<int... L>(std::integer_sequence<int, L...>) {
      return std::array{std::array<void (*)(const narrow_block<T>&), 3>{
          &narrow_registers<T, 1 << L, 1>, &narrow_registers<T, 1 << L, 2>,
          &narrow_registers<T, 1 << L, 3>}...};
    }(std::make_integer_sequence<int, 4>{});
    for (int row = 0; row < block.rows;) {
      const int panel = row / simd::block_side;
      const int line = row % simd::block_side;
      int size = 3;
      while ((1 << size) > block.rows - row) {
        --size;
      }
      narrow_block<T> now = block;
      now.a += panel * block.steps * simd::block_bytes + line * 64;
      now.c += row * block.c_row;
      kernels[static_cast<std::size_t>(size)][static_cast<std::size_t>(block.units - 1)](now);
      row += 1 << size;
    }
  }
};

#if ASHLAR_DETAIL_TILE_UNIT
/// By the tile unit.
template <class T>
struct tile_unit {
  static constexpr bool biased = false;
  static constexpr int rows = simd::block_side;
  static constexpr int units = 4;
  /// Two panels of A fill two thirds of the first-level cache and stay there, because B streams
  /// past it from the second level, of which it takes half. C is read and written with its own
  /// stride, once in 512 of K: deeper blocks lose more by A than they save by C.
  static constexpr narrow_blocking blocking{.steps = 16, .units = 64};

  static constexpr int units_for(std::int64_t panels) { return panels == 1 ? 4 : 2; }

  using scope = simd::tile_unit_scope;

  static void multiply(const narrow_block<T>& block) {
    const std::int64_t step = block.steps * simd::block_bytes;
    const simd::tile_operands<T> o{.a = block.a,
                                   .a_panel = step,
                                   .b = block.b,
                                   .b_unit = step,
                                   .steps = block.steps,
                                   .c = block.c,
                                   .c_row = block.c_row,
                                   .from_zero = block.from_zero};
    if (block.rows > simd::block_side) {
      block.units == 2 ? simd::tile_product<T, 2, 2>(o) : simd::tile_product<T, 2, 1>(o);
      return;
    }
    switch (block.units) {
      case 1:
        return simd::tile_product<T, 1, 1>(o);
      case 2:
        return simd::tile_product<T, 1, 2>(o);
      case 3:
        return simd::tile_product<T, 1, 3>(o);
      default:
        return simd::tile_product<T, 1, 4>(o);
    }
  }
};
#endif

struct narrow_packed;

/// On the calling thread. Every element of C adds up steps in the order of K, zeros filling up the
/// last one, whatever M and N are.
template <class Unit, class T>
void narrow_multiply(const gemm_args<T, simd::group_sum<T>>& g) {
  using R = simd::group_sum<T>;
  constexpr narrow_blocking blocking = Unit::blocking;
  constexpr std::int64_t side = simd::block_side;
  constexpr std::int64_t depth = simd::step_size<T>;
  const std::int64_t steps = ceil_div(g.k, depth);
  const std::int64_t units = ceil_div(g.n, side);
  const std::int64_t k_blocks = ceil_div(steps, blocking.steps);
  const std::int64_t n_blocks = ceil_div(units, blocking.units);
  const std::int64_t block_steps = ceil_div(steps, k_blocks);
  const std::int64_t block_units = ceil_div(units, n_blocks);
  const std::int64_t panels = std::min<std::int64_t>(ceil_div(g.m, side), 2);
  const int strip = Unit::units_for(panels);

  // [B | A | bias | a block of C for what is not whole]
  const std::int64_t b_bytes = block_steps * block_units * simd::block_bytes;
  const std::int64_t a_bytes = block_steps * panels * simd::block_bytes;
  const std::int64_t bias_bytes = block_units * side * 4;
  const std::int64_t stage_row = Unit::units * side;
  auto* const packed_b = gemm_scratch<std::byte, narrow_packed>(b_bytes + a_bytes + bias_bytes +
                                                                2 * side * stage_row * 4);
  std::byte* const packed_a = packed_b + b_bytes;
  auto* const bias = reinterpret_cast<std::int32_t*>(packed_a + a_bytes);
  auto* const stage = reinterpret_cast<R*>(packed_a + a_bytes + bias_bytes);

  const typename Unit::scope configured{};
  static_cast<void>(configured);
  for (std::int64_t jb = 0; jb < n_blocks; ++jb) {
    const std::int64_t unit0 = gemm_cut(units, n_blocks, jb);
    const std::int64_t unit1 = gemm_cut(units, n_blocks, jb + 1);
    for (std::int64_t kb = 0; kb < k_blocks; ++kb) {
      const std::int64_t step0 = gemm_cut(steps, k_blocks, kb);
      const std::int64_t now_steps = gemm_cut(steps, k_blocks, kb + 1) - step0;
      narrow_pack_b<Unit::biased>(g, step0, now_steps, unit0, unit1 - unit0, packed_b, bias);
      for (std::int64_t row = 0; row < g.m; row += panels * side) {
        const auto rows = static_cast<int>(std::min(panels * side, g.m - row));
        for (std::int64_t p = 0; p * side < rows; ++p) {
          narrow_pack_a<Unit::biased>(g, row + p * side, step0, now_steps,
                                      packed_a + p * now_steps * simd::block_bytes);
        }
        for (std::int64_t unit = unit0; unit < unit1; unit += strip) {
          const auto now_units = static_cast<int>(std::min<std::int64_t>(strip, unit1 - unit));
          const std::int64_t column = unit * side;
          const std::int64_t columns = std::min<std::int64_t>(now_units * side, g.n - column);
          narrow_block<T> block{.a = packed_a,
                                .b = packed_b + (unit - unit0) * now_steps * simd::block_bytes,
                                .steps = now_steps,
                                .bias = bias + (unit - unit0) * side,
                                .c = g.c + row * g.c_row + column * g.c_col,
                                .c_row = g.c_row,
                                .rows = rows,
                                .units = now_units,
                                .from_zero = kb == 0 && g.start == nullptr};
          const bool whole = g.c_col == 1 && columns == now_units * side && rows % Unit::rows == 0;
          if (whole) {
            Unit::multiply(block);
            continue;
          }
          R* const c = block.c;
          const auto each = [&](const auto& f) {
            for (std::int64_t i = 0; i < rows; ++i) {
              for (std::int64_t j = 0; j < columns; ++j) {
                f(stage[i * stage_row + j], c[i * g.c_row + j * g.c_col]);
              }
            }
          };
          if (!block.from_zero) {
            each([](R& staged, R& element) { staged = element; });
          }
          block.c = stage;
          block.c_row = stage_row;
          Unit::multiply(block);
          each([](R& staged, R& element) { element = staged; });
        }
      }
    }
  }
}

#endif

}  // namespace ashlar::chip::detail

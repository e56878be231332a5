// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// Products of float tiles in emitted source: the functions that compute them, and which loops of a
/// program are nothing but such products.
namespace ashlar::chip::source {

/// Follows `prelude`.
///
/// `product` copies a block of its right side to a panel that caches hold, and reads the left side
/// where it lies; while it computes it fetches the block that comes next. Sums stay in registers
/// for as long as a panel lasts.
inline constexpr std::string_view products = R"cpp(
  namespace {

#if defined(__AVX512F__)
#define TILE_LANES 16
#define TILE_ROWS 8
#define TILE_EACH_ROW(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
#else
#if defined(__AVX__)
#define TILE_LANES 8
#else
#define TILE_LANES 4
#endif
#define TILE_ROWS 4
#define TILE_EACH_ROW(F) F(0) F(1) F(2) F(3)
#endif
#if defined(__clang__)
#define TILE_FUSED
#else
#define TILE_FUSED __attribute__((optimize("O3", "fp-contract=fast")))
#endif
#define TILE_GET(i) lanes s##i##0 = *at(i, 0), s##i##1 = *at(i, TILE_LANES);
#define TILE_ADD(i) s##i##0 += x[i * rows + k] * y0, s##i##1 += x[i * rows + k] * y1;
#define TILE_PUT(i) *at(i, 0) = s##i##0, *at(i, TILE_LANES) = s##i##1;
  typedef float lanes __attribute__((vector_size(4 * TILE_LANES), aligned(4), may_alias, unused));
  [[maybe_unused]] inline constexpr int panel_width = 2 * TILE_LANES;
  [[maybe_unused]] inline constexpr int packed_width = 32;

  /// TILE_ROWS x panel_width of c[.., N] += x[.., depth] y[depth, ..], each sum in the order of k
  /// by multiply-adds where the machine has them. Rows of x lie `rows` apart, those of y `columns`.
  template <int N>
  TILE_FUSED void dot_rows(float* c, const float* x, i64 rows, const float* y, i64 columns,
                           i64 depth) {
#if defined(__clang__) && (defined(__FMA__) || defined(__ARM_FEATURE_FMA))
#pragma clang fp contract(fast)
#endif
    const auto at = [&](int m, int n) { return reinterpret_cast<lanes*>(c + m * N + n); };
    TILE_EACH_ROW(TILE_GET)
    for (i64 k = 0; k < depth; ++k) {
      const lanes y0 = *reinterpret_cast<const lanes*>(y + k * columns);
      const lanes y1 = *reinterpret_cast<const lanes*>(y + k * columns + TILE_LANES);
      TILE_EACH_ROW(TILE_ADD)
    }
    TILE_EACH_ROW(TILE_PUT)
  }

  /// c[M, N] += a[M, K] b[K, N]. `M` is a multiple of 8, `N` of 32.
  template <int M, int N, int K>
  void dot_tile(float* c, const float* a, const float* b) {
    for (int m = 0; m < M; m += TILE_ROWS) {
      for (int n = 0; n < N; n += panel_width) {
        dot_rows<N>(c + m * N + n, a + m * K, K, b + n, N, K);
      }
    }
  }

  /// Whether `product` can take all of a loop's rounds: what it multiplies begins inside of the
  /// views, goes on to the end of both, and rows of the left side lie in one piece.
  [[maybe_unused]] inline bool product_fits(const tile_argument& a, int a_rank, const i64* a_at,
                                            const tile_argument& b, int b_rank, const i64* b_at,
                                            i64 last) {
    const auto inside = [](const tile_argument& v, const i64* at, int axes) {
      for (int axis = 0; axis < axes; ++axis) {
        if (at[axis] < 0 || at[axis] >= v.extents[axis]) {
          return false;
        }
      }
      return true;
    };
    // Nobody packs what could be looped over; what begins outside adds nothing.
    return b.bits != 0 ||
           (a.extents[a_rank - 1] == last && b.extents[b_rank - 2] == last &&
            a.strides[a_rank - 1] == 1 && inside(a, a_at, a_rank) && inside(b, b_at, b_rank));
  }

  /// panel[depth, panel_width] = b[depth, columns], 0 to the right of it.
  [[maybe_unused]] inline void fill_panel(float* panel, const float* b, i64 down, i64 right,
                                          i64 depth, i64 columns) {
    if (columns < panel_width) {
      std::memset(panel, 0, static_cast<std::size_t>(depth * panel_width) * sizeof(float));
    }
    if (right != 1) {
      for (i64 n = 0; n < columns; ++n) {
        for (i64 k = 0; k < depth; ++k) {
          panel[k * panel_width + n] = b[k * down + n * right];
        }
      }
    } else if (columns == panel_width) {
      for (i64 k = 0; k < depth; ++k) {
        std::memcpy(panel + k * panel_width, b + k * down, panel_width * sizeof(float));
      }
    } else {
      for (i64 k = 0; k < depth; ++k) {
        std::memcpy(panel + k * panel_width, b + k * down,
                    static_cast<std::size_t>(columns) * sizeof(float));
      }
    }
  }

  /// Part `i` of `parts` of what lies in `lines` rows of `each` bytes, `apart` bytes from each
  /// other, comes nearer. Nothing is read by that: addresses may lie outside.
  [[maybe_unused]] inline void fetch(const float* from, i64 lines, int each, i64 apart, i64 i,
                                     i64 parts) {
    const auto at = reinterpret_cast<std::uintptr_t>(from);
    for (i64 line = lines * i / parts; line < lines * (i + 1) / parts; ++line) {
      for (int byte = 0; byte < each; byte += 64) {
        __builtin_prefetch(
            reinterpret_cast<const void*>(at + static_cast<std::uintptr_t>(line * apart + byte)), 0,
            2);
      }
    }
  }

  /// c[M, N] += the product from `a_at` and `b_at` on, to the end of both views. Rows outside of
  /// `a` stay as they are. Requires: `product_fits`. A `b` with bits is packed: panels of
  /// `packed_width` columns, one after the other, each with all rows.
  template <int M, int N>
  void product(float* c, const tile_argument& a, int a_rank, const i64* a_at,
               const tile_argument& b, int b_rank, const i64* b_at) {
    constexpr i64 round = 256;
    alignas(64) static thread_local float panels[round * N];
    alignas(64) static thread_local float rest[TILE_ROWS * round];
    const auto start = [](const tile_argument& v, int rank, const i64* at) {
      const auto* p = static_cast<const float*>(v.data);
      for (int axis = 0; axis < rank; ++axis) {
        p += at[axis] * v.strides[axis];
      }
      return p;
    };
    const auto least = [](i64 x, i64 y) { return x < y ? x : y; };
    const i64 below = a.strides[a_rank - 2];
    const i64 down = b.strides[b_rank - 2];
    const i64 right = b.strides[b_rank - 1];
    const i64 rows = least(M, a.extents[a_rank - 2] - a_at[a_rank - 2]);
    const i64 columns = least(N, b.extents[b_rank - 1] - b_at[b_rank - 1]);
    const i64 depth = a.extents[a_rank - 1] - a_at[a_rank - 1];
    if (rows <= 0 || columns <= 0) {
      return;
    }
    const bool packed = b.bits != 0;
    const float* const x = start(a, a_rank, a_at);
    const float* const y = packed ? static_cast<const float*>(b.data) + b_at[b_rank - 1] * depth
                                  : start(b, b_rank, b_at);
    const i64 groups = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const i64 all = groups * ((columns + panel_width - 1) / panel_width);
    for (i64 k = 0; k < depth; k += round) {
      const i64 deep = least(round, depth - k);
      const bool last = k + deep == depth;
      for (i64 n = 0; n < columns && !packed; n += panel_width) {
        fill_panel(panels + n * deep, y + k * down + n * right, down, right, deep,
                   least(panel_width, columns - n));
      }
      for (i64 n = 0; n < columns; n += panel_width) {
        const float* const panel =
            packed ? y + (n / packed_width * depth + k) * packed_width + n % packed_width
                   : panels + n * deep;
        for (i64 m = 0; m < rows; m += TILE_ROWS) {
          const i64 group = m / TILE_ROWS;
          if (packed) {
            const i64 after = n + packed_width;
            const float* const next = after < columns ? panel + depth * packed_width
                                      : last          ? y + N * depth
                                                      : y + (k + deep) * packed_width;
            fetch(next, deep, 4 * packed_width, 4 * packed_width, group, groups);
          } else if (right == 1) {
            fetch(last ? y + N : y + (k + deep) * down, deep, 4 * N, 4 * down,
                  n / panel_width * groups + group, all);
          }
          const float* from = x + m * below + k;
          i64 apart = below;
          if (m + TILE_ROWS > rows) {
            std::memset(rest, 0, sizeof rest);
            for (i64 i = 0; i < rows - m; ++i) {
              std::memcpy(rest + i * round, from + i * below,
                          static_cast<std::size_t>(deep) * sizeof(float));
            }
            from = rest;
            apart = round;
          }
          dot_rows<N>(c + m * N + n, from, apart, panel, packed ? packed_width : panel_width, deep);
        }
      }
    }
  }

  }  // namespace
)cpp";

/// Columns of a panel of what is packed for `product`.
inline constexpr int packed_width = 32;

namespace detail {

/// A sum that a loop carries: instruction `dot` adds a product of what `a` and `b` load.
struct looped_product {
  int dot, a, b;
};

/// The products of a loop that does nothing but add them up, in the order of what it carries: the
/// left sides go along their rows with the counter, the right sides down their columns, by whole
/// tiles. Empty for any other loop.
inline std::vector<looped_product> products_of_loop(const tile::program& p, int loop, int yield) {
  using tile::opcode;
  const int counter = loop + 1;
  const tile::instruction& step = p.at(p.operand(loop, 2));
  // A tile of two axes that the counter moves along axis `along`, and nothing else inside.
  const auto moves = [&](int v, int along) {
    const tile::instruction& x = p.at(v);
    if (v < loop || x.op != opcode::load || x.type.rank != 2 || x.value != 0 ||
        x.type.element != dtype::float32 || x.type.extent(along) != step.value) {
      return false;
    }
    for (int axis = 0; axis < x.count; ++axis) {
      const int at = p.operand(v, axis);
      if (axis == x.count - 2 + along ? at != counter : at > loop) {
        return false;
      }
    }
    return true;
  };
  std::vector<looped_product> found;
  const int carried = p.at(loop).count - 3;
  for (int k = 0; k < carried; ++k) {
    const int dot = p.operand(yield, k);
    if (dot < loop || p.at(dot).op != opcode::dot || p.operand(dot, 2) != counter + 1 + k) {
      return {};
    }
    const tile::tile_type& t = p.type_of(dot);
    const looped_product one{dot, p.operand(dot, 0), p.operand(dot, 1)};
    if (t.rank != 2 || t.element != dtype::float32 || t.extent(0) % 8 != 0 ||
        t.extent(1) % 32 != 0 || step.op != opcode::constant || !moves(one.a, 1) ||
        !moves(one.b, 0)) {
      return {};
    }
    found.push_back(one);
  }
  int others = 0;
  for (int i = counter + 1 + carried; i < yield; ++i) {
    others += p.at(i).op != opcode::load && p.at(i).op != opcode::dot ? 1 : 0;
    others += p.at(i).op == opcode::dot ? 1 : 0;
  }
  return others == carried ? found : std::vector<looped_product>{};
}

}  // namespace detail

/// The left side of the products whose right side is parameter `k` of a program, or -1.
///
/// It is there where the program reads `k` as nothing but that, in loops over all of the left
/// side's rows' elements, from columns that are a multiple of `packed_width`: then the parameter
/// may be packed, where the left side's rows lie in one piece.
inline int left_of_packable(const tile::program& p, int k) {
  using tile::opcode;
  const tile::structure inside(p);
  const auto whole_columns = [&](int v) {
    const tile::instruction& x = p.at(v);
    if (x.op != opcode::mul) {
      return false;
    }
    const tile::instruction& i = p.at(p.operand(v, 0));
    const tile::instruction& n = p.at(p.operand(v, 1));
    return (i.op == opcode::program_id && n.op == opcode::constant &&
            n.value % packed_width == 0) ||
           (n.op == opcode::program_id && i.op == opcode::constant && i.value % packed_width == 0);
  };
  int left = -1;
  int reads = 0;
  int known = 0;
  for (int i = 0; i < p.size; ++i) {
    const tile::instruction& x = p.at(i);
    const bool memory = tile::info(x.op).kind == tile::opcode_kind::memory;
    reads += memory && x.index == k ? 1 : 0;
    if (x.op != opcode::loop) {
      continue;
    }
    const tile::instruction& first = p.at(p.operand(i, 0));
    const tile::instruction& end = p.at(p.operand(i, 1));
    for (const detail::looped_product& s :
         detail::products_of_loop(p, i, tile::at(inside.first_yield, i))) {
      const tile::instruction& b = p.at(s.b);
      const int other = p.at(s.a).index;
      if (b.index == k && (left < 0 || left == other) && first.op == opcode::constant &&
          first.value == 0 && end.op == opcode::extent && end.index == other &&
          end.value == p.at(s.a).count - 1 && whole_columns(p.operand(s.b, b.count - 1))) {
        left = other;
        ++known;
      }
    }
  }
  return reads == known ? left : -1;
}

}  // namespace ashlar::chip::source

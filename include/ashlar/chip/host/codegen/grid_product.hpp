// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/execute.hpp"
#include "ashlar/chip/host/codegen/product.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/host/product.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

/// A whole grid of matrix products at once: the programs' tiles are the blocks of one product,
/// which the blocked and packed kernel computes better than any of them alone. Every element adds
/// up in the same order.
namespace ashlar::chip::host_codegen {

/// A program that is a product, with what comes before and after it element by element.
struct grid_product {
  bool found = false;
  int owner = -1;     ///< the loop
  int row_axis = -1;  ///< of the grid: rows of C are `program_id(row_axis) * M`
  int column_axis = -1;
  bool from_zero = false;  ///< what the loop begins with is zero
  int only_store = -1;     ///< what comes after is this store of the sum, and nothing else
};

namespace detail {

template <class Source>
constexpr grid_product find_grid_product() {
  using tile::opcode;
  constexpr const tile::program& p = facts<Source>::code;
  grid_product g;
  // The one region is the loop.
  for (int i = 0; i < p.size; i = facts<Source>::structure.after(p, i)) {
    if (info(p.at(i).op).regions > 0) {
      if (g.owner >= 0) {
        return g;
      }
      g.owner = i;
    }
  }
  if (g.owner < 0 || !facts<Source>::product_of(g.owner).found) {
    return g;
  }
  const product_loop l = facts<Source>::product_of(g.owner);
  if (p.at(l.a).value != 0 || p.at(l.b).value != 0) {
    return g;  // what lies outside of A or B must add nothing
  }
  // Which axes of the grid a value depends on (bits 0 to 2), and whether on the sum (bit 3).
  std::array<std::uint8_t, tile::program::max_instructions> on{};
  constexpr std::uint8_t sum_bit = 8;
  const auto bits = [&](int v) -> std::uint8_t& { return on[static_cast<std::size_t>(v)]; };
  const int after = facts<Source>::structure.after(p, g.owner);
  for (int i = 0; i < p.size; i = i == g.owner ? after : i + 1) {
    if (p.at(i).op == opcode::program_id) {
      bits(i) = static_cast<std::uint8_t>(1 << p.at(i).index);
    }
    for (const tile::value_id o : p.operands(i)) {
      bits(i) = static_cast<std::uint8_t>(bits(i) | bits(o));
    }
    if (i == g.owner) {
      bits(i) = sum_bit;
    }
  }
  // `program_id(axis) * extent`: the axis, else -1.
  const auto axis_of = [&](int v, std::int64_t extent) {
    if (p.at(v).op != opcode::mul) {
      return -1;
    }
    for (int k = 0; k < 2; ++k) {
      const tile::instruction& id = p.at(p.operand(v, k));
      const tile::instruction& factor = p.at(p.operand(v, 1 - k));
      if (id.op == opcode::program_id && factor.op == opcode::constant && factor.value == extent) {
        return static_cast<int>(id.index);
      }
    }
    return -1;
  };
  const tile::tile_type c = p.type_of(g.owner + 2);
  const int row = p.operand(l.a, p.at(l.a).count - 2);
  const int column = p.operand(l.b, p.at(l.b).count - (l.turned ? 2 : 1));
  g.row_axis = axis_of(row, c.extent(0));
  g.column_axis = axis_of(column, c.extent(1));
  if (g.row_axis < 0 || g.column_axis < 0 || g.row_axis == g.column_axis) {
    return g;
  }
  const auto alike = static_cast<std::uint8_t>((1 << g.row_axis) | (1 << g.column_axis));
  const auto same_for_all = [&](int v) { return (bits(v) & alike) == 0; };
  for (const int load : {l.a, l.b}) {
    for (int k = 0; k < p.at(load).count - 2; ++k) {
      if (!same_for_all(p.operand(load, k))) {
        return g;
      }
    }
  }
  for (int k = 0; k < 3; ++k) {
    if (!same_for_all(p.operand(g.owner, k))) {
      return g;
    }
  }
  for (int i = 0; i < g.owner; ++i) {
    if (info(p.at(i).op).effect) {
      return g;
    }
  }
  // What comes after may not mix elements of the sum: those outside are never computed.
  int dependent = 0;
  for (int i = after; i < p.size; ++i) {
    const tile::instruction& x = p.at(i);
    const auto kind = info(x.op).kind;
    if (x.op == opcode::store) {
      const int n = x.count;
      if ((bits(p.operand(i, 0)) & sum_bit) == 0 || p.type_of(p.operand(i, 0)).rank != 2 ||
          p.operand(i, n - 2) != row || p.operand(i, n - 1) != column) {
        return g;
      }
      for (int k = 1; k < n - 2; ++k) {
        if (!same_for_all(p.operand(i, k)) || (bits(p.operand(i, k)) & sum_bit) != 0) {
          return g;
        }
      }
      const bool plain = p.at(p.operand(i, 0)).op == opcode::result;
      g.only_store = dependent == 0 && plain ? i : -1;
      ++dependent;
    } else if (info(x.op).effect || (kind == tile::opcode_kind::memory && x.op != opcode::load)) {
      return g;
    } else if (x.op != opcode::result && (bits(i) & sum_bit) != 0) {
      const bool each = kind == tile::opcode_kind::unary || kind == tile::opcode_kind::binary ||
                        kind == tile::opcode_kind::compare || kind == tile::opcode_kind::ternary;
      if (!each || x.type.rank != 2) {
        return g;
      }
    }
  }
  if (dependent != 1) {
    g.only_store = -1;
  } else if (g.only_store >= 0) {
    for (const tile::value_id o : p.operands(g.only_store).subspan(1)) {
      g.only_store = o < g.owner ? g.only_store : -1;
    }
  }
  int start = p.operand(g.owner, 3);
  while (p.at(start).op == opcode::broadcast) {
    start = p.operand(start, 0);
  }
  g.from_zero = p.at(start).op == opcode::constant && p.at(start).value == 0;
  g.found = dependent > 0;
  return g;
}

template <class Source>
inline constexpr grid_product grid_product_of = find_grid_product<Source>();

/// One plane of the grid: the programs that share A, B and C.
template <class T>
struct product_plane {
  product_operand<T> a, b;
  std::int64_t rows, columns;  ///< of C that are computed
  std::int64_t depth;
  bool rounds_beyond;  ///< the last round reaches beyond A and B, and adds zeros
  bool fits = false;   ///< else programs run one by one
};

/// First and last byte of a view.
inline std::pair<const std::byte*, const std::byte*> bytes_of(const tile::argument& a) {
  std::int64_t low = 0;
  std::int64_t high = static_cast<std::int64_t>(size_of(a.element));
  for (int k = 0; k < a.rank; ++k) {
    const auto axis = static_cast<std::size_t>(k);
    const std::int64_t span = std::max<std::int64_t>(a.extents[axis] - 1, 0) * a.strides[axis] *
                              static_cast<std::int64_t>(size_of(a.element));
    (span < 0 ? low : high) += span;
  }
  return {a.data + low, a.data + high};
}
inline bool apart(const tile::argument& x, const tile::argument& y) {
  const auto p = bytes_of(x);
  const auto q = bytes_of(y);
  return p.second <= q.first || q.second <= p.first;
}

template <class Source>
class product_grid {
  static constexpr const tile::program& code = facts<Source>::code;
  static constexpr grid_product g = grid_product_of<Source>;
  static constexpr product_loop l = facts<Source>::product_of(g.owner);
  static constexpr tile::tile_type c_type = code.type_of(g.owner + 2);
  static constexpr int M = c_type.extent(0);
  static constexpr int N = c_type.extent(1);
  static constexpr int K = code.type_of(l.a).extent(1);
  static constexpr int after = facts<Source>::structure.after(code, g.owner);
  static constexpr auto row_axis = static_cast<std::size_t>(g.row_axis);
  static constexpr auto column_axis = static_cast<std::size_t>(g.column_axis);
  static constexpr std::size_t plane_axis = 3 - row_axis - column_axis;
  using T = scalar_of<code.type_of(l.a).element>;
  using R = scalar_of<c_type.element>;
  struct scratch;

 public:
  product_grid(const tile::grid& grid, std::span<const tile::argument> arguments)
      : grid_(grid), arguments_(arguments.data()) {}

  void run() const {
    if (grid_[0] == 0 || grid_[1] == 0 || grid_[2] == 0) {
      return;
    }
    // Many planes are shared among threads; of few, each.
    const std::int64_t planes = grid_[plane_axis];
    const bool many = planes >= host_threads();
    parallel_for(many ? planes : 1, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = many ? begin : 0; n < (many ? end : planes); ++n) {
        run_plane(n);
      }
    });
  }

 private:
  [[nodiscard]] tile::grid place(std::int64_t row, std::int64_t column, std::int64_t plane) const {
    tile::grid at{};
    at[row_axis] = row;
    at[column_axis] = column;
    at[plane_axis] = plane;
    return at;
  }

  /// Calls `f(frame)` for each program of a part of a plane, with what comes before the loop done.
  template <class F>
  void each_program(std::int64_t plane, std::int64_t row, std::int64_t rows, std::int64_t column,
                    std::int64_t columns, const F& f) const {
    parallel_for(rows * columns, facts<Source>::grain, [&](std::int64_t begin, std::int64_t end) {
      with_frame<Source>(arguments_, grid_, [&](frame<Source>& now) ASHLAR_TILE_PROGRAM {
        for (std::int64_t n = begin; n < end; ++n) {
          const std::int64_t i = row + n / columns;
          const std::int64_t j = column + n % columns;
          now.place = place(i, j, plane);
          run_region<Source, 0, g.owner>(now);
          f(now, i, j);
        }
      });
    });
  }

  [[nodiscard]] product_plane<T> plan(frame<Source>& f) const {
    run_region<Source, 0, g.owner>(f);
    const auto operand = [&]<int Load>(std::integral_constant<int, Load>) {
      constexpr int lead = code.at(Load).count - 2;
      return [&]<int... I>(std::integer_sequence<int, I...>) {
        return product_operand<T>(f.arguments[code.at(Load).index], T(0),
                                  std::array<std::int64_t, static_cast<std::size_t>(lead)>{
                                      static_cast<operand_slot<Source, Load, I>&>(f).x.value...});
      }(std::make_integer_sequence<int, lead>{});
    };
    product_plane<T> p{operand(std::integral_constant<int, l.a>{}),
                       operand(std::integral_constant<int, l.b>{}),
                       0,
                       0,
                       0,
                       false};
    if constexpr (l.turned) {
      p.b.turn();
    }
    const std::int64_t first = static_cast<operand_slot<Source, g.owner, 0>&>(f).x.value;
    const std::int64_t end = static_cast<operand_slot<Source, g.owner, 1>&>(f).x.value;
    if (static_cast<operand_slot<Source, g.owner, 2>&>(f).x.value != K || first != 0 ||
        p.a.columns != p.b.rows || end > p.a.columns || p.a.rows == 0 || p.b.columns == 0) {
      return p;
    }
    const std::int64_t rounds = end > 0 ? (end - 1) / K + 1 : 0;
    p.depth = std::min(rounds * K, p.a.columns);
    p.rounds_beyond = rounds * K > p.depth;
    p.rows = std::min(p.a.rows, grid_[row_axis] * M);
    p.columns = std::min(p.b.columns, grid_[column_axis] * N);
    p.fits = true;
    // Where a view that is written has more rows or columns than A and B, those are sums, too.
    for (int k = 0; k < code.parameter_count; ++k) {
      const tile::argument& a = arguments_[k];
      if (a.rank < 2 || !code.parameter_at(k).written) {
        continue;
      }
      const auto last = static_cast<std::size_t>(a.rank - 1);
      p.fits = p.fits && std::min(a.extents[last - 1], grid_[row_axis] * M) <= p.rows &&
               std::min(a.extents[last], grid_[column_axis] * N) <= p.columns;
    }
    return p;
  }

  void run_plane(std::int64_t plane) const {
    product_plane<T> p{};
    const tile::argument* result = nullptr;
    std::int64_t from_first = 0;
    with_frame<Source>(arguments_, grid_, [&](frame<Source>& f) ASHLAR_TILE_PROGRAM {
      f.place = place(0, 0, plane);
      p = plan(f);
      if constexpr (g.only_store >= 0) {
        const tile::argument& y = f.arguments[code.at(g.only_store).index];
        bool inside = true;
        [&]<int... I>(std::integer_sequence<int, I...>) {
          ((inside =
                inside && static_cast<operand_slot<Source, g.only_store, I + 1>&>(f).x.value >= 0 &&
                static_cast<operand_slot<Source, g.only_store, I + 1>&>(f).x.value < y.extents[I],
            from_first +=
            static_cast<operand_slot<Source, g.only_store, I + 1>&>(f).x.value * y.strides[I]),
           ...);
        }(std::make_integer_sequence<int, code.at(g.only_store).count - 3>{});
        if (inside && apart(y, f.arguments[code.at(l.a).index]) &&
            apart(y, f.arguments[code.at(l.b).index])) {
          result = &y;
        }
      }
    });
    if (!p.fits) {
      each_program(plane, 0, grid_[row_axis], 0, grid_[column_axis],
                   [](frame<Source>& f, std::int64_t, std::int64_t) {
                     run_region<Source, g.owner, facts<Source>::size>(f);
                   });
      return;
    }
    if (result != nullptr) {
      const auto last = static_cast<std::size_t>(result->rank - 1);
      p.rows = std::min(p.rows, result->extents[last - 1]);
      p.columns = std::min(p.columns, result->extents[last]);
      multiply(p, plane, 0, 0, p.rows, p.columns, reinterpret_cast<R*>(result->data) + from_first,
               result->strides[last - 1], result->strides[last]);
      return;
    }
    // In parts, so that memory for sums has a bound.
    constexpr std::int64_t most_rows = std::max(2048 / M, 1);
    constexpr std::int64_t most_columns = std::max(2048 / N, 1);
    for (std::int64_t i = 0; i < grid_[row_axis]; i += most_rows) {
      for (std::int64_t j = 0; j < grid_[column_axis]; j += most_columns) {
        const std::int64_t down = std::min(most_rows, grid_[row_axis] - i);
        const std::int64_t across = std::min(most_columns, grid_[column_axis] - j);
        const std::int64_t row = across * N;
        R* const sums = chip::detail::gemm_scratch<R, scratch>(down * M * row);
        const std::int64_t rows = std::clamp<std::int64_t>(p.rows - i * M, 0, down * M);
        const std::int64_t columns = std::clamp<std::int64_t>(p.columns - j * N, 0, row);
        if (rows < down * M || columns < row) {
          std::fill_n(sums, down * M * row, R(0));
        }
        multiply(p, plane, i, j, rows, columns, sums, row, 1);
        each_program(
            plane, i, down, j, across, [&](frame<Source>& f, std::int64_t r, std::int64_t c) {
              const R* const from = sums + ((r - i) * M * row + (c - j) * N);
              R* const to = reinterpret_cast<R*>(static_cast<slot<Source, g.owner + 2>&>(f).x.part);
              for (int k = 0; k < M; ++k) {
                std::copy_n(from + k * row, N, to + k * N);
              }
              run_region<Source, after, facts<Source>::size>(f);
            });
      }
    }
  }

  /// `rows` x `columns` of C from the program (i, j) on.
  void multiply(const product_plane<T>& p, std::int64_t plane, std::int64_t i, std::int64_t j,
                std::int64_t rows, std::int64_t columns, R* to, std::int64_t row,
                std::int64_t column) const {
    if (rows <= 0 || columns <= 0) {
      return;
    }
    if constexpr (!g.from_zero) {
      each_program(plane, i, (rows - 1) / M + 1, j, (columns - 1) / N + 1,
                   [&](frame<Source>& f, std::int64_t r, std::int64_t c) {
                     const std::int64_t y = (r - i) * M;
                     const std::int64_t x = (c - j) * N;
                     const R* const from = reinterpret_cast<const R*>(
                         static_cast<operand_slot<Source, g.owner, 3>&>(f).x.part);
                     for (std::int64_t k = 0; k < std::min<std::int64_t>(M, rows - y); ++k) {
                       for (std::int64_t q = 0; q < std::min<std::int64_t>(N, columns - x); ++q) {
                         to[(y + k) * row + (x + q) * column] = from[k * N + q];
                       }
                     }
                   });
    }
    product<order_of<Source>, T>({.m = rows,
                                  .n = columns,
                                  .k = p.depth,
                                  .a = p.a.data + i * M * p.a.row,
                                  .a_row = p.a.row,
                                  .a_col = p.a.column,
                                  .b = p.b.data + j * N * p.b.column,
                                  .b_row = p.b.row,
                                  .b_col = p.b.column,
                                  .c = to,
                                  .c_row = row,
                                  .c_col = column,
                                  .start = g.from_zero ? nullptr : to,
                                  .start_row = row,
                                  .start_col = column});
    if (p.rounds_beyond) {  // 0 * 0 makes 0 of -0
      for (std::int64_t k = 0; k < rows; ++k) {
        for (std::int64_t q = 0; q < columns; ++q) {
          to[k * row + q * column] += R(0);
        }
      }
    }
  }

  tile::grid grid_;
  const tile::argument* arguments_;
};

}  // namespace detail

}  // namespace ashlar::chip::host_codegen

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/chip/npu/detail/runs.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/functions.hpp"

/// Vector instructions whose elements depend on one another: indices, reductions, scans.

namespace ashlar::chip::npu_isa::detail {

/// Gather and scatter: calls `f(i, j, place)` with the byte that the index of (i, j) leads to in
/// `table`, -1 where the index is outside of its `depth` places.
template <class F>
void for_each_indexed(const scratchpad& pad, const job& w, const resolved_operand& table,
                      const F& f) {
  const bool along_rows = w.i->axis == 0;
  for (std::int64_t i = 0; i < w.rows; ++i) {
    for (std::int64_t j = 0; j < w.cols; ++j) {
      const std::int64_t n =
          read_integer(pad.at(w.b.base + i * w.b.row_step + j * w.b.col_step), element::i32);
      const std::int64_t row = along_rows ? n : i;
      const std::int64_t col = along_rows ? j : n;
      f(i, j,
        n < 0 || n >= w.depth ? -1 : table.base + row * table.row_step + col * table.col_step);
    }
  }
}

inline void run_gather(scratchpad& pad, const job& w) {
  const auto size = static_cast<std::size_t>(size_of(w.i->type));
  for_each_indexed(pad, w, w.a, [&](std::int64_t i, std::int64_t j, std::int64_t place) {
    std::byte* out = pad.at(w.dst.base + i * w.dst.row_step + j * w.dst.col_step);
    if (place < 0) {
      std::memcpy(out, &w.i->imm, size);
    } else {
      std::memmove(out, pad.at(place), size);
    }
  });
}

template <class T>
void run_scatter(scratchpad& pad, const job& w) {
  const element e = w.i->type;
  const auto size = static_cast<std::size_t>(size_of(e));
  for_each_indexed(pad, w, w.dst, [&](std::int64_t i, std::int64_t j, std::int64_t place) {
    if (place < 0) {
      return;
    }
    const std::byte* from = pad.at(w.a.base + i * w.a.row_step + j * w.a.col_step);
    if (w.i->op == opcode::v_scatter) {
      std::memmove(pad.at(place), from, size);
    } else {
      write_one<T>(pad.at(place), e,
                   tile::fn::add{}(read_one<T>(pad.at(place), e), read_one<T>(from, e)));
    }
  });
}

/// What a reduction or a scan does: its neutral element and its step.
template <class T, class F>
void with_combine(opcode op, element e, const F& f) {
  namespace fn = tile::fn;
  constexpr bool floats = std::is_floating_point_v<T>;
  const T infinity = std::numeric_limits<T>::infinity();
  const T high = floats ? infinity : static_cast<T>(largest_of(e));
  const T low = floats ? -infinity : static_cast<T>(e == element::u8 ? 0 : -largest_of(e) - 1);
  switch (op) {
    case opcode::v_sum:
    case opcode::v_scan_sum:
      return f(fn::add{}, T(0));
    case opcode::v_prod:
    case opcode::v_scan_prod:
      return f(fn::mul{}, T(1));
    case opcode::v_rmin:
    case opcode::v_scan_min:
      return f(fn::minimum{}, high);
    default:
      return f(fn::maximum{}, low);
  }
}

/// Element k goes to lane k mod 16; then lane i meets lane i + 8, i + 4, i + 2, i + 1 where that
/// has an element. Of no elements: the neutral one.
template <class T, class F>
T reduce_lanes(const T* x, std::int64_t n, const F& f, T neutral) {
  std::array<T, simd::lanes> lane;
  lane.fill(neutral);
  const auto used = static_cast<std::size_t>(std::min<std::int64_t>(n, simd::lanes));
  std::copy_n(x, used, lane.begin());
  for (std::int64_t k = simd::lanes; k < n; ++k) {
    T& l = lane[static_cast<std::size_t>(k % simd::lanes)];
    l = f(l, x[k]);
  }
  for (std::size_t half = simd::lanes / 2; half > 0; half /= 2) {
    for (std::size_t k = 0; k < half && k + half < used; ++k) {
      lane[k] = f(lane[k], lane[k + half]);
    }
  }
  return lane[0];
}

template <class T>
void run_reduction(scratchpad& pad, const job& w) {
  const bool along_cols = w.i->axis == 1;
  with_combine<T>(w.i->op, w.i->type, [&](const auto& f, T neutral) {
    std::vector<T> row(static_cast<std::size_t>(w.cols));
    std::vector<T> total(along_cols ? 0 : row.size(), neutral);
    for (std::int64_t i = 0; i < w.rows; ++i) {
      read_run(pad, w.a, i, 0, w.cols, row.data());
      if (!along_cols) {
        for (std::size_t k = 0; k < row.size(); ++k) {
          total[k] = i == 0 ? row[k] : f(total[k], row[k]);
        }
        continue;
      }
      T result = neutral;
      if (w.i->mode == 0) {
        result = reduce_lanes(row.data(), w.cols, f, neutral);
      } else {
        for (std::size_t k = 0; k < row.size(); ++k) {
          result = k == 0 ? row[k] : f(result, row[k]);
        }
      }
      write_run(pad, w.dst, i, 0, 1, &result);
    }
    if (!along_cols) {
      write_run(pad, w.dst, 0, 0, w.cols, total.data());
    }
  });
}

template <class T>
void run_scan(scratchpad& pad, const job& w) {
  const bool along_cols = w.i->axis == 1;
  with_combine<T>(w.i->op, w.i->type, [&](const auto& f, T) {
    std::vector<T> row(static_cast<std::size_t>(w.cols));
    std::vector<T> total(row.size());
    for (std::int64_t i = 0; i < w.rows; ++i) {
      read_run(pad, w.a, i, 0, w.cols, row.data());
      for (std::size_t k = 0; k < row.size(); ++k) {
        if (along_cols) {
          row[k] = k == 0 ? row[k] : f(row[k - 1], row[k]);
        } else {
          row[k] = total[k] = i == 0 ? row[k] : f(total[k], row[k]);
        }
      }
      write_run(pad, w.dst, i, 0, w.cols, row.data());
    }
  });
}

/// The first of the largest (smallest) elements; a NaN counts as larger (smaller) than any number.
template <class T>
void run_arg(scratchpad& pad, const job& w) {
  const bool along_cols = w.i->axis == 1;
  const bool largest = w.i->op == opcode::v_argmax;
  const std::int64_t lines = along_cols ? w.rows : w.cols;
  const std::int64_t length = along_cols ? w.cols : w.rows;
  for (std::int64_t line = 0; line < lines; ++line) {
    std::int64_t best = 0;
    T best_value{};
    for (std::int64_t k = 0; k < length; ++k) {
      T x{};
      read_run(pad, w.a, along_cols ? line : k, along_cols ? k : line, 1, &x);
      const bool better =
          best_value == best_value && (x != x || (largest ? x > best_value : x < best_value));
      if (k == 0 || better) {
        best = k;
        best_value = x;
      }
    }
    write_run(pad, w.dst, along_cols ? line : 0, along_cols ? 0 : line, 1, &best);
  }
}

}  // namespace ashlar::chip::npu_isa::detail

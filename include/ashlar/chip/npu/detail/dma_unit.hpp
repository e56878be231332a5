// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "ashlar/chip/npu/detail/footprint.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/detail/runs.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/report.hpp"
#include "ashlar/tile/functions.hpp"

namespace ashlar::chip::npu_isa::detail {

/// A transfer that was issued: its box, clipped to the global view.
struct dma_transfer {
  job w;
  std::int64_t request = 0;  ///< cycle in which its first byte can move
  std::int64_t first_col = 0, last_col = 0;
  std::vector<std::int64_t> rows;  ///< global row of each row of the box, -1 where there is none
  std::vector<footprint> touched;  ///< bytes of global memory
  std::int64_t runs = 0, run_bytes = 0;
  std::size_t memory = 0;  ///< which region it is in

  [[nodiscard]] std::int64_t bytes() const { return runs * run_bytes; }
};

/// Clips the box and finds the bytes of global memory that it touches.
///
/// Throws: `out_of_bounds` where these are in no region, `misaligned`.
/// Requires: the index operand lies in the scratchpad.
inline dma_transfer issue(const program& p, const job& w, const scratchpad& pad,
                          std::span<const region> memory) {
  dma_transfer t;
  t.w = w;
  const std::int64_t size = size_of(w.i->type);
  t.rows.assign(static_cast<std::size_t>(w.rows), -1);
  std::int64_t valid = 0;
  bool in_order = true;  // the rows that exist follow one after the other
  for (std::int64_t i = 0; i < w.rows; ++i) {
    std::int64_t row = 0;
    if (w.b.used) {
      row = read_integer(pad.at(w.b.base + i * w.b.row_step), element::i32);
    } else if (__builtin_add_overflow(w.origin[0], i, &row)) {
      continue;
    }
    if (row >= 0 && row < w.extents[0]) {
      const auto before = static_cast<std::size_t>(i) - 1;
      in_order = in_order && (valid == 0 || (t.rows[before] >= 0 && t.rows[before] == row - 1));
      t.rows[static_cast<std::size_t>(i)] = row;
      ++valid;
    }
  }
  // Column j of the box is column origin + j of the view.
  const std::int64_t origin = w.b.used ? 0 : w.origin[1];
  const std::int64_t end = std::min(w.extents[1], std::int64_t{1} << 62);
  t.first_col = t.last_col = w.cols;
  if (origin < end && origin > -w.cols) {
    t.first_col = std::max<std::int64_t>(0, -origin);
    t.last_col = std::clamp(end - origin, t.first_col, w.cols);
  }
  const std::int64_t cols = t.last_col - t.first_col;
  if (valid == 0 || cols == 0) {
    return t;
  }

  const auto no_place = [&](std::int64_t first, std::int64_t last) {
    return out_of_bounds(place_of(p, w.index), "global", first, last);
  };
  constexpr std::int64_t most = std::int64_t{1} << 62;  // sums of two addresses fit
  std::int64_t row_step = 0;
  std::int64_t col_step = 0;
  if (__builtin_mul_overflow(w.strides[0], size, &row_step) ||
      __builtin_mul_overflow(w.strides[1], size, &col_step) || row_step < -most ||
      col_step < -most) {
    throw no_place(w.base, w.base);
  }
  const auto address = [&](std::int64_t row, std::int64_t col) {
    std::int64_t down = 0;
    std::int64_t right = 0;
    std::int64_t at = 0;
    if (__builtin_mul_overflow(row, row_step, &down) ||
        __builtin_mul_overflow(col, col_step, &right) || __builtin_add_overflow(down, right, &at) ||
        __builtin_add_overflow(at, w.base, &at) || at > most || at < -most) {
      throw no_place(w.base, w.base);
    }
    return at;
  };
  const std::int64_t col0 = origin + t.first_col;
  bool found = false;
  const auto touch = [&](std::int64_t row, std::int64_t count) {
    const std::int64_t corner = address(row, col0);
    static_cast<void>(address(row + count - 1, col0));
    static_cast<void>(address(row, col0 + cols - 1));
    static_cast<void>(address(row + count - 1, col0 + cols - 1));
    const footprint f = footprint::of_box(corner, count, cols, row_step, col_step, size);
    if (corner % size != 0) {
      throw misaligned(place_of(p, w.index), "global address", corner, size);
    }
    const auto holds = [&](const region& r) {
      const std::int64_t offset = f.first() - r.address;
      return f.first() >= r.address && offset <= static_cast<std::int64_t>(r.bytes.size()) &&
             f.last() - f.first() <= static_cast<std::int64_t>(r.bytes.size()) - offset;
    };
    if (!found || !holds(memory[t.memory])) {
      const auto r = std::find_if(memory.begin(), memory.end(), holds);
      if (r == memory.end() || found) {
        throw no_place(f.first(), f.last());
      }
      t.memory = static_cast<std::size_t>(r - memory.begin());
      found = true;
    }
    t.touched.push_back(f);
  };
  if (in_order) {
    touch(*std::find_if(t.rows.begin(), t.rows.end(), [](std::int64_t r) { return r >= 0; }),
          valid);
  } else {
    for (const std::int64_t row : t.rows) {
      if (row >= 0) {
        touch(row, 1);
      }
    }
  }
  if (col_step == size || cols == 1) {
    const bool one = in_order && (row_step == cols * size || valid == 1);
    t.runs = one ? 1 : valid;
    t.run_bytes = cols * size * (one ? valid : 1);
  } else if (in_order && row_step == size) {
    t.runs = cols;
    t.run_bytes = valid * size;
  } else {
    t.runs = valid * cols;
    t.run_bytes = size;
  }
  return t;
}

/// Computed as by the vector unit and rounded to the type.
template <class T>
void combine(opcode op, element e, std::byte* to, const std::byte* from) {
  namespace fn = tile::fn;
  const T a = read_one<T>(to, e);
  const T b = read_one<T>(from, e);
  const bool adds = op == opcode::store_add || op == opcode::store_rows_add;
  const bool larger = op == opcode::store_max || op == opcode::store_rows_max;
  write_one<T>(to, e, adds ? fn::add{}(a, b) : larger ? fn::maximum{}(a, b) : fn::minimum{}(a, b));
}

/// Moves the bytes of an issued transfer.
inline void move(const dma_transfer& t, scratchpad& pad, std::span<const region> memory) {
  const job& w = t.w;
  const bool load = is_load(w.i->op);
  const auto size = static_cast<std::size_t>(size_of(w.i->type));
  const std::int64_t col_step = w.strides[1] * static_cast<std::int64_t>(size);
  const std::int64_t origin = w.b.used ? 0 : w.origin[1];
  for (std::int64_t i = 0; i < w.rows; ++i) {
    const std::int64_t row = t.rows[static_cast<std::size_t>(i)];
    const std::int64_t first = row < 0 ? w.cols : t.first_col;
    const std::int64_t last = row < 0 ? w.cols : t.last_col;
    const auto inside = [&](std::int64_t j) {
      return pad.at(w.dst.base + i * w.dst.row_step + j * w.dst.col_step);
    };
    for (std::int64_t j = 0; load && j < w.cols; ++j) {
      j = j == first && first < last ? last : j;
      if (j < w.cols) {
        std::memcpy(inside(j), &w.i->imm, size);
      }
    }
    if (first >= last) {
      continue;
    }
    const region& r = memory[t.memory];
    std::byte* outside = r.bytes.data() + (w.base - r.address +
                                           row * w.strides[0] * static_cast<std::int64_t>(size) +
                                           (origin + first) * col_step);
    if (col_step == static_cast<std::int64_t>(size) && w.dst.col_step == col_step &&
        !is_combining(w.i->op)) {
      const std::size_t bytes = static_cast<std::size_t>(last - first) * size;
      load ? std::memcpy(inside(first), outside, bytes)
           : std::memcpy(outside, inside(first), bytes);
      continue;
    }
    for (std::int64_t j = first; j < last; ++j, outside += j < last ? col_step : 0) {
      if (load) {
        std::memcpy(inside(j), outside, size);
      } else if (!is_combining(w.i->op)) {
        std::memcpy(outside, inside(j), size);
      } else if (w.i->type == element::f64) {
        combine<double>(w.i->op, w.i->type, outside, inside(j));
      } else if (is_floating(w.i->type)) {
        combine<float>(w.i->op, w.i->type, outside, inside(j));
      } else {
        combine<std::int64_t>(w.i->op, w.i->type, outside, inside(j));
      }
    }
  }
}

}  // namespace ashlar::chip::npu_isa::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/number.hpp"
#include "ashlar/core/ceil_div.hpp"

namespace ashlar::chip::npu_isa::detail {

/// What an instruction costs its engine.
struct charge {
  std::int64_t cycles = 1;     ///< until the engine can start the next one
  std::int64_t latency = 0;    ///< from there to the result
  std::int64_t conflicts = 0;  ///< cycles of `cycles` that bank conflicts took
};

/// Counts cycles by the rules of docs/npu_isa.md, "Timing".
class timing {
 public:
  explicit timing(const npu_description& d) : d_(&d) {}

  [[nodiscard]] charge vector(const scratchpad& pad, const job& w) const {
    const opcode op = w.i->op;
    int widest = size_of(w.dst.type);
    for (const resolved_operand* o : {&w.a, &w.b, &w.c}) {
      widest = o->used ? std::max(widest, size_of(o->type)) : widest;
    }
    const std::int64_t lanes = std::max(1, d_->vector_bytes / widest);
    const std::int64_t halvings =
        static_cast<int>(std::bit_width(static_cast<std::uint64_t>(lanes))) - 1;
    const bool special = info_of(op).steps == cost::special;
    charge c;
    c.latency = special ? d_->special_latency : d_->vector_latency;

    // A box without gaps and repetitions is one long row.
    std::int64_t rows = w.rows;
    std::int64_t cols = w.cols;
    const auto dense = [&](const resolved_operand& o) {
      return !o.scratch || o.row_step == o.col_step * cols;
    };
    const bool across =
        is_reduction(op) || is_scan(op) || is_indexed(op) || op == opcode::v_transpose;
    const bool flat = !across && dense(w.dst) && dense(w.a) && dense(w.b) && dense(w.c);
    if (flat) {
      cols *= rows;
      rows = rows > 0 ? 1 : 0;
    }
    const std::int64_t steps = ceil_div(cols, lanes);
    const auto walk = [&](const resolved_operand& o, std::int64_t row_step, std::int64_t col_step) {
      return o.scratch ? sweeps(o.base, rows, cols, row_step, col_step, size_of(o.type), lanes) : 0;
    };
    c.cycles = rows * steps * (special ? d_->special_cycles : 1);
    if (is_reduction(op)) {
      if (w.i->axis == 1 && w.i->mode == 1) {
        c.cycles = ceil_div(rows, lanes) * cols;
      } else if (w.i->axis == 1) {
        c.cycles += rows * halvings;
      }
      c.conflicts = walk(w.a, w.a.row_step, w.a.col_step);
    } else if (is_indexed(op)) {
      c.conflicts = walk(w.b, w.b.row_step, w.b.col_step) + indexed_conflicts(pad, w, lanes);
      const resolved_operand& straight = op == opcode::v_gather ? w.dst : w.a;
      c.conflicts += walk(straight, straight.row_step, straight.col_step);
    } else if (op == opcode::v_transpose) {
      c.conflicts =
          walk(w.dst, w.dst.row_step, w.dst.col_step) + walk(w.a, w.a.col_step, w.a.row_step);
    } else {
      c.cycles *= is_scan(op) && w.i->axis == 1 ? 1 + halvings : 1;
      for (const resolved_operand* o : {&w.dst, &w.a, &w.b, &w.c}) {
        c.conflicts += walk(*o, o->row_step, o->col_step);
      }
    }
    c.cycles = std::max<std::int64_t>(1, c.cycles + c.conflicts);
    return c;
  }

  [[nodiscard]] charge matrix(const job& w) const {
    const std::int64_t um = d_->matrix_unit[0];
    const std::int64_t un = d_->matrix_unit[1];
    const std::int64_t uk = d_->matrix_unit[2];
    const std::int64_t m = ceil_div(w.rows, um);
    const std::int64_t n = ceil_div(w.cols, un);
    const std::int64_t k = ceil_div(w.depth, uk);
    const std::int64_t step = w.i->type == element::f64   ? 4 * std::int64_t{d_->matrix_cycles.f32}
                              : w.i->type == element::f32 ? d_->matrix_cycles.f32
                              : w.i->type == element::i8  ? d_->matrix_cycles.i8
                                                          : d_->matrix_cycles.f16;
    charge c;
    c.latency = d_->matrix_latency;
    // K is the outermost loop: a step waits for the one that wrote its accumulators before it.
    const std::int64_t round = m * n * step;
    c.cycles =
        k > 0 ? (k - 1) * std::max<std::int64_t>(round, m * n > 0 ? d_->matrix_latency : 0) + round
              : 0;
    const int size = size_of(w.i->type);
    c.conflicts = n * sweeps(w.a.base, w.rows, w.depth, w.a.row_step, w.a.col_step, size, uk) +
                  m * sweeps(w.b.base, w.depth, w.cols, w.b.row_step, w.b.col_step, size, un) +
                  k * sweeps(w.dst.base, w.rows, w.cols, w.dst.row_step, w.dst.col_step,
                             size_of(w.dst.type), un);
    c.cycles = std::max<std::int64_t>(1, c.cycles + c.conflicts);
    return c;
  }

  /// Cycles of the memory channel for runs of bytes: whole bursts each.
  [[nodiscard]] std::int64_t transfer(std::int64_t runs, std::int64_t run_bytes) const {
    const std::int64_t bursts = runs * ceil_div(run_bytes, d_->dma_burst_bytes);
    return ceil_div(bursts * d_->dma_burst_bytes, d_->dma_bytes_per_cycle);
  }

 private:
  /// Extra cycles of reading or writing `rows` rows in steps of `lanes` elements.
  [[nodiscard]] std::int64_t sweeps(std::int64_t base, std::int64_t rows, std::int64_t cols,
                                    std::int64_t row_step, std::int64_t col_step, int size,
                                    std::int64_t lanes) const {
    if (rows <= 0 || cols <= 0 || col_step == 0) {
      return 0;
    }
    const std::int64_t widest = std::min(lanes, cols) * size;
    if (col_step == size && widest + d_->bank_bytes <= period()) {
      return 0;
    }
    // Only the place within a period matters, and rows come back to the same few.
    std::vector<std::int64_t> known(static_cast<std::size_t>(period()), -1);
    std::int64_t total = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t at = base + i * row_step;
      const std::int64_t place = (at % period() + period()) % period();
      std::int64_t& extra = known[static_cast<std::size_t>(place)];
      if (extra < 0) {
        extra = 0;
        for (std::int64_t j = 0; j < cols; j += lanes) {
          extra += group(std::min(lanes, cols - j),
                         [&](std::int64_t e) { return at + (j + e) * col_step; });
        }
      }
      total += extra;
    }
    return total;
  }

  [[nodiscard]] std::int64_t indexed_conflicts(const scratchpad& pad, const job& w,
                                               std::int64_t lanes) const {
    const resolved_operand& table = w.i->op == opcode::v_gather ? w.a : w.dst;
    std::int64_t extra = 0;
    std::vector<std::int64_t> places;
    for (std::int64_t i = 0; i < w.rows; ++i) {
      for (std::int64_t j = 0; j < w.cols; ++j) {
        const std::int64_t n =
            read_integer(pad.at(w.b.base + i * w.b.row_step + j * w.b.col_step), element::i32);
        if (n >= 0 && n < w.depth) {
          places.push_back(table.base + (w.i->axis == 0 ? n : i) * table.row_step +
                           (w.i->axis == 0 ? j : n) * table.col_step);
        }
        if (j + 1 == w.cols || (j + 1) % lanes == 0) {
          extra += group(static_cast<std::int64_t>(places.size()),
                         [&](std::int64_t e) { return places[static_cast<std::size_t>(e)]; });
          places.clear();
        }
      }
    }
    return extra;
  }

  /// Cycles beyond the first that one step needs: a bank gives one of its words per cycle.
  template <class Place>
  [[nodiscard]] std::int64_t group(std::int64_t count, const Place& place) const {
    std::vector<std::int64_t> words;
    words.reserve(static_cast<std::size_t>(count));
    for (std::int64_t e = 0; e < count; ++e) {
      words.push_back(place(e) / d_->bank_bytes);
    }
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    std::vector<std::int64_t> used(static_cast<std::size_t>(d_->scratchpad_banks));
    std::int64_t most = 1;
    for (const std::int64_t word : words) {
      std::int64_t& n = used[static_cast<std::size_t>(word % d_->scratchpad_banks)];
      most = std::max(most, ++n);
    }
    return most - 1;
  }

  [[nodiscard]] std::int64_t period() const {
    return static_cast<std::int64_t>(d_->scratchpad_banks) * d_->bank_bytes;
  }

  const npu_description* d_;
};

}  // namespace ashlar::chip::npu_isa::detail

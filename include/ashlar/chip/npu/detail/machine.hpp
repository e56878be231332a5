// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/detail/dma_unit.hpp"
#include "ashlar/chip/npu/detail/engine.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/machine_state.hpp"
#include "ashlar/chip/npu/detail/matrix_unit.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/detail/scalar_unit.hpp"
#include "ashlar/chip/npu/detail/timing.hpp"
#include "ashlar/chip/npu/detail/vector_unit.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/report.hpp"

namespace ashlar::chip::npu_isa::detail {

/// The simulator: a clock that jumps from one event to the next.
///
/// An event is the start of an instruction on its engine, or the moment in which a transfer gets
/// the memory channel. Of all events that can happen the earliest does, the engine with the lowest
/// number first, so that equal inputs give equal runs.
class machine : machine_state {
 public:
  using machine_state::machine_state;

  run_report run() {
    while (step()) {
    }
    for (int u = 0; u < unit_count_; ++u) {
      const engine& e = units_[index(u)];
      report_.cycles = std::max({report_.cycles, e.free, e.drain});
      report_.engines.push_back(e.stats);
    }
    return std::move(report_);
  }

 private:
  // --- choosing the next event -----------------------------------------------------------------

  bool step() {
    std::int64_t best = never;
    int who = -1;
    bool moves = false;
    for (int u = 0; u < unit_count_; ++u) {
      const std::int64_t transfer = channel_time(u);
      const std::int64_t start = u == control_unit ? control_time() : start_time(u);
      if (std::min(transfer, start) < best) {
        best = std::min(transfer, start);
        who = u;
        moves = transfer <= start;
      }
    }
    if (who < 0) {
      if (!all_done()) {
        report_deadlock();
      }
      return false;
    }
    now_ = best;
    if (best > options_.cycle_limit || steps_ > options_.step_limit) {
      throw cycle_limit_reached(place_of(*p_, current(who, moves)), best);
    }
    if (moves) {
      move_next(who);
    } else if (who == control_unit) {
      run_control();
    } else {
      start_next(who);
    }
    return true;
  }

  [[nodiscard]] std::size_t current(int u, bool moves) const {
    const engine& e = units_[index(u)];
    return u == control_unit ? pc_ : moves ? e.issued.front().w.index : e.queue.front().w.index;
  }

  // --- the control engine ----------------------------------------------------------------------

  void run_control() {
    engine& e = units_[index(control_unit)];
    illegal_if(pc_ >= p_->code.size(), pc_, "the program ends without `halt`");
    const instruction& i = p_->code[pc_];
    ++steps_;
    const std::int64_t begin = e.free;
    e.free = now_ + 1;
    e.drain = e.free;
    ++e.clock.at[control_unit];
    const job w = resolve(d_, *p_, pc_, registers_);
    if (info_of(i.op).unit == unit_kind::any) {
      illegal_if(w.x < 0 || w.x >= d_.semaphores, pc_, "this machine has no such semaphore");
      illegal_if(w.y < 0 || w.y > 1'000'000, pc_, "a semaphore counts from 0 to 1000000");
    }
    if (i.unit != control_unit) {
      dispatch(i.unit, w, 0);
      ++pc_;
      return;
    }
    ++e.stats.instructions;
    e.stats.busy += 1;
    std::size_t next = pc_ + 1;
    switch (i.op) {
      case opcode::halt:
        halted_ = true;
        break;
      case opcode::li:
        set(i.rd, static_cast<std::int64_t>(i.imm));
        break;
      case opcode::s_load:
      case opcode::s_store:
        access_scratch(w);
        break;
      case opcode::jump:
        next = i.target;
        break;
      case opcode::beq:
        next = w.x == w.y ? i.target : next;
        break;
      case opcode::bne:
        next = w.x != w.y ? i.target : next;
        break;
      case opcode::blt:
        next = w.x < w.y ? i.target : next;
        break;
      case opcode::bge:
        next = w.x >= w.y ? i.target : next;
        break;
      case opcode::check:
        if (w.x == 0) {
          throw check_failed(place_of(*p_, pc_));
        }
        break;
      case opcode::barrier:
        open_barrier(w);
        break;
      case opcode::signal:
        semaphores_.give(w, e);
        break;
      case opcode::wait:
        e.stats.busy -= 1;
        e.stats.waiting += now_ + 1 - begin;
        semaphores_.take(w, e);
        break;
      default:
        set(i.rd, scalar_result(i, w.x, w.y));
    }
    pc_ = next;
  }

  void set(std::uint8_t rd, std::int64_t v) {
    if (rd != 0) {
      registers_[rd] = v;
    }
  }

  void dispatch(int u, const job& w, std::size_t barrier) {
    units_[index(u)].queue.push_back({w, now_ + 1, units_[index(control_unit)].clock, barrier});
  }

  void access_scratch(const job& w) {
    const bool load = w.i->op == opcode::s_load;
    check_scratch(d_, *p_, w);
    guard_.scratch_access(w, control_unit);
    guard_.check_written(w);
    const element type = w.i->type;
    if (load) {
      const std::byte* from = pad_.at(w.a.base);
      set(w.i->rd, type == element::f64 ? read_as<std::int64_t>(from)
                   : is_floating(type)  ? float_register(read_float(from, type))
                                        : read_integer(from, type));
    } else if (type == element::f64) {
      write_as(pad_.at(w.dst.base), w.x);
    } else if (is_floating(type)) {
      write_float(pad_.at(w.dst.base), type, register_float(w.x));
    } else {
      write_integer(pad_.at(w.dst.base), type, w.x);
    }
    if (!load) {
      pad_.mark(w.dst.bytes());
    }
  }

  // --- order between engines -------------------------------------------------------------------

  void open_barrier(const job& w) {
    illegal_if(w.i->imm >> unit_count_ != 0, w.index, "this machine has fewer engines");
    meetings_.push_back({});
    meetings_.back().mask = w.i->imm;
    for (int u = 1; u < unit_count_; ++u) {
      if (((w.i->imm >> u) & 1u) != 0) {
        dispatch(u, w, meetings_.size() - 1);
      }
    }
    if ((w.i->imm & 1u) != 0) {
      arrive(control_unit, meetings_.size() - 1);
    }
  }

  void arrive(int u, std::size_t which) {
    meeting& m = meetings_[which];
    units_[index(u)].at_barrier = true;
    m.since[index(u)] = now_;
    m.arrived |= std::uint64_t{1} << u;
    m.time = std::max(m.time, now_ + 1);
    m.clock.join(units_[index(u)].clock);
    if (m.arrived != m.mask) {
      return;
    }
    for (int v = 0; v < unit_count_; ++v) {
      if (((m.mask >> v) & 1u) == 0) {
        continue;
      }
      engine& e = units_[index(v)];
      e.at_barrier = false;
      e.free = std::max(e.free, m.time);
      e.drain = std::max(e.drain, e.free);
      e.clock.join(m.clock);
      ++e.clock.at[index(v)];
      e.stats.waiting += m.time - m.since[index(v)];
      const std::size_t at = v == control_unit ? pc_ : e.queue.front().w.index;
      record(at, v, "sync", m.since[index(v)], m.time - m.since[index(v)]);
      if (v != control_unit) {
        e.queue.pop_front();
        e.last_start = now_;
        ++e.stats.instructions;
      }
    }
  }

  // --- the other engines -----------------------------------------------------------------------

  void start_next(int u) {
    engine& e = units_[index(u)];
    const opcode op = e.queue.front().w.i->op;
    if (op == opcode::barrier) {
      e.clock.join(e.queue.front().clock);
      ++e.clock.at[index(u)];
      arrive(u, e.queue.front().barrier);
      return;
    }
    entry head = std::move(e.queue.front());
    e.queue.pop_front();
    e.last_start = now_;
    e.clock.join(head.clock);
    ++e.clock.at[index(u)];
    ++e.stats.instructions;
    const job& w = head.w;
    if (op == opcode::signal || op == opcode::wait) {
      const std::int64_t from = std::max(e.free, head.dispatched);
      e.free = now_ + 1;
      e.drain = std::max(e.drain, e.free);
      if (op == opcode::signal) {
        semaphores_.give(w, e);
      } else {
        semaphores_.take(w, e);
      }
      e.stats.waiting += e.free - from;
      record(w.index, u, "sync", from, e.free - from);
      return;
    }
    check_scratch(d_, *p_, w);
    if (kind_of(u) == unit_kind::dma) {
      issue_transfer(u, w);
    } else {
      compute(u, w);
    }
  }

  void compute(int u, const job& w) {
    engine& e = units_[index(u)];
    guard_.scratch_access(w, u);
    guard_.check_written(w);
    const charge cost = u == matrix_unit ? timing_.matrix(w) : timing_.vector(pad_, w);
    // The unit waits for results of its own that are still on their way.
    std::int64_t start = now_;
    std::erase_if(e.flight, [&](const in_flight& f) { return f.ready <= now_; });
    for (const in_flight& f : e.flight) {
      for (const resolved_operand* o : {&w.dst, &w.a, &w.b, &w.c}) {
        if (f.ready > start && overlap(f.bytes, o->bytes())) {
          start = f.ready;
        }
      }
    }
    report_.pipeline_stalls += start - now_;
    report_.bank_conflicts += cost.conflicts;
    if (u == matrix_unit) {
      run_matrix(pad_, w);
    } else {
      run_vector(pad_, w);
      tell(w);
    }
    guard_.mark_written(w);
    e.free = e.occupied = start + cost.cycles;
    e.drain = std::max(e.drain, e.free + cost.latency);
    e.flight.push_back({w.dst.bytes(), e.free + cost.latency});
    e.stats.busy += cost.cycles;
    record(w.index, u, "compute", start, cost.cycles);
  }

  void tell(const job& w) {
    if (w.i->op != opcode::v_print || !options_.print) {
      return;
    }
    printed x{w.i->imm, w.i->type, w.rows, w.cols};
    for (std::int64_t i = 0; i < w.rows; ++i) {
      for (std::int64_t j = 0; j < w.cols; ++j) {
        const std::byte* from = pad_.at(w.a.base + i * w.a.row_step + j * w.a.col_step);
        x.bytes.insert(x.bytes.end(), from, from + size_of(w.i->type));
      }
    }
    options_.print(x);
  }

  void issue_transfer(int u, const job& w) {
    engine& e = units_[index(u)];
    guard_.scratch_access(w, u);
    guard_.check_written(w.b.bytes(), w, "b");
    dma_transfer t = issue(*p_, w, pad_, memory_);
    for (const footprint& f : t.touched) {
      guard_.global_access(f, !is_load(w.i->op), u, w.index);
    }
    t.request = now_ + d_.dma_latency;
    e.free = now_ + 1;
    e.issued.push_back(std::move(t));
  }

  void move_next(int u) {
    engine& e = units_[index(u)];
    const dma_transfer t = std::move(e.issued.front());
    const bool full = e.issued.size() == static_cast<std::size_t>(d_.dma_outstanding);
    e.issued.pop_front();
    const opcode op = t.w.i->op;
    const bool twice = is_combining(op);  // reads, then writes
    const std::int64_t cycles =
        t.runs == 0 ? 0 : timing_.transfer(t.runs, t.run_bytes) * (twice ? 2 : 1);
    if (!is_load(op)) {
      guard_.check_written(t.w.dst.bytes(), t.w, "dst");
    }
    move(t, pad_, memory_);
    if (is_load(op)) {
      pad_.mark(t.w.dst.bytes());
      report_.bytes_loaded += t.bytes();
    } else {
      report_.bytes_stored += t.bytes();
    }
    const std::int64_t end = now_ + cycles;
    channel_free_ = end;
    report_.channel_cycles += cycles;
    e.stats.busy += cycles;
    e.drain = std::max(e.drain, end);
    e.free = full ? std::max(e.free, end) : e.free;
    record(t.w.index, u, "transfer", now_, cycles);
    for (const int unit : {vector_unit, matrix_unit}) {
      if (d_.copy_uses_compute && cycles > 0) {
        units_[index(unit)].occupied = end;
        record(t.w.index, unit, "copy uses compute", now_, cycles);
      }
    }
  }
};

}  // namespace ashlar::chip::npu_isa::detail

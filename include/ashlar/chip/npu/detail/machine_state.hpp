// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/detail/engine.hpp"
#include "ashlar/chip/npu/detail/guard.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/detail/scalar_unit.hpp"
#include "ashlar/chip/npu/detail/timing.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/report.hpp"
#include "ashlar/chip/npu/validate.hpp"

namespace ashlar::chip::npu_isa::detail {

/// What the simulator knows at one moment, and when each engine can go on.
class machine_state {
 public:
  machine_state(const npu_description& d, const program& p, std::span<const region> memory,
                std::span<const std::int64_t> arguments, const run_options& options)
      : d_(d),
        p_(&p),
        memory_(memory),
        options_(options),
        timing_(d_),
        pad_(d.scratchpad_bytes),
        unit_count_(first_dma_unit + d.dma_engines),
        semaphores_(d.semaphores),
        guard_(p, units_, pad_) {
    std::copy(arguments.begin(), arguments.end(), registers_.begin() + 1);
    for (std::size_t i = 0; i < p.code.size(); ++i) {
      if (const auto problem = problem_of(p.code[i]); !problem.empty()) {
        throw encoding_error(i, std::string(problem));
      }
      illegal_if(p.code[i].unit >= unit_count_, i, "this machine has no such DMA engine");
      illegal_if(uses(p.code[i].op, field::target) && p.code[i].target >= p.code.size(), i,
                 "the branch leads out of the program");
    }
    for (int u = 0; u < unit_count_; ++u) {
      units_[index(u)].stats.name = unit_name(u);
      if (options.timeline) {
        report_.timeline.name_lane(0, u, unit_name(u));
      }
    }
    halted_ = p.code.empty();
  }
  machine_state(const machine_state&) = delete;
  machine_state& operator=(const machine_state&) = delete;

 protected:
  static std::size_t index(int unit) { return static_cast<std::size_t>(unit); }

  void illegal_if(bool wrong, std::size_t at, const char* why) const {
    if (wrong) {
      throw illegal_instruction(place_of(*p_, at), why);
    }
  }

  [[nodiscard]] bool all_done() const {
    return halted_ && std::all_of(units_.begin(), units_.end(), [](const engine& e) {
             return e.queue.empty() && e.issued.empty();
           });
  }

  void report_deadlock() const {
    std::vector<place> stuck;
    if (!halted_) {
      stuck.push_back(place_of(*p_, pc_));
    }
    for (const engine& e : units_) {
      if (!e.queue.empty()) {
        stuck.push_back(place_of(*p_, e.queue.front().w.index));
      }
    }
    throw deadlock(std::move(stuck), now_);
  }

  /// When the unit's oldest transfer can have the memory channel.
  [[nodiscard]] std::int64_t channel_time(int u) const {
    const engine& e = units_[index(u)];
    if (e.issued.empty()) {
      return never;
    }
    std::int64_t t = std::max(e.issued.front().request, channel_free_);
    if (d_.copy_uses_compute) {
      for (const int busy : {vector_unit, matrix_unit}) {
        t = std::max({t, units_[index(busy)].occupied});
      }
    }
    return t;
  }

  /// When the first instruction in the unit's queue can start.
  [[nodiscard]] std::int64_t start_time(int u) const {
    const engine& e = units_[index(u)];
    if (e.queue.empty()) {
      return never;
    }
    const entry& head = e.queue.front();
    const std::int64_t ready = std::max(e.free, head.dispatched);
    switch (head.w.i->op) {
      case opcode::signal:
        return e.issued.empty() ? std::max(ready, e.drain) : never;
      case opcode::wait:
        return semaphores_.time(head.w.x, head.w.y, ready);
      case opcode::barrier:
        return e.issued.empty() && !e.at_barrier ? std::max(ready, e.drain) : never;
      default:
        if (head.w.b.used && kind_of(u) == unit_kind::dma) {  // its indices may be on their way
          return e.issued.empty() ? std::max(ready, e.drain) : never;
        }
        if (kind_of(u) == unit_kind::dma) {
          return e.issued.size() < static_cast<std::size_t>(d_.dma_outstanding) ? ready : never;
        }
        return std::max(ready, e.occupied);
    }
  }

  [[nodiscard]] std::int64_t control_time() const {
    const engine& e = units_[index(control_unit)];
    if (halted_ || e.at_barrier) {
      return never;
    }
    std::int64_t t = e.free;
    if (pc_ >= p_->code.size()) {
      return t;
    }
    const instruction& i = p_->code[pc_];
    const auto room = [&](int u) {
      const engine& other = units_[index(u)];
      if (other.queue.size() >= static_cast<std::size_t>(d_.queue_depth)) {
        return false;
      }
      t = std::max(t, other.last_start);
      return true;
    };
    if (i.op == opcode::barrier) {
      for (int u = 1; u < unit_count_; ++u) {
        if (((i.imm >> u) & 1u) != 0 && !room(u)) {
          return never;
        }
      }
      return t;
    }
    if (i.unit != control_unit) {
      return room(i.unit) ? t : never;
    }
    if (i.op == opcode::wait) {
      const std::int64_t sem = number_of(registers_, i.x);
      const std::int64_t count = number_of(registers_, i.y);
      const bool legal = sem >= 0 && sem < d_.semaphores && count >= 0;
      return legal ? semaphores_.time(sem, count, t)
                   : t;  // an illegal one is reported when it runs
    }
    return t;
  }

  void record(std::size_t at, int lane, const char* category, std::int64_t start,
              std::int64_t cycles) {
    if (!options_.timeline) {
      return;
    }
    const instruction& i = p_->code[at];
    trace::event e{std::string(info_of(i.op).name), category, 0, lane, start, cycles};
    e.details.emplace_back("instruction", std::to_string(at));
    if (const auto source = p_->source_of(i); !source.empty()) {
      e.details.emplace_back("source", std::string(source));
    }
    report_.timeline.add(std::move(e));
  }

  npu_description d_;
  const program* p_;
  std::span<const region> memory_;
  run_options options_;
  timing timing_;
  scratchpad pad_;
  int unit_count_;
  engines units_{};
  semaphore_bank semaphores_;
  guard guard_;
  register_file registers_{};
  std::vector<meeting> meetings_;
  std::size_t pc_ = 0;
  bool halted_ = false;
  std::int64_t now_ = 0;
  std::int64_t steps_ = 0;
  std::int64_t channel_free_ = 0;
  run_report report_;
};

}  // namespace ashlar::chip::npu_isa::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/npu/detail/across.hpp"
#include "ashlar/chip/npu/detail/engine.hpp"
#include "ashlar/chip/npu/detail/footprint.hpp"
#include "ashlar/chip/npu/detail/job.hpp"
#include "ashlar/chip/npu/detail/races.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

namespace ashlar::chip::npu_isa::detail {

/// Watches every access: races between engines, and reads of what nothing has written.
class guard {
 public:
  guard(const program& p, const engines& units, scratchpad& pad)
      : p_(&p),
        units_(&units),
        pad_(&pad),
        scratch_(users_of(p, false)),
        global_(users_of(p, true)) {}

  /// Throws: `race`.
  void scratch_access(const job& w, int u) {
    const bool transfer = kind_of(u) == unit_kind::dma;
    for (const resolved_operand* o : {&w.a, &w.b, &w.c}) {
      add(scratch_, o->bytes(), false, u, w.index, "scratchpad");
    }
    add(scratch_, w.dst.bytes(), !transfer || is_load(w.i->op), u, w.index, "scratchpad");
  }
  void global_access(const footprint& f, bool write, int u, std::size_t instruction) {
    add(global_, f, write, u, instruction, "global");
  }

  /// Throws: `uninitialised`.
  void check_written(const footprint& f, const job& w, const char* name) const {
    const std::int64_t byte = f.empty() ? -1 : pad_->unwritten(f);
    if (byte >= 0) {
      throw uninitialised(place_of(*p_, w.index), name, byte);
    }
  }
  /// The sources of anything but a transfer.
  void check_written(const job& w) const {
    const opcode op = w.i->op;
    check_written(w.b.bytes(), w, "b");
    check_written(w.c.bytes(), w, "c");
    if (op == opcode::v_gather) {
      for_each_indexed(*pad_, w, w.a, [&](std::int64_t, std::int64_t, std::int64_t at) {
        if (at >= 0) {
          check_written(one_element(at, w.a.type), w, "a");
        }
      });
    } else {
      check_written(w.a.bytes(), w, "a");
    }
    if (op == opcode::v_scatter_add || (op == opcode::mma && w.i->mode == 1)) {
      check_written(w.dst.bytes(), w, "dst");
    }
  }

  void mark_written(const job& w) {
    if (w.i->op != opcode::v_scatter) {
      pad_->mark(w.dst.bytes());
      return;
    }
    for_each_indexed(*pad_, w, w.dst, [&](std::int64_t, std::int64_t, std::int64_t at) {
      if (at >= 0) {
        pad_->mark(one_element(at, w.dst.type));
      }
    });
  }

 private:
  static footprint one_element(std::int64_t at, element type) {
    return footprint::of_box(at, 1, 1, 0, 0, size_of(type));
  }

  /// Which units a program lets touch the scratchpad, or global memory.
  static std::array<bool, max_units> users_of(const program& p, bool global) {
    std::array<bool, max_units> users{};
    for (const instruction& i : p.code) {
      const bool touches =
          global ? uses(i.op, field::global) : uses(i.op, field::dst) || uses(i.op, field::a);
      if (i.unit < max_units && touches) {
        users[i.unit] = true;
      }
    }
    return users;
  }

  void add(access_log& where, const footprint& f, bool write, int u, std::size_t instruction,
           const char* space) {
    if (where.large()) {
      std::array<vector_clock, max_units> clocks;
      for (std::size_t v = 0; v < clocks.size(); ++v) {
        clocks[v] = (*units_)[v].clock;
      }
      where.prune(clocks);
    }
    const vector_clock& now = (*units_)[static_cast<std::size_t>(u)].clock;
    const std::size_t other = where.add(f, write, u, now, instruction);
    if (other != access_log::none) {
      throw race(place_of(*p_, instruction), place_of(*p_, other), space);
    }
  }

  const program* p_;
  const engines* units_;
  scratchpad* pad_;
  access_log scratch_;
  access_log global_;
};

}  // namespace ashlar::chip::npu_isa::detail

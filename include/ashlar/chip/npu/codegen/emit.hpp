// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/instruction.hpp"

/// Chip IR as a program of the instruction set.
namespace ashlar::chip::npu_codegen {

namespace detail {

class emitter {
 public:
  explicit emitter(const chip_program& c) : c_(c) {
    for (const channel& x : c.channels) {
      units_ |= 1u << x.from_unit | 1u << x.to_unit;
    }
    for (const region& r : c.regions) {
      for (const step& s : r.steps) {
        units_ |= 1u << s.code.unit;
      }
    }
  }

  isa::program run() {
    b_.source("prologue");
    for (const channel& x : c_.channels) {
      if (x.rounds > 0) {
        b_.signal(isa::control_unit, x.semaphore, x.rounds);
      }
    }
    for (const region& r : c_.regions) {
      if (r.slots > 1) {
        b_.load_constant({static_cast<std::uint8_t>(r.slot_register)}, 0);
      }
    }
    body(0);
    b_.source("");
    return b_.finish();
  }

 private:
  [[nodiscard]] const region& at(int r) const { return c_.regions[static_cast<std::size_t>(r)]; }

  void source(const step& s) {
    b_.source(s.source < 0 ? "grid" : c_.sources[static_cast<std::size_t>(s.source)]);
  }

  void fence() { b_.emit({.op = isa::opcode::barrier, .imm = units_ | 1u << isa::control_unit}); }

  /// The steps of a region, with its waits and signals.
  void body(int r) {
    const region& here = at(r);
    const isa::builder::label top = b_.new_label();
    b_.bind(top);
    if (here.slots > 1) {  // the next slot
      const isa::scalar offset{static_cast<std::uint8_t>(here.slot_register)};
      const auto bytes = static_cast<std::int32_t>(here.slot_bytes);
      b_.scalar_op(isa::opcode::s_add, offset, offset, bytes);
      b_.scalar_op(isa::opcode::s_rem, offset, offset, bytes * here.slots);
    }
    if (here.fenced) {
      fence();
    }
    for (std::size_t s = 0; s < here.steps.size(); ++s) {
      const step& one = here.steps[s];
      source(one);
      if (one.kind == step_kind::again) {
        b_.branch(one.code.op, one.code.x, one.code.y, top);
        continue;
      }
      for (const channel& x : c_.channels) {
        if (x.region == r && x.to == static_cast<int>(s)) {
          b_.wait(x.to_unit, x.semaphore);
        }
      }
      one.kind == step_kind::operation ? operation(one) : control(one);
      for (const channel& x : c_.channels) {
        if (x.region == r && x.from == static_cast<int>(s)) {
          b_.signal(x.from_unit, x.semaphore);
        }
      }
    }
  }

  void control(const step& s) {
    const isa::builder::label other = b_.new_label();
    const isa::builder::label end = b_.new_label();
    b_.branch(s.code.op, s.code.x, s.code.y, other);
    body(s.regions[0]);
    source(s);
    if (s.kind == step_kind::choice) {
      b_.jump(end);
    }
    b_.bind(other);
    if (s.kind == step_kind::choice) {
      body(s.regions[1]);
    }
    b_.bind(end);
    source(s);
    if (at(s.regions[0]).fenced) {  // also where no body has run
      fence();
    }
  }

  void operation(const step& s) {
    isa::instruction i = s.code;
    const std::array<isa::operand*, 4> operands{&i.dst, &i.a, &i.b, &i.c};
    std::uint8_t temporary = first_temporary;
    for (std::size_t k = 0; k < operands.size(); ++k) {
      if (s.buffers[k] < 0) {
        continue;
      }
      const buffer& b = c_.buffers[static_cast<std::size_t>(s.buffers[k])];
      isa::value& base = operands[k]->base;
      base = base + static_cast<std::int32_t>(b.address);
      if (b.slots == 1) {
        continue;
      }
      const auto offset = static_cast<std::uint8_t>(at(b.region).slot_register);
      if (base.reg == 0) {
        base.reg = offset;
      } else {
        const isa::scalar sum{temporary++};
        b_.scalar_op(isa::opcode::s_add, sum, isa::value{base.reg, 0}, isa::value{offset, 0});
        base.reg = sum.reg;
      }
    }
    b_.emit(i);
  }

  static constexpr std::uint8_t first_temporary = 61;

  const chip_program& c_;
  isa::builder b_{};
  std::uint64_t units_ = 0;
};

}  // namespace detail

/// Requires: `c` has addresses and channels.
inline isa::program emit(const chip_program& c) { return detail::emitter(c).run(); }

}  // namespace ashlar::chip::npu_codegen

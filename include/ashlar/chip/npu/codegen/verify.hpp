// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/errors.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/detail/resolve.hpp"
#include "ashlar/chip/npu/validate.hpp"

/// The rules of chip IR, which grow with what the steps of the compiler have decided.
namespace ashlar::chip::npu_codegen {

/// How far a program has come.
enum class ir_stage : std::uint8_t { lowered, analysed, allocated, synchronised };

/// The first rule that a program breaks, and where; `rule` is empty for a program that is well.
struct ir_verdict {
  std::string_view rule{};
  int region = -1, step = -1;  ///< -1 where it is no step's matter

  explicit operator bool() const { return rule.empty(); }
};

namespace detail {

class ir_verifier {
 public:
  explicit ir_verifier(const chip_program& c) : c_(c) {}

  ir_verdict run(ir_stage stage) {
    using check = void (ir_verifier::*)();
    constexpr std::array<std::pair<ir_stage, check>, 6> checks{{
        {ir_stage::lowered, &ir_verifier::tree},
        {ir_stage::lowered, &ir_verifier::steps},
        {ir_stage::analysed, &ir_verifier::lifetimes},
        {ir_stage::allocated, &ir_verifier::slots},
        {ir_stage::allocated, &ir_verifier::addresses},
        {ir_stage::synchronised, &ir_verifier::channels},
    }};
    for (const auto& [from, what] : checks) {
      if (stage >= from && found_) {
        (this->*what)();
      }
    }
    return found_;
  }

 private:
  [[nodiscard]] const region& at(int r) const { return c_.regions[static_cast<std::size_t>(r)]; }
  [[nodiscard]] int region_count() const { return static_cast<int>(c_.regions.size()); }
  static int step_count(const region& r) { return static_cast<int>(r.steps.size()); }
  [[nodiscard]] bool is_unit(int u) const {
    return u >= 0 && u < isa::first_dma_unit + c_.machine.dma_engines;
  }

  void require(bool holds, std::string_view rule, int region = -1, int step = -1) {
    if (!holds && found_) {
      found_ = {rule, region, step};
    }
  }

  /// Regions form a tree, whose branches their owners name.
  void tree() {
    require(!c_.regions.empty() && at(0).kind == region_kind::root && at(0).parent == -1,
            "the first region is the root");
    for (int r = 1; r < region_count() && found_; ++r) {
      const region& here = at(r);
      const bool behind = here.parent >= 0 && here.parent < r;
      require(behind && here.kind != region_kind::root, "a region stands behind its parent", r);
      if (!behind) {
        return;
      }
      const region& parent = at(here.parent);
      const bool placed = here.place >= 0 && here.place < step_count(parent);
      const auto named = [&] {
        const step& owner = parent.steps[static_cast<std::size_t>(here.place)];
        const step_kind kind = here.kind == region_kind::loop ? step_kind::loop : step_kind::choice;
        return owner.kind == kind && (owner.regions[0] == r || owner.regions[1] == r);
      };
      require(placed && named() && here.depth == parent.depth + 1,
              "a region belongs to a step of its parent, a level deeper", r);
    }
  }

  void steps() {
    for (int r = 0; r < region_count(); ++r) {
      const region& here = at(r);
      for (int s = 0; s < step_count(here) && found_; ++s) {
        const step& one = here.steps[static_cast<std::size_t>(s)];
        const std::size_t regions = one.kind == step_kind::loop     ? 1
                                    : one.kind == step_kind::choice ? 2
                                                                    : 0;
        for (std::size_t k = 0; k < one.regions.size(); ++k) {
          const int inner = one.regions[k];
          require(k < regions ? inner > r && inner < region_count() && at(inner).parent == r &&
                                    at(inner).place == s
                              : inner == -1,
                  "a loop has one region of its own, a choice two, another step none", r, s);
        }
        require((one.kind == step_kind::again) ==
                    (here.kind == region_kind::loop && s + 1 == step_count(here)),
                "the body of a loop ends with `again`, and nothing else does", r, s);
        require(one.source >= -1 && one.source < static_cast<int>(c_.sources.size()),
                "a step comes from an instruction of the tile program", r, s);
        one.kind == step_kind::operation ? operation(one, r, s) : control(one, r, s);
      }
      require(here.kind != region_kind::loop || step_count(here) > 0,
              "the body of a loop ends with `again`, and nothing else does", r);
    }
  }

  void control(const step& one, int r, int s) {
    const isa::opcode op = one.code.op;
    require(op >= isa::opcode::beq && op <= isa::opcode::bge && isa::problem_of(one.code).empty() &&
                one.buffers == std::array<int, 4>{-1, -1, -1, -1},
            "loops and choices branch by registers", r, s);
  }

  void operation(const step& one, int r, int s) {
    const isa::opcode op = one.code.op;
    require(isa::problem_of(one.code).empty() && is_unit(one.code.unit) &&
                op != isa::opcode::halt && (op < isa::opcode::jump || op > isa::opcode::bge) &&
                (op < isa::opcode::barrier || op > isa::opcode::wait),
            "an operation is an instruction of an engine that the machine has", r, s);
    if (!found_) {
      return;
    }
    const isa::program alone{{one.code}, {}};
    const isa::detail::job job = isa::detail::resolve(c_.machine, alone, 0, {});
    const std::array<const isa::detail::resolved_operand*, 4> boxes{&job.dst, &job.a, &job.b,
                                                                    &job.c};
    const std::array<const isa::operand*, 4> operands{&one.code.dst, &one.code.a, &one.code.b,
                                                      &one.code.c};
    for (std::size_t k = 0; k < boxes.size(); ++k) {
      const int b = one.buffers[k];
      const bool box = boxes[k]->used && boxes[k]->scratch;
      require(box ? b >= 0 && b < static_cast<int>(c_.buffers.size()) : b == -1,
              "an operand in the scratchpad lies in a buffer that there is", r, s);
      if (!found_ || !box || operands[k]->base.reg != 0) {
        continue;
      }
      const isa::detail::footprint bytes = boxes[k]->bytes();
      require(bytes.empty() || (bytes.first() >= 0 &&
                                bytes.last() <= c_.buffers[static_cast<std::size_t>(b)].bytes),
              "an operand stays inside of its buffer", r, s);
    }
  }

  /// What `analyse` finds out, found out again.
  void lifetimes() {
    chip_program again;
    again.regions = c_.regions;
    for (const buffer& b : c_.buffers) {
      again.buffers.push_back({b.name, b.type, b.bytes});
    }
    analyse(again);
    for (std::size_t k = 0; k < c_.buffers.size(); ++k) {
      const buffer& said = c_.buffers[k];
      const buffer& is = again.buffers[k];
      require(said.engines == is.engines && said.region == is.region && said.first == is.first &&
                  said.last == is.last,
              "region, lifetime and engines of a buffer are those of its accesses", said.region);
    }
  }

  void slots() {
    std::vector<int> registers;
    for (int r = 0; r < region_count(); ++r) {
      const region& here = at(r);
      require(here.slots >= 1 && (here.slots == 1 || here.kind == region_kind::loop),
              "loops alone have several slots", r);
      if (here.slots > 1) {
        require(here.slot_register > c_.registers && here.slot_register <= c_.last_free_register &&
                    std::find(registers.begin(), registers.end(), here.slot_register) ==
                        registers.end(),
                "a region with slots has a register of its own for them", r);
        registers.push_back(here.slot_register);
      }
    }
    for (int r = 0; r < region_count(); ++r) {
      for (int s = 0; s < step_count(at(r)); ++s) {
        const int rd = at(r).steps[static_cast<std::size_t>(s)].code.rd;
        require(rd == 0 || std::find(registers.begin(), registers.end(), rd) == registers.end(),
                "a region with slots has a register of its own for them", r, s);
      }
    }
    for (const buffer& b : c_.buffers) {
      require(b.slots == 1 || (b.region >= 0 && b.slots == at(b.region).slots),
              "a buffer has one slot or those of its region", b.region);
    }
  }

  void addresses() {
    const std::int64_t multiple = c_.machine.scratchpad_alignment;
    for (const buffer& b : c_.buffers) {
      if (b.region < 0) {
        continue;
      }
      const std::int64_t apart = at(b.region).slot_bytes;
      require(b.address >= 0 && b.address % multiple == 0 &&
                  (b.slots == 1 || (apart >= b.bytes && apart % multiple == 0)),
              "slots begin at aligned addresses and lie one behind the other", b.region, b.first);
      require(end_of(b) <= c_.machine.scratchpad_bytes, "buffers lie in the scratchpad", b.region,
              b.first);
    }
    const bool meet = std::all_of(c_.regions.begin(), c_.regions.end(), [](const region& r) {
      return r.fenced || r.kind == region_kind::root;
    });
    for (std::size_t k = 0; k < c_.buffers.size(); ++k) {
      for (std::size_t j = 0; j < k && found_; ++j) {
        const buffer& a = c_.buffers[k];
        const buffer& b = c_.buffers[j];
        if (a.region < 0 || b.region < 0 || !share_bytes(a, b)) {
          continue;
        }
        require(!alive_together(c_, a, b), "buffers that are alive together share no bytes",
                a.region, a.first);
        require(a.slots == 1 && b.slots == 1 && (meet || std::popcount(a.engines | b.engines) == 1),
                "buffers share bytes where one engine touches them, or all engines meet", a.region,
                a.first);
      }
    }
  }
  [[nodiscard]] std::int64_t end_of(const buffer& b) const {
    return b.address + b.bytes + (b.slots - 1) * at(b.region).slot_bytes;
  }
  [[nodiscard]] bool share_bytes(const buffer& a, const buffer& b) const {
    if (a.address >= end_of(b) || b.address >= end_of(a)) {
      return false;
    }
    for (int i = 0; i < a.slots; ++i) {
      for (int j = 0; j < b.slots; ++j) {
        const std::int64_t x = a.address + i * at(a.region).slot_bytes;
        const std::int64_t y = b.address + j * at(b.region).slot_bytes;
        if (x < y + b.bytes && y < x + a.bytes) {
          return true;
        }
      }
    }
    return false;
  }

  void channels() {
    std::map<int, const channel*> users;
    for (const channel& x : c_.channels) {
      const bool there = x.region >= 0 && x.region < region_count();
      const int steps = there ? step_count(at(x.region)) : 0;
      require(there && x.from >= 0 && x.from < steps && x.to >= 0 && x.to < steps &&
                  is_unit(x.from_unit) && is_unit(x.to_unit) && x.from_unit != x.to_unit,
              "a channel leads from one engine to another, between steps of one region", x.region,
              x.to);
      if (!found_) {
        return;
      }
      require(x.rounds == 0 ? x.from < x.to
                            : at(x.region).kind != region_kind::root &&
                                  (x.rounds == 1 || x.rounds == at(x.region).slots),
              "a token is taken later than it is given, by no more rounds than there are slots",
              x.region, x.to);
      require(x.semaphore >= 0 && x.semaphore < c_.machine.semaphores,
              "a channel has a semaphore of the machine", x.region, x.to);
      const auto [other, first] = users.try_emplace(x.semaphore, &x);
      require(
          first || (x.rounds == 0 && other->second->rounds == 0 &&
                    x.from_unit == other->second->from_unit && x.to_unit == other->second->to_unit),
          "a semaphore serves one pair of engines; between rounds, one channel", x.region, x.to);
    }
  }

  const chip_program& c_;
  ir_verdict found_{};
};

}  // namespace detail

/// Returns: the first rule that the program breaks of those that hold from `stage` on.
inline ir_verdict verify(const chip_program& c, ir_stage stage = ir_stage::synchronised) {
  return detail::ir_verifier(c).run(stage);
}

/// Throws: `ir_error` where `verify` finds something.
inline void expect_valid(const chip_program& c, ir_stage stage = ir_stage::synchronised) {
  if (const ir_verdict v = verify(c, stage); !v) {
    throw ir_error(c.name, v.rule, v.region, v.step);
  }
}

}  // namespace ashlar::chip::npu_codegen

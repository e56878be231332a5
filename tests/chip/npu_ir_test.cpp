// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/verify.hpp"
#include "ashlar/tile/kernel.hpp"
#include "chip/npu_codegen_kernels.hpp"
#include "support/random_set.hpp"

namespace {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using namespace npu_codegen_test;
using codegen::chip_program;
using codegen::region;
using codegen::step;
using codegen::step_kind;

/// A program with loops, choices, slots and channels.
const chip_program& whole() {
  static const chip_program c = codegen::compile({}, tile::trace<dense_gelu<16, 24, 32>>()).ir;
  return c;
}

/// The first step for which `wanted` holds.
template <class F>
step& first_step(chip_program& c, const F& wanted) {
  for (region& r : c.regions) {
    for (step& s : r.steps) {
      if (wanted(s)) {
        return s;
      }
    }
  }
  FAIL("no such step");
  return c.regions[0].steps[0];
}
step& first_of(chip_program& c, step_kind kind) {
  return first_step(c, [&](const step& s) { return s.kind == kind; });
}
step& first_of(chip_program& c, isa::opcode op) {
  return first_step(
      c, [&](const step& s) { return s.kind == step_kind::operation && s.code.op == op; });
}
template <class F>
codegen::buffer& first_buffer(chip_program& c, const F& wanted) {
  const auto found = std::find_if(c.buffers.begin(), c.buffers.end(), wanted);
  REQUIRE(found != c.buffers.end());
  return *found;
}
template <class F>
codegen::channel& first_channel(chip_program& c, const F& wanted) {
  const auto found = std::find_if(c.channels.begin(), c.channels.end(), wanted);
  REQUIRE(found != c.channels.end());
  return *found;
}
region& slotted(chip_program& c) {
  const auto found =
      std::find_if(c.regions.begin(), c.regions.end(), [](const region& r) { return r.slots > 1; });
  REQUIRE(found != c.regions.end());
  return *found;
}

/// A way to break the program, and the rule that it breaks.
struct fault {
  std::string_view rule;
  void (*make)(chip_program&);
};

constexpr std::string_view root_first = "the first region is the root";
constexpr std::string_view behind = "a region stands behind its parent";
constexpr std::string_view owned = "a region belongs to a step of its parent, a level deeper";
constexpr std::string_view names =
    "a loop has one region of its own, a choice two, another step none";
constexpr std::string_view ends = "the body of a loop ends with `again`, and nothing else does";
constexpr std::string_view comes = "a step comes from an instruction of the tile program";
constexpr std::string_view branches = "loops and choices branch by registers";
constexpr std::string_view engine =
    "an operation is an instruction of an engine that the machine has";
constexpr std::string_view in_buffer =
    "an operand in the scratchpad lies in a buffer that there is";
constexpr std::string_view inside = "an operand stays inside of its buffer";
constexpr std::string_view accesses =
    "region, lifetime and engines of a buffer are those of its accesses";
constexpr std::string_view loops_alone = "loops alone have several slots";
constexpr std::string_view own_register = "a region with slots has a register of its own for them";
constexpr std::string_view one_or_all = "a buffer has one slot or those of its region";
constexpr std::string_view in_line =
    "slots begin at aligned addresses and lie one behind the other";
constexpr std::string_view in_scratchpad = "buffers lie in the scratchpad";
constexpr std::string_view alive = "buffers that are alive together share no bytes";
constexpr std::string_view one_engine =
    "buffers share bytes where one engine touches them, or all engines meet";
constexpr std::string_view leads =
    "a channel leads from one engine to another, between steps of one region";
constexpr std::string_view later =
    "a token is taken later than it is given, by no more rounds than there are slots";
constexpr std::string_view semaphores = "a channel has a semaphore of the machine";
constexpr std::string_view one_pair =
    "a semaphore serves one pair of engines; between rounds, one channel";

const std::vector<fault> faults{
    {root_first, [](chip_program& c) { c.regions.clear(); }},
    {root_first, [](chip_program& c) { c.regions[0].kind = codegen::region_kind::loop; }},
    {behind, [](chip_program& c) { c.regions[2].parent = 2; }},
    {behind, [](chip_program& c) { c.regions[2].kind = codegen::region_kind::root; }},
    {owned, [](chip_program& c) { c.regions[2].place = 0; }},
    {owned, [](chip_program& c) { c.regions[2].place = 1000; }},
    {owned, [](chip_program& c) { ++c.regions[2].depth; }},
    {names, [](chip_program& c) { first_of(c, isa::opcode::mma).regions[0] = 1; }},
    {names,
     [](chip_program& c) {
       auto& one = first_of(c, step_kind::loop).regions;
       one[1] = one[0];
     }},
    {ends, [](chip_program& c) { first_of(c, step_kind::again).kind = step_kind::operation; }},
    {ends, [](chip_program& c) { c.regions.back().steps.push_back({.kind = step_kind::again}); }},
    {comes, [](chip_program& c) { first_of(c, isa::opcode::mma).source = 1000; }},
    {branches, [](chip_program& c) { first_of(c, step_kind::loop).code.op = isa::opcode::s_add; }},
    {engine, [](chip_program& c) { first_of(c, isa::opcode::mma).code.unit = isa::vector_unit; }},
    {engine,
     [](chip_program& c) {
       first_of(c, isa::opcode::load).code.unit =
           static_cast<std::uint8_t>(isa::dma_unit(c.machine.dma_engines));
     }},
    {engine,
     [](chip_program& c) { first_of(c, isa::opcode::mma).code = {.op = isa::opcode::halt}; }},
    {in_buffer, [](chip_program& c) { first_of(c, isa::opcode::mma).buffers[1] = 1000; }},
    {in_buffer, [](chip_program& c) { first_of(c, isa::opcode::mma).buffers[0] = -1; }},
    {in_buffer, [](chip_program& c) { first_of(c, isa::opcode::mma).buffers[3] = 0; }},
    {inside, [](chip_program& c) { ++first_of(c, isa::opcode::mma).code.dst.base.imm; }},
    {inside, [](chip_program& c) { first_of(c, isa::opcode::mma).code.depth = 64; }},
    {inside, [](chip_program& c) { first_of(c, isa::opcode::v_erf).code.a.base.imm = -4; }},
    {accesses, [](chip_program& c) { ++c.buffers.back().last; }},
    {accesses, [](chip_program& c) { c.buffers.back().engines |= 1; }},
    {loops_alone, [](chip_program& c) { c.regions[0].slots = 2; }},
    {loops_alone, [](chip_program& c) { slotted(c).slots = 0; }},
    {own_register, [](chip_program& c) { slotted(c).slot_register = 0; }},
    {own_register,
     [](chip_program& c) {
       first_of(c, isa::opcode::s_add).code.rd =
           static_cast<std::uint8_t>(slotted(c).slot_register);
     }},
    {own_register,
     [](chip_program& c) {
       for (region& r : c.regions) {
         r.slot_register = slotted(c).slot_register;
       }
     }},
    {one_or_all,
     [](chip_program& c) { ++first_buffer(c, [](const auto& b) { return b.slots > 1; }).slots; }},
    {in_line,
     [](chip_program& c) {
       first_buffer(c, [](const auto& b) { return b.region >= 0; }).address += 4;
     }},
    {in_line,
     [](chip_program& c) {
       first_buffer(c, [](const auto& b) { return b.region >= 0; }).address = -64;
     }},
    {in_line, [](chip_program& c) { slotted(c).slot_bytes = 0; }},
    {in_scratchpad,
     [](chip_program& c) {
       first_buffer(c, [](const auto& b) { return b.region >= 0; }).address =
           c.machine.scratchpad_bytes;
     }},
    {alive,
     [](chip_program& c) {  // the operands of a product
       const auto& used = first_of(c, isa::opcode::mma).buffers;
       c.buffers[static_cast<std::size_t>(used[1])].address =
           c.buffers[static_cast<std::size_t>(used[2])].address;
     }},
    {one_engine,
     [](chip_program& c) {  // none of them is alive any more when another begins
       for (codegen::buffer& b : c.buffers) {
         for (codegen::buffer& other : c.buffers) {
           if (b.region >= 0 && other.region >= 0 && b.slots == 1 &&
               std::popcount(b.engines | other.engines) > 1 &&
               !codegen::alive_together(c, b, other)) {
             b.address = other.address = c.machine.scratchpad_bytes - 64 * 1024;
             return;
           }
         }
       }
     }},
    {leads, [](chip_program& c) { c.channels[0].region = -1; }},
    {leads, [](chip_program& c) { c.channels[0].to = 1000; }},
    {leads, [](chip_program& c) { c.channels[0].to_unit = c.channels[0].from_unit; }},
    {later,
     [](chip_program& c) {
       auto& x = first_channel(c, [](const auto& y) { return y.rounds == 0; });
       x.to = x.from;
     }},
    {later,
     [](chip_program& c) {
       first_channel(c, [](const auto& y) { return y.rounds > 0; }).rounds += 16;
     }},
    {semaphores, [](chip_program& c) { c.channels[0].semaphore = c.machine.semaphores; }},
    {one_pair,
     [](chip_program& c) {
       auto& x = first_channel(c, [](const auto& y) { return y.rounds > 0; });
       const auto& other = first_channel(c, [&](const auto& y) { return y.rounds == 0; });
       x.semaphore = other.semaphore;
     }},
};

}  // namespace

TEST_CASE("chip/npu_ir: each rule of chip IR refuses the program that breaks it") {
  REQUIRE(codegen::verify(whole()));
  for (std::size_t k = 0; k < faults.size(); ++k) {
    CAPTURE(k);
    chip_program c = whole();
    faults[k].make(c);
    const codegen::ir_verdict found = codegen::verify(c);
    CHECK(std::string(found.rule) == std::string(faults[k].rule));
  }
}

TEST_CASE("chip/npu_ir: no rule of the verifier is without a program that breaks it") {
  std::ifstream source(std::string(std::getenv("ASHLAR_SOURCE")) +
                       "/include/ashlar/chip/npu/codegen/verify.hpp");
  int rules = 0;
  for (std::string line; std::getline(source, line);) {
    const std::size_t first = line.find('"');
    if (first == std::string::npos || line.starts_with("#include")) {
      continue;
    }
    const std::string rule = line.substr(first + 1, line.find('"', first + 1) - first - 1);
    CAPTURE(rule);
    ++rules;
    CHECK(
        std::any_of(faults.begin(), faults.end(), [&](const fault& f) { return f.rule == rule; }));
  }
  CHECK(rules >= 22);
}

TEST_CASE("chip/npu_ir: a broken rule is an error that says where") {
  chip_program c = whole();
  const step& product = first_of(c, isa::opcode::mma);
  const int source = product.source;
  first_of(c, isa::opcode::mma).buffers[1] = 1000;
  bool refused = false;
  try {
    codegen::expect_valid(c);
  } catch (const codegen::ir_error& e) {
    refused = true;
    CHECK(e.program == "dense_gelu");
    CHECK(e.rule == in_buffer);
    CHECK(c.regions[static_cast<std::size_t>(e.region)]
              .steps[static_cast<std::size_t>(e.step)]
              .source == source);
    CHECK(std::string(e.what()).find("dense_gelu, region ") != std::string::npos);
  }
  CHECK(refused);
}

TEST_CASE("chip/npu_ir: random programs keep the rules, with slots and where buffers share bytes") {
  MESSAGE("seeds 300 to 1299");
  int with_slots = 0;
  for (std::uint64_t seed = 300; seed < 1300; ++seed) {
    CAPTURE(seed);
    tile_test::random_options what = tile_test::options_of(seed);
    what.float8 = false;  // the machine has no atomics of them
    const tile::program p = tile_test::random_program(seed, what);
    for (const bool compact : {false, true}) {
      const chip_program c = codegen::compile({}, p, {.compact = compact}).ir;
      const codegen::ir_verdict found = codegen::verify(c);
      CHECK(std::string(found.rule) == "");
      with_slots += std::any_of(c.regions.begin(), c.regions.end(),
                                [](const region& r) { return r.slots > 1; })
                        ? 1
                        : 0;
    }
  }
  CHECK(with_slots > 500);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <typeinfo>
#include <vector>

#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/encoding.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "chip/npu_support.hpp"

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;

namespace {

constexpr chip::npu_description machine{
    .scratchpad_bytes = 4096, .scratchpad_alignment = 4, .dma_latency = 5, .semaphores = 4};

/// A random instruction whose numbers are small enough for something to happen.
isa::instruction tame(isa::opcode op, std::uint32_t length, std::mt19937& random) {
  isa::instruction i = npu_support::random_instruction(op, random);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  if (below(40) == 0) {
    i.unit = i.unit >= isa::first_dma_unit ? isa::first_dma_unit : i.unit;
    i.target %= length;
    return i;  // wild
  }
  const auto number = [&](isa::value& v, std::int32_t least, std::uint32_t range) {
    v = v == isa::value{} ? v : isa::value{least + below(range)};
  };
  const auto box = [&](isa::operand& o) {
    if (o.kind == isa::operand_kind::scratch && o != isa::operand{}) {
      o.base = {below(64) * 32};
      o.col_stride = below(4) == 0 ? below(5) - 2 : 1;
      o.row_stride = below(4) == 0 ? below(40) - 10 : 16;
    }
  };
  i.unit = i.unit >= isa::first_dma_unit ? static_cast<std::uint8_t>(isa::first_dma_unit + below(2))
                                         : i.unit;
  i.target = isa::uses(op, isa::field::target) ? static_cast<std::uint32_t>(below(length)) : 0;
  i.imm = op == isa::opcode::barrier ? static_cast<std::uint64_t>(1 + below(31)) : i.imm;
  number(i.x, 0, 4);
  number(i.y, 0, 3);
  number(i.rows, 0, 9);
  number(i.cols, 0, 17);
  number(i.depth, 0, 9);
  box(i.dst);
  box(i.a);
  box(i.b);
  box(i.c);
  if (isa::uses(op, isa::field::global)) {
    i.base = {4096 + below(64) * 8};
    i.extents = {isa::value{below(12)}, isa::value{below(20)}};
    i.strides = {isa::value{below(24) - 2}, isa::value{below(5) == 0 ? 3 : 1}};
  }
  if (isa::uses(op, isa::field::origin)) {
    i.origin = {isa::value{below(8) - 2}, isa::value{below(8) - 2}};
  }
  return i;
}

}  // namespace

TEST_CASE("chip/npu/simulator: a random program runs to its end or to a typed fault") {
  std::mt19937 random(20);
  std::map<std::string, int> ends;
  for (int n = 0; n < 3000; ++n) {
    isa::program p;
    const auto length = static_cast<std::uint32_t>(4 + random() % 40);
    // Most of the scratchpad begins written, or few programs would get far.
    isa::instruction fill{.op = isa::opcode::v_fill, .unit = isa::vector_unit};
    fill.type = isa::element::i32;
    fill.rows = 1;
    fill.cols = 1024;
    fill.dst.col_stride = 1;
    p.code.push_back(fill);
    isa::instruction barrier{.op = isa::opcode::barrier, .imm = 31};
    p.code.push_back(barrier);
    while (p.code.size() + 1 < length + 2) {
      const auto op =
          static_cast<isa::opcode>(1 + random() % static_cast<unsigned>(isa::opcode_count - 1));
      p.code.push_back(tame(op, length, random));
      if (random() % 3 == 0) {
        p.code.push_back(barrier);
      }
    }
    p.code.push_back({});
    for (isa::instruction& i : p.code) {
      i.source = 0;
    }
    REQUIRE(isa::from_binary(isa::to_binary(p)) == p);
    const auto run = [&](std::vector<std::byte>& memory) {
      const std::array regions{isa::region{4096, memory}};
      try {
        const auto r = isa::simulate(machine, p, regions, std::array<std::int64_t, 2>{4100, -7},
                                     {.cycle_limit = 100000, .step_limit = 3000});
        return std::string("done ") + std::to_string(r.cycles);
      } catch (const isa::fault& e) {
        return std::string(typeid(e).name()) + " " + e.what();
      }
    };
    std::vector<std::byte> memory(1024, std::byte{1});
    std::vector<std::byte> again = memory;
    const std::string end = run(memory);
    REQUIRE(end == run(again));
    REQUIRE(memory == again);
    ++ends[end.substr(0, end.find(' '))];
  }
  for (const auto& [name, count] : ends) {
    MESSAGE(name, ": ", count);
  }
  CHECK(ends["done"] > 20);
  CHECK(ends.size() >= 7);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/assemble.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/encoding.hpp"
#include "chip/npu_support.hpp"

namespace isa = ashlar::chip::npu_isa;

TEST_CASE("chip/npu/encoding: random instructions of every opcode survive both round trips") {
  std::mt19937 random(7);
  for (int op = 0; op < isa::opcode_count; ++op) {
    for (int n = 0; n < 200; ++n) {
      const isa::instruction i =
          npu_support::random_instruction(static_cast<isa::opcode>(op), random);
      const std::string text = isa::disassemble(i);
      CAPTURE(text);
      REQUIRE(isa::problem_of(i) == "");
      REQUIRE(isa::decode(isa::encode(i)) == i);
      const isa::program back = isa::assemble(text);
      REQUIRE(back.code.size() == 1);
      REQUIRE(back.code[0] == i);
    }
  }
}

TEST_CASE("chip/npu/encoding: different instructions have different words") {
  std::mt19937 random(8);
  std::set<isa::instruction_words> seen;
  std::set<std::string> texts;
  for (int op = 0; op < isa::opcode_count; ++op) {
    for (int n = 0; n < 50; ++n) {
      const isa::instruction i =
          npu_support::random_instruction(static_cast<isa::opcode>(op), random);
      seen.insert(isa::encode(i));
      texts.insert(isa::disassemble(i));
    }
  }
  CHECK(seen.size() == texts.size());
}

TEST_CASE("chip/npu/encoding: every single flipped bit decodes to another instruction or throws") {
  std::mt19937 random(9);
  for (int op = 0; op < isa::opcode_count; ++op) {
    const isa::instruction i =
        npu_support::random_instruction(static_cast<isa::opcode>(op), random);
    const isa::instruction_words words = isa::encode(i);
    for (std::size_t bit = 0; bit < 512; ++bit) {
      isa::instruction_words changed = words;
      changed[bit / 64] ^= std::uint64_t{1} << (bit % 64);
      try {
        const isa::instruction other = isa::decode(changed);
        REQUIRE_FALSE(other == i);
        REQUIRE(isa::encode(other) == changed);
      } catch (const isa::encoding_error& e) {
        REQUIRE_FALSE(e.reason.empty());
      }
    }
  }
}

namespace {

isa::program random_program(std::mt19937& random) {
  isa::program p;
  p.sources = {"dot(a, b)", "a \"quoted\" \\ text\nin two lines", ""};
  for (int n = 0; n < 300; ++n) {
    const auto op = static_cast<isa::opcode>(random() % static_cast<unsigned>(isa::opcode_count));
    isa::instruction i = npu_support::random_instruction(op, random);
    i.source %= 4;
    i.target %= 302;  // one past the end has a label, 301 has none
    p.code.push_back(i);
  }
  for (isa::instruction& i : p.code) {
    if (!isa::uses(i.op, isa::field::target)) {
      i.target = 0;
    }
  }
  return p;
}

}  // namespace

TEST_CASE("chip/npu/encoding: programs survive both round trips with their sources and labels") {
  std::mt19937 random(10);
  for (int n = 0; n < 10; ++n) {
    const isa::program p = random_program(random);
    CHECK(isa::from_binary(isa::to_binary(p)) == p);
    CHECK(isa::assemble(isa::disassemble(p)) == p);
  }
  CHECK(isa::from_binary(isa::to_binary({})) == isa::program{});
  CHECK(isa::assemble("") == isa::program{});
}

TEST_CASE("chip/npu/encoding: a truncated or damaged binary is an error that names the place") {
  std::mt19937 random(11);
  isa::program p = random_program(random);
  p.code.resize(5);
  const std::vector<std::byte> good = isa::to_binary(p);
  for (std::size_t length = 0; length < good.size(); ++length) {
    CHECK_THROWS_AS(static_cast<void>(isa::from_binary(std::span(good).first(length))),
                    isa::encoding_error);
  }
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  CHECK_THROWS_AS(static_cast<void>(isa::from_binary(longer)), isa::encoding_error);
  std::vector<std::byte> damaged = good;
  damaged[16 + 2 * 64] = std::byte{0xff};
  try {
    static_cast<void>(isa::from_binary(damaged));
    FAIL("no opcode has the number 255");
  } catch (const isa::encoding_error& e) {
    CHECK(e.index == 2);
    CHECK(std::string(e.what()).find("instruction 2") != std::string::npos);
  }
  damaged = good;
  damaged[8] = damaged[9] = damaged[10] = damaged[11] = std::byte{0xff};  // 4 G instructions
  CHECK_THROWS_AS(static_cast<void>(isa::from_binary(damaged)), isa::encoding_error);
}

TEST_CASE("chip/npu/encoding: a value out of range has no encoding") {
  isa::instruction i{.op = isa::opcode::s_add, .type = isa::element::i64, .rd = 1};
  i.x = isa::value{isa::max_constant};
  CHECK(isa::decode(isa::encode(i)) == i);
  i.x = isa::value{isa::max_constant + 1};
  CHECK_THROWS_AS(static_cast<void>(isa::encode(i)), isa::encoding_error);
  i.x = {};
  i.rows = 3;  // the opcode has no shape
  CHECK_THROWS_AS(static_cast<void>(isa::encode(i)), isa::encoding_error);
}

TEST_CASE("chip/npu/assemble: labels, comments and empty lines") {
  const isa::program p = isa::assemble(R"asm(
      .source 1 "for i in range(8)"
      ; a comment
        control.li rd=r1 imm=0x8   @1
      again:
        control.sub.i64 rd=r1 x=r1 y=1   ; counts down
        control.bne x=r1 y=0 target=again
        control.beq x=0 y=0 target=end
      end: control.halt
  )asm");
  REQUIRE(p.code.size() == 5);
  CHECK(p.code[2].target == 1);
  CHECK(p.code[3].target == 4);
  CHECK(p.code[0].source == 1);
  CHECK(p.source_of(p.code[0]) == "for i in range(8)");
  CHECK(p.source_of(p.code[1]).empty());
}

TEST_CASE("chip/npu/assemble: an error names line and word") {
  struct wrong {
    const char* text;
    std::size_t line;
    const char* token;
  };
  for (const wrong& w : {
           wrong{"\nnothing.add", 2, "nothing.add"},
           wrong{"control.exp.f32", 1, "control.exp.f32"},
           wrong{"dma13.load.f32", 1, "dma13.load.f32"},
           wrong{"dma.load.f32", 1, "dma.load.f32"},
           wrong{"control.add rd=r1 x=1 y=2", 1, "control.add"},
           wrong{"control.add.f33 rd=r1 x=1 y=2", 1, "control.add.f33"},
           wrong{"control.add.i64.i64 rd=r1 x=1 y=2", 1, "control.add.i64.i64"},
           wrong{"control.add.i64 rd=r64 x=1 y=2", 1, "rd=r64"},
           wrong{"control.add.i64 rd=r1 x=1", 1, "control.add.i64"},
           wrong{"control.add.i64 rd=r1 x=1 x=2 y=1", 1, "x=2"},
           wrong{"control.add.i64 rd=r1 x=1 y=", 1, "y="},
           wrong{"control.add.i64 rd=r1 x=r2*4 y=1", 1, "x=r2*4"},
           wrong{"control.add.i64 rd=r1 x=8388608 y=1", 1, "x=8388608"},
           wrong{"control.add.i64 rd=r1 x=1 y=2 shape=1,1", 1, "shape=1,1"},
           wrong{"control.add.i64 rd=r1 x=1 y=2 colour=red", 1, "colour=red"},
           wrong{"control.add.i64 rd=r1 x=1 y=2 more", 1, "more"},
           wrong{"control.add.i64 rd=r1 x=1 y=2 @", 1, "@"},
           wrong{"control.add.bf16 rd=r1 x=1 y=2", 1, "control.add.bf16"},
           wrong{"a:\n\na:", 3, "a"},
           wrong{"7:", 1, "7:"},
           wrong{"control.halt\ncontrol.jump target=away", 2, "away"},
           wrong{"vector.exp.f32 shape=4 dst=[0:4,1] a=[0:4,1]", 1, "shape=4"},
           wrong{"vector.exp.f32 shape=4,4 dst=[0:4] a=[0:4,1]", 1, "dst=[0:4]"},
           wrong{"vector.exp.f32 shape=4,4 dst=[0:4,1 a=[0:4,1]", 1, "dst=[0:4,1"},
           wrong{"vector.exp.f32 shape=4,4 dst=[0:65536,1] a=[0:4,1]", 1, "dst=[0:65536,1]"},
           wrong{"vector.exp.f32 shape=4,4 dst=[0:4,1] a=r3", 1, "vector.exp.f32"},
           wrong{"vector.exp.i32 shape=4,4 dst=[0:4,1] a=[0:4,1]", 1, "vector.exp.i32"},
           wrong{"control.barrier", 1, "control.barrier"},
           wrong{".source 2 \"second\"", 1, "2"},
           wrong{".source 1 \"open", 1, "\"open"},
       }) {
    CAPTURE(w.text);
    try {
      static_cast<void>(isa::assemble(w.text));
      FAIL("assembled");
    } catch (const isa::assembly_error& e) {
      CHECK(e.line == w.line);
      CHECK(e.token == w.token);
      CHECK(std::string(e.what()).find(w.token) != std::string::npos);
    }
  }
}

TEST_CASE("chip/npu/opcodes: the manual lists every opcode with its number") {
  const char* root = std::getenv("ASHLAR_SOURCE");
  if (root == nullptr) {
    MESSAGE("skipped: no ASHLAR_SOURCE");
    return;
  }
  std::ifstream file(std::string(root) + "/docs/npu_isa.md");
  REQUIRE(file.good());
  const std::string manual{std::istreambuf_iterator<char>(file), {}};
  for (int op = 0; op < isa::opcode_count; ++op) {
    const isa::opcode_info& info = isa::info_of(static_cast<isa::opcode>(op));
    const std::string engine = info.unit == isa::unit_kind::any ? "any"
                               : info.unit == isa::unit_kind::dma
                                   ? "dma"
                                   : isa::unit_name(static_cast<int>(info.unit));
    const std::string row =
        "\n| " + std::to_string(op) + " | `" + engine + "." + std::string(info.name) + "` |";
    CAPTURE(row);
    CHECK(manual.find(row) != std::string::npos);
  }
}

TEST_CASE("chip/npu/assemble: the manual's example is a program") {
  const isa::program p = isa::assemble(R"asm(
.source 1 "for i in range(8)"
  control.li rd=r1 imm=0x8 @1
again:
  dma0.load.bf16 shape=128,64 dst=[r3+4096:64,1] base=r4 strides=512,1 extents=512,512 origin=r1,0
  dma0.signal sem=0 count=1
  vector.wait sem=0 count=1
  vector.mul.bf16 shape=128,64 dst=[r3+4096:64,1] a=[r3+4096:64,1] b=# imm=0x40000000
  control.sub.i64 rd=r1 x=r1 y=1
  control.bne x=r1 y=0 target=again
  control.halt
)asm");
  CHECK(p.code.size() == 8);
  CHECK(p.code[6].target == 1);
}

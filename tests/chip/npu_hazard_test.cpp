// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/assemble.hpp"
#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/simulator.hpp"

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using isa::element;
using isa::opcode;
using isa::scratch_tile;

namespace {

/// A machine, 1,000 floats at address 4096, and a program.
struct bench {
  chip::npu_description machine;
  std::vector<float> memory = std::vector<float>(1000, 1.0F);
  isa::builder b;
  isa::global_view view{element::f32, 4096, 10, 100, 100};

  isa::run_report run(const isa::program& p) {
    const std::array regions{isa::region{4096, std::as_writable_bytes(std::span(memory))}};
    return isa::simulate(machine, p, regions);
  }
  isa::run_report run() { return run(b.finish()); }
  scratch_tile tile(std::int32_t rows = 10, std::int32_t cols = 100) {
    return b.allocate(element::f32, rows, cols);
  }
};

/// The fault of type E that `body` ends with.
template <class E, class F>
E fault_of(const F& body) {
  try {
    body();
  } catch (const E& e) {
    return e;
  }
  throw std::string("no fault of this type");
}

}  // namespace

TEST_CASE("chip/npu/hazards: a read that nothing orders behind its load is a race") {
  bench x;
  const scratch_tile t = x.tile();
  x.b.source("load x");
  x.b.load(0, t, x.view, 0, 0);
  x.b.source("exp(x)");
  x.b.unary(opcode::v_exp, t, t);
  const auto e = fault_of<isa::race>([&] { x.run(); });
  CHECK(e.at.index == 1);
  CHECK(e.at.source == "exp(x)");
  CHECK(e.other.index == 0);
  CHECK(e.other.source == "load x");
  CHECK(e.memory == "scratchpad");
  CHECK(e.at.text.find("vector.exp.f32") == 0);
  CHECK(std::string(e.what()).find("dma0.load.f32") != std::string::npos);

  bench fixed;
  const scratch_tile u = fixed.tile();
  fixed.b.load(0, u, fixed.view, 0, 0);
  fixed.b.signal(isa::dma_unit(0), 3);
  fixed.b.wait(isa::vector_unit, 3);
  fixed.b.unary(opcode::v_exp, u, u);
  CHECK_NOTHROW(fixed.run());
}

TEST_CASE("chip/npu/hazards: a store that the writer does not release is a race, both ways round") {
  const auto program = [](bench& x, bool released, bool returned) {
    const scratch_tile t = x.tile();
    for (int n = 0; n < 2; ++n) {
      x.b.fill(t, 0x3f800000);
      if (released) {
        x.b.signal(isa::vector_unit, 0);
        x.b.wait(isa::dma_unit(1), 0);
      }
      x.b.store(1, t, x.view, 0, 0);
      if (returned) {  // the second fill must not overwrite what is being stored
        x.b.signal(isa::dma_unit(1), 1);
        x.b.wait(isa::vector_unit, 1);
      }
    }
    return x.b.finish();
  };
  bench x;
  CHECK(fault_of<isa::race>([&] { x.run(program(x, false, false)); }).other.index == 0);
  const auto e = fault_of<isa::race>([&] { x.run(program(x, true, false)); });
  CHECK(e.at.index == 3);  // the store, which finds the second fill over and done
  CHECK(e.other.index == 4);
  CHECK_NOTHROW(x.run(program(x, true, true)));
}

TEST_CASE("chip/npu/hazards: order passes on from engine to engine") {
  const auto program = [](bench& x, bool second) {
    const scratch_tile t = x.tile();
    x.b.load(0, t, x.view, 0, 0);
    x.b.signal(isa::dma_unit(0), 0);
    x.b.wait(isa::vector_unit, 0);
    x.b.signal(isa::vector_unit, 1);
    x.b.wait(isa::dma_unit(1), second ? 1 : 2);
    x.b.signal(isa::control_unit, 2);
    x.b.store(1, t, x.view, 0, 0);
    return x.b.finish();
  };
  bench x;
  CHECK_NOTHROW(x.run(program(x, true)));
  CHECK_THROWS_AS(x.run(program(x, false)), isa::race);
}

TEST_CASE("chip/npu/hazards: two engines may write beside each other, not over each other") {
  const auto program = [](bench& x, std::int32_t second_col) {
    const scratch_tile t = x.tile();
    x.b.load(0, t.part(0, 0, 10, 50), x.view, 0, 0);
    // The second box lies between the rows of the first.
    scratch_tile right = t.part(0, second_col, 10, 100 - second_col);
    x.b.load(1, right, x.view, 0, second_col);
    return x.b.finish();
  };
  bench x;
  x.machine.scratchpad_alignment = 4;
  CHECK_NOTHROW(x.run(program(x, 50)));
  CHECK_THROWS_AS(x.run(program(x, 49)), isa::race);
}

TEST_CASE("chip/npu/hazards: global memory has races too") {
  const auto program = [](bench& x, bool ordered) {
    const scratch_tile t = x.tile();
    const scratch_tile u = x.tile();
    x.b.fill(t, 0x40000000);
    x.b.barrier({isa::vector_unit, isa::dma_unit(0), isa::dma_unit(1)});
    x.b.store(0, t, x.view, 0, 0);
    if (ordered) {
      x.b.barrier({isa::dma_unit(0), isa::dma_unit(1)});
    }
    x.b.load(1, u, x.view, 9, 99);
    return x.b.finish();
  };
  bench x;
  CHECK(fault_of<isa::race>([&] { x.run(program(x, false)); }).memory == "global");
  CHECK_NOTHROW(x.run(program(x, true)));
  CHECK(x.memory[999] == 2.0F);
}

TEST_CASE("chip/npu/hazards: the control engine's own reads need order as well") {
  const auto program = [](bench& x, bool ordered) {
    const scratch_tile t = x.tile();
    for (int n = 0; n < 2; ++n) {
      x.b.fill(t, 0x3f800000);
      if (n == 0 || ordered) {
        x.b.signal(isa::vector_unit, 0);
        x.b.wait(isa::control_unit, 0);
      }
    }
    const isa::scalar s = x.b.read(t);
    x.b.check(x.b.scalar_op(opcode::s_eq, s, x.b.constant(1.0F), element::f32));
    return x.b.finish();
  };
  bench x;
  CHECK_THROWS_AS(x.run(program(x, false)), isa::race);
  CHECK_NOTHROW(x.run(program(x, true)));
}

TEST_CASE("chip/npu/hazards: a read of bytes that nothing wrote names the first of them") {
  bench x;
  const scratch_tile t = x.tile();
  x.b.fill(t.part(0, 0, 10, 99), 0);
  x.b.source("y = -x");
  x.b.unary(opcode::v_neg, t, t);
  const auto e = fault_of<isa::uninitialised>([&] { x.run(); });
  CHECK(e.byte == 99 * 4);
  CHECK(e.what == "a");
  CHECK(e.at.index == 1);
  CHECK(e.at.source == "y = -x");

  bench fixed;
  const scratch_tile u = fixed.tile();
  fixed.b.fill(u.part(0, 0, 10, 99), 0);
  fixed.b.fill(u.part(0, 99, 10, 1), 0);
  fixed.b.unary(opcode::v_neg, u, u);
  CHECK_NOTHROW(fixed.run());
}

TEST_CASE("chip/npu/hazards: stores, products, gathers and scatters read what must be written") {
  const auto store = [](bench& x) {
    x.b.store(0, x.tile(), x.view, 0, 0);
    return x.b.finish();
  };
  const auto product = [](bench& x, bool accumulate) {
    const scratch_tile a = x.b.allocate(element::f32, 8, 8);
    const scratch_tile c = x.b.allocate(element::f32, 8, 8);
    x.b.load(0, a, x.view, 0, 0);
    x.b.barrier({isa::matrix_unit, isa::dma_unit(0)});
    x.b.mma(c, a, a, accumulate);
    return x.b.finish();
  };
  const auto gather = [](bench& x, int last) {
    const scratch_tile table = x.b.allocate(element::f32, 4, 4);
    const scratch_tile n = x.b.allocate(element::i32, 4, 1);
    x.b.fill(table.part(0, 0, 3, 4), 0);
    x.b.iota(n, 0, last - 3);
    x.b.gather(0, x.tile(4, 4), table, n.repeated_cols(4));
    return x.b.finish();
  };
  const auto scatter_add = [](bench& x, std::int32_t rows) {
    const scratch_tile table = x.tile(4, 4);
    const scratch_tile from = x.tile(2, 4);
    const scratch_tile n = x.b.allocate(element::i32, 2, 1);
    x.b.fill(table.part(0, 0, rows, 4), 0);
    x.b.fill(from, 0);
    x.b.iota(n, 0, 0);
    x.b.source("add rows");
    x.b.scatter(opcode::v_scatter_add, 0, table, from, n.repeated_cols(4));
    return x.b.finish();
  };
  const auto rows_by_number = [](bench& x, std::int32_t written) {
    const scratch_tile n = x.b.allocate(element::i32, 4, 1);
    x.b.iota(n.part(0, 0, written, 1), 0, 0);
    x.b.barrier({isa::vector_unit, isa::dma_unit(0)});
    x.b.source("load rows");
    x.b.load_rows(0, x.tile(4, 100), x.view, n);
    return x.b.finish();
  };
  const auto scalar = [](bench& x, std::int32_t col) {
    const scratch_tile t = x.tile(1, 8);
    x.b.fill(t.part(0, 0, 1, 4), 0);
    x.b.barrier({isa::vector_unit, isa::control_unit});
    x.b.source("read a number");
    x.b.read(t.part(0, col, 1, 1));
    return x.b.finish();
  };
  bench x;
  CHECK_NOTHROW(x.run(scatter_add(x, 4)));
  const auto sum = fault_of<isa::uninitialised>([&] { x.run(scatter_add(x, 3)); });
  CHECK(sum.what == "dst");
  CHECK(sum.at.source == "add rows");
  CHECK_NOTHROW(x.run(rows_by_number(x, 4)));
  const auto rows = fault_of<isa::uninitialised>([&] { x.run(rows_by_number(x, 3)); });
  CHECK(rows.what == "b");
  CHECK(rows.at.source == "load rows");
  CHECK_NOTHROW(x.run(scalar(x, 3)));
  const auto number = fault_of<isa::uninitialised>([&] { x.run(scalar(x, 4)); });
  CHECK(number.what == "a");
  CHECK(number.at.source == "read a number");
  CHECK(number.at.text.find("control.load.f32") == 0);
  CHECK_THROWS_AS(x.run(store(x)), isa::uninitialised);
  CHECK(fault_of<isa::uninitialised>([&] { x.run(product(x, true)); }).what == "dst");
  CHECK_NOTHROW(x.run(product(x, false)));
  CHECK_THROWS_AS(x.run(gather(x, 3)), isa::uninitialised);
  CHECK_NOTHROW(x.run(gather(x, 2)));  // the row that nothing wrote is not read
}

TEST_CASE("chip/npu/hazards: boxes must lie in the scratchpad") {
  const auto program = [](bench& x, isa::value base, std::int32_t stride) {
    x.b.source("fill");
    x.b.fill({element::f32, base, 2, 2, stride, 1}, 0);
    return x.b.finish();
  };
  bench x;
  const std::int32_t size = x.machine.scratchpad_bytes;
  CHECK_NOTHROW(x.run(program(x, size - 16, 2)));
  const auto e = fault_of<isa::out_of_bounds>([&] { x.run(program(x, size - 12, 2)); });
  CHECK(e.memory == "scratchpad");
  CHECK(e.last == size + 4);
  CHECK(e.at.index == 0);
  CHECK(e.at.source == "fill");
  CHECK(e.at.text.find("vector.fill.f32") == 0);
  CHECK_THROWS_AS(x.run(program(x, 4, -2)), isa::out_of_bounds);
  CHECK_NOTHROW(x.run(program(x, 8, -2)));
  CHECK_THROWS_AS(x.run(program(x, -4, 2)), isa::out_of_bounds);
  x.b.load_constant(x.b.constant(0), 0);
  const isa::scalar far = x.b.constant(std::int64_t{0x7ffffffffffffff0});
  x.b.fill({element::f32, far, 2, 2, 2, 1}, 0);
  CHECK_THROWS_AS(x.run(), isa::out_of_bounds);
}

TEST_CASE("chip/npu/hazards: transfers must lie in one region, after clipping") {
  const auto program = [](bench& x, std::int32_t rows, std::int32_t base) {
    x.view.rows = rows;
    x.view.base = base;
    x.b.source("load x");
    x.b.load(0, x.tile(11, 100), x.view, 0, 0);
    return x.b.finish();
  };
  bench x;
  CHECK_NOTHROW(x.run(program(x, 10, 4096)));
  const auto e = fault_of<isa::out_of_bounds>([&] { x.run(program(x, 11, 4096)); });
  CHECK(e.memory == "global");
  CHECK(e.first == 4096);
  CHECK(e.last == 4096 + 4400);
  CHECK(e.at.index == 0);
  CHECK(e.at.source == "load x");
  CHECK(e.at.text.find("dma0.load.f32") == 0);
  CHECK_THROWS_AS(x.run(program(x, 10, 4092)), isa::out_of_bounds);
  x.view = {element::f32, 4096, 10, 100, x.b.constant(std::int64_t{1} << 61)};
  x.b.load(0, x.tile(), x.view, 0, 0);
  CHECK_THROWS_AS(x.run(), isa::out_of_bounds);  // the address does not fit into 64 bits
}

TEST_CASE("chip/npu/hazards: a box over two regions is in neither, also where they meet") {
  const auto program = [](bench& x, std::int32_t rows) {
    x.b.source("load both");
    x.view.rows = rows;
    x.b.load(0, x.tile(rows, 100), x.view, 0, 0);
    return x.b.finish();
  };
  bench x;
  const auto bytes = std::as_writable_bytes(std::span(x.memory));
  for (const std::int64_t apart : {0, 64}) {
    CAPTURE(apart);
    const std::array regions{isa::region{4096, bytes.first(2000)},
                             isa::region{6096 + apart, bytes.last(2000)}};
    CHECK_NOTHROW(isa::simulate(x.machine, program(x, 5), regions));
    const auto e =
        fault_of<isa::out_of_bounds>([&] { isa::simulate(x.machine, program(x, 6), regions); });
    CHECK(e.memory == "global");
    CHECK(e.first == 4096);
    CHECK(e.at.index == 0);
    CHECK(e.at.source == "load both");
  }
}

TEST_CASE("chip/npu/hazards: addresses have the alignment that their engine needs") {
  const auto vector = [](bench& x, std::int32_t base) {
    x.b.fill({element::f32, base, 1, 1, 1, 1}, 0);
    return x.b.finish();
  };
  const auto transfer = [](bench& x, std::int32_t base, std::int32_t from) {
    x.view.base = from;
    x.b.source("load x");
    x.b.load(0, {element::f32, base, 1, 4, 4, 1}, x.view, 0, 0);
    return x.b.finish();
  };
  const auto product = [](bench& x, std::int32_t stride) {
    const scratch_tile a{element::f32, 0, 8, 8, stride, 1};
    x.b.load(0, a, x.view, 0, 0);
    x.b.barrier({isa::matrix_unit, isa::dma_unit(0)});
    x.b.source("a a");
    x.b.mma(x.tile(64, 8).part(32, 0, 8, 8), a, a, false);
    return x.b.finish();
  };
  bench x;
  CHECK_NOTHROW(x.run(vector(x, 4)));
  CHECK(fault_of<isa::misaligned>([&] { x.run(vector(x, 6)); }).alignment == 4);
  CHECK_NOTHROW(x.run(transfer(x, 32, 4100)));
  const auto odd = fault_of<isa::misaligned>([&] { x.run(transfer(x, 36, 4096)); });
  CHECK(odd.alignment == 32);
  CHECK(odd.at.index == 0);
  CHECK(odd.at.source == "load x");
  CHECK(odd.at.text.find("dma0.load.f32") == 0);
  CHECK_THROWS_AS(x.run(transfer(x, 32, 4098)), isa::misaligned);
  x.view.base = 4096;
  CHECK_NOTHROW(x.run(product(x, 8)));
  const auto e = fault_of<isa::misaligned>([&] { x.run(product(x, 9)); });
  CHECK(e.what == "a stride");
  CHECK(e.value == 36);
  CHECK(e.at.index == 2);
  CHECK(e.at.source == "a a");
}

TEST_CASE("chip/npu/hazards: waiting for a token that nobody gives is a deadlock") {
  const auto program = [](bench& x, bool signalled) {
    x.b.source("wait for the load");
    x.b.wait(isa::vector_unit, 5, 2);
    x.b.source("");
    x.b.signal(isa::dma_unit(0), 5);
    if (signalled) {
      x.b.signal(isa::matrix_unit, 5);
    }
    return x.b.finish();
  };
  bench x;
  const auto e = fault_of<isa::deadlock>([&] { x.run(program(x, false)); });
  REQUIRE(e.waiting.size() == 1);
  CHECK(e.waiting[0].index == 0);
  CHECK(e.waiting[0].source == "wait for the load");
  CHECK_NOTHROW(x.run(program(x, true)));
}

TEST_CASE("chip/npu/hazards: a circle of waits, a full queue and an open barrier are deadlocks") {
  bench x;
  x.b.wait(isa::vector_unit, 0);
  x.b.signal(isa::vector_unit, 1);
  x.b.wait(isa::matrix_unit, 1);
  x.b.signal(isa::matrix_unit, 0);
  CHECK(fault_of<isa::deadlock>([&] { x.run(); }).waiting.size() == 2);
  const auto full = [](bench& y, int count) {
    y.b.wait(isa::vector_unit, 0);
    for (int n = 1; n < count; ++n) {
      y.b.signal(isa::vector_unit, 1);
    }
    y.b.signal(isa::control_unit, 0);  // never reached when the queue in front of it is full
    return y.b.finish();
  };
  CHECK_NOTHROW(x.run(full(x, x.machine.queue_depth)));
  CHECK_THROWS_AS(x.run(full(x, x.machine.queue_depth + 1)), isa::deadlock);
  const auto barrier = [](bench& y, bool held) {
    if (held) {
      y.b.wait(isa::dma_unit(1), 0);
    }
    y.b.barrier({isa::control_unit, isa::dma_unit(1)});
    y.b.signal(isa::control_unit, 0);
    return y.b.finish();
  };
  CHECK_NOTHROW(x.run(barrier(x, false)));
  CHECK(fault_of<isa::deadlock>([&] { x.run(barrier(x, true)); }).waiting.size() == 2);
}

TEST_CASE("chip/npu/hazards: what this machine has not is an illegal instruction") {
  bench x;
  for (const char* text : {
           "control.signal sem=64 count=1\ncontrol.halt",
           "vector.signal sem=-1 count=1\ncontrol.halt",
           "vector.wait sem=0 count=-1\ncontrol.halt",
           "dma2.signal sem=0 count=1\ncontrol.halt",
           "control.barrier imm=0x20\ncontrol.halt",
           "vector.fill.f32 shape=-1,1 dst=[0:1,1]\ncontrol.halt",
           "vector.fill.f32 shape=1,300000 dst=[0:1,1]\ncontrol.halt",
           "control.jump target=7\ncontrol.halt",
           "control.li rd=r1 imm=1",
       }) {
    CAPTURE(text);
    const auto e = fault_of<isa::illegal_instruction>([&] { x.run(isa::assemble(text)); });
    CHECK_FALSE(e.reason.empty());
    CHECK(std::string(e.what()).find(e.reason) != std::string::npos);
  }
  CHECK_THROWS_AS(x.run(isa::assemble("control.check x=0\ncontrol.halt")), isa::check_failed);
  isa::program broken = isa::assemble("control.halt");
  broken.code[0].rows = 1;
  CHECK_THROWS_AS(x.run(broken), isa::encoding_error);
  x.machine.dma_engines = 0;
  CHECK_THROWS_AS(x.run(isa::program{}), ashlar::argument_error);
}

TEST_CASE("chip/npu/hazards: an endless loop ends at the limit") {
  const isa::program p = isa::assemble("again: control.jump target=again");
  CHECK_THROWS_AS(isa::simulate({}, p, {}, {}, {.cycle_limit = 1000}), isa::cycle_limit_reached);
  CHECK_THROWS_AS(isa::simulate({}, p, {}, {}, {.step_limit = 1000}), isa::cycle_limit_reached);
}

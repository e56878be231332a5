// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu.hpp"
#include "ashlar/tile/banks.hpp"
#include "ashlar/trace/chrome.hpp"
#include "chip/npu_matmul.hpp"

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using isa::element;
using isa::opcode;
using isa::scratch_tile;

static_assert(ashlar::Chip<chip::npu<chip::npu_description{}>>);
static_assert(chip::npu<npu_matmul::balanced>::description.name == "balanced");
static_assert(chip::npu<npu_matmul::balanced>::description.matrix_unit == std::array{16, 16, 32});

namespace {

constexpr chip::npu_description
    machine{};  // the defaults, on which the numbers below are worked out

isa::run_report run(const isa::program& p, const chip::npu_description& d = machine) {
  static std::vector<float> memory(1 << 16);
  const std::array regions{isa::region{0, std::as_writable_bytes(std::span(memory))}};
  return isa::simulate(d, p, regions);
}
/// Cycles of one engine's work in a program that `body(builder)` writes.
template <class F>
std::int64_t busy(int unit, const F& body) {
  isa::builder b;
  body(b);
  return run(b.finish()).engines[static_cast<std::size_t>(unit)].busy;
}

}  // namespace

TEST_CASE("chip/npu/timing: a vector instruction takes a cycle for each step of the lanes") {
  const auto fill = [](std::int32_t rows, std::int32_t cols, std::int32_t stride, element type) {
    return busy(isa::vector_unit,
                [&](isa::builder& b) { b.fill(b.allocate(type, rows, cols, stride), 0); });
  };
  CHECK(fill(1, 32, 32, element::f32) == 1);  // 128 bytes
  CHECK(fill(1, 33, 33, element::f32) == 2);
  CHECK(fill(1, 64, 64, element::bf16) == 1);
  CHECK(fill(4, 33, 40, element::f32) == 8);  // rows with gaps: two steps each
  CHECK(fill(4, 33, 33, element::f32) == 5);  // without: one row of 132
  CHECK(fill(0, 8, 8, element::f32) == 1);
  const auto exponential = busy(isa::vector_unit, [](isa::builder& b) {
    const scratch_tile t = b.allocate(element::f32, 1, 64);
    b.fill(t, 0);
    b.unary(opcode::v_exp, t, t);
  });
  CHECK(exponential == 2 + 2 * machine.special_cycles);
}

TEST_CASE("chip/npu/timing: a column costs bank conflicts that padding removes") {
  const auto column = [](std::int32_t stride) {
    isa::builder b;
    const scratch_tile t = b.allocate(element::f32, 32, 1, stride);
    scratch_tile row = t.transposed();
    b.fill(row, 0);
    return run(b.finish()).bank_conflicts;
  };
  // 32 banks of 8 bytes: 64 floats lead back to the same bank, 62 floats to every other one.
  CHECK(column(1) == 0);
  CHECK(column(64) == 31);
  CHECK(column(32) == 15);
  CHECK(column(66) == 0);
  const auto transposed = [](std::int32_t stride) {
    isa::builder b;
    const scratch_tile from = b.allocate(element::f32, 64, 64, stride);
    const scratch_tile to = b.allocate(element::f32, 64, 64);
    b.fill(from, 0);
    b.transpose(to, from);
    return run(b.finish()).bank_conflicts;
  };
  CHECK(transposed(64) == 128 * 31);
  CHECK(transposed(66) == 0);
}

TEST_CASE("chip/npu/timing: tile::bank_conflicts counts what the simulator counts") {
  namespace tile = ashlar::tile;
  constexpr tile::bank_shape banks{machine.scratchpad_banks, machine.bank_bytes};
  for (const element type : {element::f32, element::bf16, element::i8}) {
    const int size = isa::size_of(type);
    const int lanes = machine.vector_bytes / size;
    for (std::int32_t stride = 2 * lanes; stride < 5 * lanes; stride += stride / 7) {
      const tile::layout where{{lanes, stride}, {2 * lanes, 1}};
      isa::builder rows;
      rows.fill(rows.allocate(type, lanes, 2 * lanes, stride), 0);
      CHECK(run(rows.finish()).bank_conflicts ==
            bank_conflicts(where, tile::row_access(lanes, 2 * lanes, lanes), size, banks));
      isa::builder columns;
      columns.fill(columns.allocate(type, lanes, 2 * lanes, stride).transposed(), 0);
      CHECK(run(columns.finish()).bank_conflicts ==
            bank_conflicts(where, tile::column_access(lanes, 2 * lanes, lanes), size, banks));
    }
    // Longer rows, where the model says that they help.
    const std::array both{tile::row_access(lanes, 2 * lanes, lanes),
                          tile::column_access(lanes, 2 * lanes, lanes)};
    const auto place =
        tile::place_matrix(lanes, 2 * lanes, size, banks, both,
                           {.swizzles = false, .row_bytes = size == 4 ? machine.bank_bytes : size});
    isa::builder b;
    const scratch_tile t =
        b.allocate(type, lanes, 2 * lanes, static_cast<std::int32_t>(place.where.plain[0].stride));
    b.fill(t, 0);
    b.fill(t.transposed(), 0);
    CHECK(run(b.finish()).bank_conflicts == place.conflicts);
    CHECK((type != element::f32 || place.conflicts == 0));
  }
  // Columns of a matrix whose offsets are exchanged, by gathers.
  const std::array columns{tile::column_access(64, 64, 32)};
  const auto place = tile::place_matrix(64, 64, 4, banks, columns);
  CHECK(place.where.exchange.bits > 0);
  for (const auto& where : {tile::swizzled_layout{place.where.plain, {}}, place.where}) {
    isa::builder b;
    const scratch_tile table = b.allocate(element::f32, 1, 4096);
    const scratch_tile n = b.allocate(element::i32, 1, 32);
    const scratch_tile to = b.allocate(element::f32, 1, 32);
    b.fill(table, 0);
    for (const int column : {0, 1, 33}) {
      for (int lane = 0; lane < 32; ++lane) {
        b.fill(n.part(0, lane, 1, 1), static_cast<std::uint64_t>(where(lane * 64 + column)));
      }
      b.gather(1, to, table, n);
    }
    const tile::layout one_column{{1, 0}, {32, 64}};
    CHECK(run(b.finish()).bank_conflicts == 3 * bank_conflicts(where, one_column, 4, banks));
  }
}

TEST_CASE("chip/npu/timing: a gather pays for the banks that its indices meet in") {
  const auto gather = [](std::int32_t step) {
    isa::builder b;
    const scratch_tile table = b.allocate(element::f32, 1, 4096);
    const scratch_tile n = b.allocate(element::i32, 1, 32);
    b.fill(table, 0);
    b.iota(n, 1);
    b.binary(opcode::v_mul, n, n, step);
    b.gather(1, b.allocate(element::f32, 1, 32), table, n);
    return run(b.finish()).bank_conflicts;
  };
  CHECK(gather(1) == 0);
  CHECK(gather(64) == 31);
  CHECK(gather(66) == 0);
}

TEST_CASE("chip/npu/timing: the matrix unit needs its pipeline full") {
  const auto product = [](std::int32_t m, std::int32_t n, std::int32_t k, element type) {
    isa::builder b;
    const scratch_tile a = b.allocate(type, m, k, (k + 31) / 32 * 32);  // whole 32 bytes
    const scratch_tile c = b.allocate(type, k, n, (n + 31) / 32 * 32);
    const auto sum = type == element::i8 ? element::i32 : element::f32;
    const scratch_tile to = b.allocate(sum, m, n);
    b.fill(a, 0);
    b.fill(c, 0);
    b.barrier({isa::vector_unit, isa::matrix_unit});
    b.mma(to, a, c, false);
    return run(b.finish()).engines[isa::matrix_unit].busy;
  };
  CHECK(product(16, 16, 32, element::bf16) == 16);
  CHECK(product(1, 1, 1, element::bf16) == 16);
  CHECK(product(16, 16, 32, element::f32) == 64);
  CHECK(product(16, 16, 32, element::i8) == 8);
  CHECK(product(64, 64, 64, element::bf16) == 16 * 2 * 16);
  // One tile of sums: every step of k waits for the one before it to leave the pipeline.
  CHECK(product(16, 16, 128, element::bf16) == 3 * machine.matrix_latency + 16);

  const auto twice = [](bool same) {
    isa::builder b;
    const scratch_tile a = b.allocate(element::bf16, 32, 32);
    const std::array sums{b.allocate(element::f32, 32, 32), b.allocate(element::f32, 32, 32)};
    b.fill(a, 0);
    b.barrier({isa::vector_unit, isa::matrix_unit});
    b.mma(sums[0], a, a, false);
    b.mma(sums[same ? 0 : 1], a, a, same);
    return run(b.finish()).pipeline_stalls;
  };
  CHECK(twice(false) == 0);
  CHECK(twice(true) > 0);
  CHECK(twice(true) <= machine.matrix_latency);
}

TEST_CASE("chip/npu/timing: a matrix operand read across its rows costs bank conflicts") {
  const auto product = [](std::int32_t stride) {
    isa::builder b;
    const scratch_tile a = b.allocate(element::f32, 64, 16, stride);
    const scratch_tile c = b.allocate(element::f32, 64, 16);
    b.fill(a, 0);
    b.fill(c, 0);
    const scratch_tile to = b.allocate(element::f32, 16, 16);
    b.barrier({isa::vector_unit, isa::matrix_unit});
    b.mma(to, a.transposed(), c, false);
    return run(b.finish()).bank_conflicts;
  };
  CHECK(product(64) == 16 * 2 * 31);  // 16 rows of a, 64 long, in two steps of 32
  CHECK(product(72) < product(64));
}

TEST_CASE("chip/npu/timing: a transfer takes its latency and whole bursts") {
  const auto load = [](std::int32_t rows, std::int32_t cols, std::int32_t stride, int count) {
    isa::builder b;
    const scratch_tile t = b.allocate(element::f32, rows, cols);
    for (int n = 0; n < count; ++n) {
      b.load(0, t, {element::f32, 0, rows, cols, stride}, 0, 0);
    }
    return run(b.finish());
  };
  const auto one = load(1, 256, 256, 1);
  CHECK(one.channel_cycles == 32);  // 1,024 bytes, 32 in a cycle
  CHECK(one.cycles == 1 + machine.dma_latency + 32);
  CHECK(one.bytes_loaded == 1024);
  CHECK(load(8, 1, 100, 1).channel_cycles == 8);    // a burst for each row
  CHECK(load(8, 32, 32, 1).channel_cycles == 32);   // rows side by side are one run
  CHECK(load(8, 33, 100, 1).channel_cycles == 40);  // 132 bytes are five bursts
  const auto three = load(1, 256, 256, 3);          // latencies overlap, bytes do not
  CHECK(three.cycles == 1 + machine.dma_latency + 3 * 32);
}

TEST_CASE("chip/npu/timing: two DMA engines share one channel") {
  const auto load = [](int engines) {
    isa::builder b;
    for (int n = 0; n < 4; ++n) {
      const scratch_tile t = b.allocate(element::f32, 64, 64);
      b.load(n % engines, t, {element::f32, 0, 64, 64, 64}, 0, 0);
    }
    return run(b.finish());
  };
  CHECK(load(1).channel_cycles == 4 * 512);
  CHECK(load(2).channel_cycles == 4 * 512);
  CHECK(load(2).cycles >= machine.dma_latency + 4 * 512);
}

TEST_CASE("chip/npu/timing: engines run at the same time") {
  const auto work = [](bool in_turn) {
    isa::builder b;
    const scratch_tile t = b.allocate(element::f32, 64, 64);
    const scratch_tile u = b.allocate(element::f32, 64, 64);
    b.load(0, t, {element::f32, 0, 64, 64, 64}, 0, 0);
    if (in_turn) {
      b.barrier({isa::vector_unit, isa::dma_unit(0)});
    }
    b.fill(u, 0x3f800000);
    for (int n = 0; n < 3; ++n) {
      b.unary(opcode::v_exp, u, u);
    }
    return run(b.finish()).cycles;
  };
  CHECK(work(false) < 128 + 3 * 512 + 3 * machine.special_latency + machine.vector_latency + 20);
  CHECK(work(true) > machine.dma_latency + 512 + 128 + 3 * 512);
}

TEST_CASE("chip/npu/timing: equal runs give equal reports") {
  const isa::program p = npu_matmul::matmul(48, 80, 64, {16, 16, 32, 2});
  const auto once = [&] {
    std::vector<ashlar::bfloat16> a(48 * 64);
    std::vector<ashlar::bfloat16> b(64 * 80);
    std::vector<float> c(48 * 80);
    const std::array regions{isa::region{0, std::as_writable_bytes(std::span(a))},
                             isa::region{1 << 20, std::as_writable_bytes(std::span(b))},
                             isa::region{1 << 21, std::as_writable_bytes(std::span(c))}};
    return chip::npu<npu_matmul::balanced>::run(
        p, regions, std::array{regions[0].address, regions[1].address, regions[2].address});
  };
  const isa::run_report first = once();
  CHECK(first == once());
  CHECK(first.cycles > 0);
  CHECK(first.utilisation(isa::matrix_unit) > 0);
  CHECK(first.utilisation(isa::matrix_unit) < 1);
  CHECK(first.engines[isa::matrix_unit].name == "matrix");
  // Reading the program back changes nothing.
  CHECK(isa::from_binary(isa::to_binary(p)) == p);
  CHECK(isa::assemble(isa::disassemble(p)) == p);
}

TEST_CASE("chip/npu/timing: the timeline holds every instruction with its source") {
  isa::builder b;
  const scratch_tile t = b.allocate(element::f32, 4, 32);
  b.source("zeros");
  b.fill(t, 0);
  b.signal(isa::vector_unit, 0);
  b.source("store");
  b.wait(isa::dma_unit(0), 0);
  b.store(0, t, {element::f32, 0, 4, 32, 32}, 0, 0);
  const isa::run_report r = run(b.finish());
  REQUIRE(r.timeline.events().size() == 4);
  const auto& fill = r.timeline.events()[0];
  CHECK(fill.name == "fill");
  CHECK(fill.lane == isa::vector_unit);
  CHECK(fill.duration == 4);
  CHECK(fill.details.back().second == "zeros");
  CHECK(r.timeline.events().back().category == "transfer");
  CHECK(r.timeline.busy(0, isa::dma_unit(0)) >= r.channel_cycles);
  CHECK(r.timeline.end() <= r.cycles);
  const std::string json = ashlar::trace::to_chrome_trace(r.timeline);
  CHECK(json.find("\"name\":\"matrix\"") != std::string::npos);
  CHECK(json.find("\"source\":\"store\"") != std::string::npos);
}

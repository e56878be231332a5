// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/npu/codegen/print.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"
#include "chip/npu_codegen_kernels.hpp"
#include "chip/npu_codegen_support.hpp"
#include "support/random_set.hpp"
#include "support/tile_random.hpp"

namespace {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using namespace npu_codegen_test;

/// A tile that no scratchpad of this size holds.
struct too_large {
  static constexpr auto name = "too_large";
  constexpr void operator()(tile::scope&, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto a = tile::load<512, 512>(x, 0, 0);
    tile::store(y, a + tile::transpose<1, 0>(a), 0, 0);
  }
};

/// Reads a tile down its columns.
struct columns {
  static constexpr auto name = "columns";
  constexpr void operator()(tile::scope&, tile::in<float, 2> x, tile::out<float, 1> sums,
                            tile::out<float, 2> turned) const {
    const auto a = tile::load<64, 128>(x, 0, 0);
    tile::store(sums, tile::sum<0>(a), 0);
    tile::store(turned, tile::transpose<1, 0>(a) * 2.0F, 0, 0);
  }
};

struct positive {
  static constexpr auto name = "positive";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto a = tile::load<8>(x, k.program_id(0) * 8);
    k.require(7, a >= 0.0F);
    tile::store(y, tile::sqrt(a), k.program_id(0) * 8);
  }
};

}  // namespace

TEST_CASE("chip/npu_codegen: buffers that live at the same time have no byte in common") {
  // Checked by walking the steps in the order in which they run, loops as often as there are slots
  // and once more: what is read was last written as that buffer and slot.
  const auto check = [](const codegen::chip_program& c) {
    std::vector<int> owner(static_cast<std::size_t>(c.machine.scratchpad_bytes), -1);
    std::vector<int> slot(c.regions.size());  // in use
    int wrong = 0;
    const auto walk = [&](const auto& self, int r) -> void {
      for (const codegen::step& s : c.regions[static_cast<std::size_t>(r)].steps) {
        for (const int inner : s.regions) {
          const int slots = inner < 0 ? 0 : c.regions[static_cast<std::size_t>(inner)].slots;
          for (int round = 0; inner >= 0 && round < slots + 1; ++round) {
            int& now = slot[static_cast<std::size_t>(inner)];
            now = (now + 1) % slots;
            self(self, inner);
          }
        }
        for (const bool writes : {false, true}) {
          for (const codegen::access& a : codegen::accesses_of(s)) {
            const codegen::buffer& b = c.buffers[static_cast<std::size_t>(a.buffer)];
            const auto home = static_cast<std::size_t>(b.region);
            const int now = b.slots > 1 ? slot[home] : 0;
            const std::int64_t first = b.address + now * c.regions[home].slot_bytes;
            const int mine = 16 * a.buffer + now;
            wrong += first < 0 || first + b.bytes > c.machine.scratchpad_bytes ? 1 : 0;
            for (std::int64_t k = 0; k < b.bytes && a.write == writes && wrong == 0; ++k) {
              int& who = owner[static_cast<std::size_t>(first + k)];
              wrong += !writes && who != mine ? 1 : 0;
              who = mine;
            }
          }
        }
      }
    };
    walk(walk, 0);
    return wrong;
  };
  int wrong = 0;
  int most_slots = 0;
  MESSAGE("seeds 300 to 399");
  for (std::uint64_t seed = 300; seed < 400; ++seed) {
    tile_test::random_options what = tile_test::options_of(seed);
    what.float8 = false;  // the machine has no atomics of them
    const tile::program p = tile_test::random_program(seed, what);
    for (const codegen::compile_options& how :
         {codegen::compile_options{.stages = 1}, {.compact = true}, {}, {.stages = 3}}) {
      const codegen::chip_program c = codegen::compile({}, p, how).ir;
      wrong += check(c);
      for (const codegen::buffer& b : c.buffers) {
        most_slots = std::max(most_slots, b.slots);
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(most_slots >= 3);
}

TEST_CASE("chip/npu_codegen: longer rows keep columns from meeting in banks") {
  const tile::program program = tile::trace<columns>();
  std::vector<float> x(64 * 128);
  for (std::size_t k = 0; k < x.size(); ++k) {
    x[k] = static_cast<float>(k % 64);
  }
  std::array<isa::run_report, 2> reports;
  for (const bool padding : {false, true}) {
    std::vector<float> sums(128);
    std::vector<float> turned(128 * 64);
    const std::array<std::int64_t, 2> extents{64, 128};
    const std::array<std::int64_t, 2> strides{128, 1};
    const std::array<std::int64_t, 2> turned_extents{128, 64};
    const std::array<std::int64_t, 2> turned_strides{64, 1};
    const std::array<std::int64_t, 1> length{128};
    const std::array<std::int64_t, 1> step{1};
    const std::array<tile::argument, 3> arguments{
        tile::argument(static_cast<const float*>(x.data()), extents, strides),
        tile::argument(sums.data(), length, step),
        tile::argument(turned.data(), turned_extents, turned_strides)};
    reports[padding ? 1 : 0] =
        codegen::launch(codegen::compile({}, program, {.padding = padding}), {1, 1, 1}, arguments);
    for (std::size_t j = 0; j < 128; ++j) {
      CHECK(sums[j] == 64.0F * static_cast<float>(j % 64));
      CHECK(turned[j * 64 + 5] == 2 * x[5 * 128 + j]);
    }
  }
  MESSAGE("cycles ", reports[0].cycles, " and padded ", reports[1].cycles, ", conflicts ",
          reports[0].bank_conflicts, " and padded ", reports[1].bank_conflicts);
  CHECK(reports[0].bank_conflicts > 1000);
  CHECK(reports[1].bank_conflicts == 0);
  CHECK(reports[1].cycles < reports[0].cycles);
}

TEST_CASE("chip/npu_codegen: padding goes where it alone is too large for the scratchpad") {
  const tile::program program = tile::trace<columns>();
  const auto bytes_of = [](const codegen::compiled& c) {
    std::int64_t bytes = 0;
    for (const codegen::buffer& b : c.ir.buffers) {
      bytes = std::max(bytes, b.address + b.bytes);
    }
    return bytes;
  };
  chip::npu_description d;
  const auto tight = codegen::compile(d, program, {.stages = 1, .padding = false});
  const auto padded = codegen::compile(d, program, {.stages = 1});
  REQUIRE(bytes_of(padded) > bytes_of(tight));
  d.scratchpad_bytes = static_cast<int>(bytes_of(padded));
  CHECK(bytes_of(codegen::compile(d, program)) == bytes_of(padded));
  for (int missing = 1; bytes_of(padded) - missing >= bytes_of(tight); missing += 509) {
    d.scratchpad_bytes = static_cast<int>(bytes_of(padded)) - missing;
    const auto made = codegen::compile(d, program);
    CHECK(bytes_of(made) == bytes_of(tight));
    CHECK(!made.ir.regions.back().fenced);
  }
  d.scratchpad_bytes = static_cast<int>(bytes_of(tight)) - 1;
  CHECK(codegen::compile(d, program).ir.regions.back().fenced);
  CHECK(compare(d, program, 1) == "");
}

TEST_CASE("chip/npu_codegen: every channel is needed: without it engines race") {
  const tile::program program = tile::trace<dense_gelu<16, 24, 32>>();
  const codegen::compiled made = codegen::compile({}, program);
  constexpr std::int64_t n = 96;
  const std::vector<bfloat16> a(n * n);
  const std::vector<float> bias(n);
  std::vector<float> y(n * n);
  const std::array<std::int64_t, 2> extents{n, n};
  const std::array<std::int64_t, 2> strides{n, 1};
  const std::array<std::int64_t, 1> length{n};
  const std::array<std::int64_t, 1> step{1};
  const std::array<tile::argument, 4> arguments{
      tile::argument(a.data(), extents, strides), tile::argument(a.data(), extents, strides),
      tile::argument(bias.data(), length, step), tile::argument(y.data(), extents, strides)};
  CHECK(made.ir.channels.size() >= 6);
  for (std::size_t k = 0; k < made.ir.channels.size(); ++k) {
    CAPTURE(k);
    codegen::compiled broken = made;
    broken.ir.channels.erase(broken.ir.channels.begin() + static_cast<std::ptrdiff_t>(k));
    broken.code = codegen::emit(broken.ir);
    CHECK_THROWS_AS(codegen::launch(broken, {4, 6, 1}, arguments), isa::fault);
  }
  codegen::launch(made, {4, 6, 1}, arguments);
}

TEST_CASE("chip/npu_codegen: what does not fit is refused with the bytes that it takes") {
  const tile::program program = tile::trace<too_large>();
  bool refused = false;
  try {
    codegen::compile({}, program);
  } catch (const codegen::out_of_scratchpad& e) {
    refused = true;
    CHECK(e.program == "too_large");
    CHECK(e.needed >= 512 * 512 * 4);
    CHECK(e.available == 256 * 1024);
    CHECK(std::string(e.what()).find("too_large") != std::string::npos);
  }
  CHECK(refused);
}

TEST_CASE("chip/npu_codegen: a require that does not hold stops the program") {
  const tile::program program = tile::trace<positive>();
  const codegen::compiled made = codegen::compile({}, program);
  std::vector<float> x(16, 4.0F);
  std::vector<float> y(16);
  const std::array<std::int64_t, 1> length{16};
  const std::array<std::int64_t, 1> step{1};
  const auto run = [&] {
    const std::array<tile::argument, 2> arguments{
        tile::argument(static_cast<const float*>(x.data()), length, step),
        tile::argument(y.data(), length, step)};
    codegen::launch(made, {2, 1, 1}, arguments);
  };
  run();
  CHECK(y == std::vector<float>(16, 2.0F));
  x[11] = -1;
  bool stopped = false;
  try {
    run();
  } catch (const tile::execution_error& e) {
    stopped = true;
    CHECK(e.number == 7);
    CHECK(program.at(e.instruction).op == tile::opcode::require);
  }
  CHECK(stopped);
}

TEST_CASE("chip/npu_codegen: the text of chip IR names buffers, engines, tokens and sources") {
  const tile::program program = tile::trace<dense_gelu<16, 24, 32>>();
  const std::string text = codegen::print(codegen::compile({}, program).ir);
  for (const std::string part :
       {"chip program \"dense_gelu\"", "slots", "dma0.load.bf16", "matrix.mma.bf16",
        "matrix waits for dma0", "dma0 waits for matrix", "rounds before", " erf\n", "bytes at"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("chip/npu_codegen: views of a tile are its layout composed with theirs") {
  using codegen::algebra_of;
  const tile::tile_type t(ashlar::dtype::float32, {6, 24});
  for (const std::int64_t multiple : {1, 16}) {
    const codegen::place x{.where = codegen::place::kind::scratch,
                           .type = t,
                           .buffer = 0,
                           .at = codegen::row_major(t, 1u, multiple)};
    const tile::layout own = algebra_of(t, x.at);
    CHECK(own(5, 23) == 5 * (multiple == 1 ? 24 : 32) + 23);

    const tile::tile_type turned_type(ashlar::dtype::float32, {24, 6});
    const codegen::place turned =
        codegen::detail::transposed(x, {.value = 0x01, .type = turned_type});
    CHECK(merged(algebra_of(turned_type, turned.at)) ==
          merged(compose(own, tile::layout{{24, 1}, {6, 24}})));

    const codegen::place odd = codegen::detail::half(x, 1);
    CHECK(odd.at.offset == own(1));
    CHECK(merged(algebra_of(odd.type, odd.at)) ==
          merged(compose(own, tile::layout{{6, 24}, {12, 2}})));

    const codegen::place part = codegen::detail::slice(x, 0, 2, 3);
    CHECK(part.at.offset == own(2 * 24));
    CHECK(merged(algebra_of(part.type, part.at)) ==
          merged(compose(own, tile::layout{{3, 24}, {24, 1}})));

    const tile::tile_type more(ashlar::dtype::float32, {5, 6, 24});
    CHECK(merged(algebra_of(more, codegen::repeated(x, more).at)) ==
          merged(compose(own, tile::layout{{5, 0}, {6, 24}, {24, 1}})));
  }
  const tile::tile_type dense(ashlar::dtype::float32, {4, 8});
  const tile::layout own = algebra_of(dense, codegen::row_major(dense));
  CHECK(merged(inverse(own)) == merged(own));
}

TEST_CASE("chip/npu_codegen: the matrix unit's fragments are operands divided by its shape") {
  const tile::program program = tile::trace<dense_gelu<32, 32, 64>>();
  const codegen::chip_program c = codegen::compile({}, program).ir;
  const auto& unit = c.machine.matrix_unit;
  int products = 0;
  for (const codegen::region& r : c.regions) {
    for (const codegen::step& s : r.steps) {
      if (s.code.op != isa::opcode::mma) {
        continue;
      }
      ++products;
      struct side {
        isa::operand box;
        std::int64_t rows, cols, block_rows, block_cols;
      };
      const std::int64_t m = s.code.rows.imm;
      const std::int64_t n = s.code.cols.imm;
      const std::int64_t k = s.code.depth.imm;
      for (const side& x :
           {side{s.code.a, m, k, unit[0], unit[2]}, side{s.code.b, k, n, unit[2], unit[1]},
            side{s.code.dst, m, n, unit[0], unit[1]}}) {
        const tile::layout whole{{x.rows, x.box.row_stride}, {x.cols, x.box.col_stride}};
        const tile::layout_parts parts =
            divide(whole, tile::layout{{x.block_rows, x.cols}, {x.block_cols, 1}});
        REQUIRE(parts.each.size() == x.block_rows * x.block_cols);
        REQUIRE(parts.blocks.size() == x.rows / x.block_rows * (x.cols / x.block_cols));
        int wrong = 0;
        std::int64_t block = 0;
        for (std::int64_t i = 0; i < x.rows; i += x.block_rows) {
          for (std::int64_t j = 0; j < x.cols; j += x.block_cols, ++block) {
            for (std::int64_t e = 0; e < parts.each.size(); ++e) {
              const std::int64_t row = i + e / x.block_cols;
              const std::int64_t col = j + e % x.block_cols;
              wrong += parts.blocks(block) + parts.each(e) ==
                               row * x.box.row_stride + col * x.box.col_stride
                           ? 0
                           : 1;
            }
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
  CHECK(products == 2);
}

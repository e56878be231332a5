// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "chip/npu_harness.hpp"

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
using isa::element;
using isa::opcode;
using isa::scratch_tile;

namespace {

/// Runs `body(builder)` and returns the scalar that it leaves in the register it returns.
template <class F>
std::int64_t scalar_of(const F& body, std::span<const std::int64_t> arguments = {}) {
  isa::builder b(static_cast<int>(arguments.size()));
  const isa::scalar result = body(b);
  const scratch_tile t = b.allocate(element::i64, 1, 1);
  b.write(t, result);
  b.barrier({isa::control_unit, isa::dma_unit(0)});
  b.store(0, t, {element::i64, 0, 1, 1, 1}, 0, 0);
  std::array<std::int64_t, 1> out{};
  const std::array regions{isa::region{0, std::as_writable_bytes(std::span(out))}};
  isa::simulate({}, b.finish(), regions, arguments);
  return out[0];
}

std::int64_t bits(float f) { return std::bit_cast<std::uint32_t>(f); }

}  // namespace

TEST_CASE("chip/npu/control: scalar arithmetic") {
  constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
  struct expected {
    opcode op;
    std::int64_t x, y, result;
    element type = element::i64;
  };
  for (const expected& e : {
           expected{opcode::s_add, 5, -7, -2},
           expected{opcode::s_add, std::numeric_limits<std::int64_t>::max(), 1, least},
           expected{opcode::s_sub, 5, 7, -2},
           expected{opcode::s_mul, -5, 7, -35},
           expected{opcode::s_div, -7, 2, -3},
           expected{opcode::s_div, 7, 0, 0},
           expected{opcode::s_div, least, -1, least},
           expected{opcode::s_rem, -7, 2, -1},
           expected{opcode::s_rem, 7, 0, 7},
           expected{opcode::s_min, -7, 2, -7},
           expected{opcode::s_max, -7, 2, 2},
           expected{opcode::s_and, 12, 10, 8},
           expected{opcode::s_or, 12, 10, 14},
           expected{opcode::s_xor, 12, 10, 6},
           expected{opcode::s_shl, 3, 65, 6},
           expected{opcode::s_shr, -8, 1, -4},
           expected{opcode::s_eq, 4, 4, 1},
           expected{opcode::s_ne, 4, 4, 0},
           expected{opcode::s_lt, -1, 0, 1},
           expected{opcode::s_le, 1, 0, 0},
           expected{opcode::s_add, bits(0.1F), bits(0.2F), bits(0.1F + 0.2F), element::f32},
           expected{opcode::s_sub, bits(0.1F), bits(0.2F), bits(0.1F - 0.2F), element::f32},
           expected{opcode::s_mul, bits(0.1F), bits(0.2F), bits(0.1F * 0.2F), element::f32},
           expected{opcode::s_div, bits(0.1F), bits(0.3F), bits(0.1F / 0.3F), element::f32},
           expected{opcode::s_min, bits(-1.0F), bits(2.0F), bits(-1.0F), element::f32},
           expected{opcode::s_max, bits(-1.0F), bits(2.0F), bits(2.0F), element::f32},
           expected{opcode::s_eq, bits(0.0F), bits(-0.0F), 1, element::f32},
           expected{opcode::s_ne, bits(0.0F), bits(-0.0F), 0, element::f32},
           expected{opcode::s_lt, bits(-1.0F), bits(0.5F), 1, element::f32},
           expected{opcode::s_le, bits(0.5F), bits(0.5F), 1, element::f32},
       }) {
    CAPTURE(isa::info_of(e.op).name);
    CHECK(scalar_of(
              [&](isa::builder& b) {
                return b.scalar_op(e.op, b.argument(0), b.argument(1), e.type);
              },
              std::array{e.x, e.y}) == e.result);
  }
  const auto cast = [](element to, element from, std::int64_t x) {
    return scalar_of(
        [&](isa::builder& b) {
          const isa::scalar s = b.fresh();
          b.emit({.op = opcode::s_cast, .type = to, .from = from, .rd = s.reg, .x = b.argument(0)});
          return s;
        },
        std::array{x});
  };
  CHECK(cast(element::f32, element::i64, -3) == bits(-3.0F));
  CHECK(cast(element::i64, element::f32, bits(-3.75F)) == -3);
  CHECK(cast(element::i64, element::f32, bits(1e30F)) == std::numeric_limits<std::int64_t>::max());
  CHECK(cast(element::i64, element::i64, 9) == 9);
}

TEST_CASE("chip/npu/control: register 0 stays 0") {
  CHECK(scalar_of([](isa::builder& b) {
          b.load_constant(isa::scalar{0}, 77);
          return isa::scalar{0};
        }) == 0);
}

TEST_CASE("chip/npu/control: loops nest, run not at all for empty ranges, and branch") {
  const auto count = [](std::int32_t begin, std::int32_t end, std::int32_t step) {
    return scalar_of([&](isa::builder& b) {
      const isa::scalar n = b.constant(0);
      b.loop(begin, end, step, [&](isa::scalar i) {
        b.loop(0, i, 1, [&](isa::scalar j) {
          b.when(opcode::bne, j, 2, [&] { b.scalar_op(opcode::s_add, n, n, 1); });
        });
      });
      return n;
    });
  };
  const auto expected = [](int begin, int end, int step) {
    int n = 0;
    for (int i = begin; i < end; i += step) {
      for (int j = 0; j < i; ++j) {
        n += j != 2 ? 1 : 0;
      }
    }
    return n;
  };
  CHECK(count(0, 10, 1) == expected(0, 10, 1));
  CHECK(count(1, 11, 3) == expected(1, 11, 3));
  CHECK(count(5, 5, 1) == 0);
  CHECK(count(7, 5, 1) == 0);
}

TEST_CASE("chip/npu/control: beq, bne, blt, bge and jump") {
  for (const opcode op : {opcode::beq, opcode::bne, opcode::blt, opcode::bge}) {
    for (const std::int32_t x : {-1, 0, 1}) {
      const bool taken = op == opcode::beq   ? x == 0
                         : op == opcode::bne ? x != 0
                         : op == opcode::blt ? x < 0
                                             : x >= 0;
      CHECK(scalar_of([&](isa::builder& b) {
              const isa::scalar n = b.constant(1);
              b.when(op, b.constant(x), 0, [&] { b.load_constant(n, 2); });
              return n;
            }) == (taken ? 2 : 1));
    }
  }
}

TEST_CASE("chip/npu/control: the builder refuses what it cannot write") {
  isa::builder b(2);
  CHECK_THROWS_AS(static_cast<void>(b.argument(2)), ashlar::argument_error);
  CHECK_THROWS_AS(isa::builder(64), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(b.allocate(element::f32, 4096, 4096)), ashlar::argument_error);
  b.jump(b.new_label());
  CHECK_THROWS_AS(static_cast<void>(b.finish()), ashlar::argument_error);
  isa::builder full(60);
  static_cast<void>(full.fresh());
  static_cast<void>(full.fresh());
  static_cast<void>(full.fresh());
  CHECK_THROWS_AS(static_cast<void>(full.fresh()), ashlar::argument_error);
}

// --- DMA -----------------------------------------------------------------------------------------

namespace {

struct global_matrix {
  std::int64_t rows, cols, row_stride, col_stride;
};

/// Loads a box of a matrix of numbered elements and stores it elsewhere at the same place.
void check_box(const global_matrix& g, std::int32_t rows, std::int32_t cols, std::int32_t row,
               std::int32_t col) {
  CAPTURE(g.rows);
  CAPTURE(g.cols);
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(row);
  CAPTURE(col);
  const auto size = static_cast<std::size_t>(
      g.rows == 0 || g.cols == 0 ? 1
                                 : (g.rows - 1) * g.row_stride + (g.cols - 1) * g.col_stride + 1);
  std::vector<std::int32_t> from(size);
  std::iota(from.begin(), from.end(), 1);
  std::vector<std::int32_t> to(size, -1);
  const std::size_t box = static_cast<std::size_t>(rows * cols) + 1;
  std::vector<std::int32_t> whole(box, -1);
  const std::array regions{isa::region::of(std::span(from)), isa::region::of(std::span(to)),
                           isa::region::of(std::span(whole))};
  isa::builder b(7);
  const isa::global_view source{element::i32,  b.argument(0), b.argument(3),
                                b.argument(4), b.argument(5), b.argument(6)};
  isa::global_view target = source;
  target.base = b.argument(1);
  const isa::global_view all{element::i32, b.argument(2), rows, cols, cols};
  const scratch_tile t = b.allocate(element::i32, rows, cols, cols + 1);
  b.load(0, t, source, row, col, 0xffffff85u);  // -123
  b.store(0, t, target, row, col);
  b.store(0, t, all, 0, 0);
  isa::simulate({}, b.finish(), regions,
                std::array{regions[0].address, regions[1].address, regions[2].address, g.rows,
                           g.cols, g.row_stride, g.col_stride});
  std::vector<std::int32_t> expected(size, -1);
  int wrong = 0;
  for (std::int32_t i = 0; i < rows; ++i) {
    for (std::int32_t j = 0; j < cols; ++j) {
      const std::int64_t r = row + i;
      const std::int64_t c = col + j;
      const bool inside = r >= 0 && r < g.rows && c >= 0 && c < g.cols;
      const auto at = static_cast<std::size_t>(inside ? r * g.row_stride + c * g.col_stride : 0);
      if (inside) {
        expected[at] = from[at];
      }
      wrong += whole[static_cast<std::size_t>(i * cols + j)] == (inside ? from[at] : -123) ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(to == expected);
  CHECK(whole.back() == -1);
}

}  // namespace

TEST_CASE("chip/npu/dma: loads fill what is out of bounds, stores leave it alone") {
  for (const global_matrix& g :
       {global_matrix{10, 12, 12, 1}, global_matrix{10, 12, 20, 1}, global_matrix{10, 12, 1, 10},
        global_matrix{5, 6, 24, 2}, global_matrix{0, 12, 12, 1}, global_matrix{3, 0, 1, 1}}) {
    for (const std::int32_t row : {0, 3, -2, 8, 10, -20}) {
      for (const std::int32_t col : {0, 5, -3, 11, 12, -20}) {
        check_box(g, 4, 5, row, col);
      }
    }
    check_box(g, 1, 1, 2, 2);
    check_box(g, 0, 5, 0, 0);
    check_box(g, 5, 0, 0, 0);
    check_box(g, 10, 12, 0, 0);
  }
}

TEST_CASE("chip/npu/dma: rows come and go by an index list") {
  std::vector<float> table(6 * 4);
  std::iota(table.begin(), table.end(), 0.0F);
  std::vector<float> out(6 * 4, -1.0F);
  std::vector<std::int32_t> rows{5, -1, 0, 6, 0, 3};  // -1 and 0 are no neighbours
  const std::array regions{isa::region::of(std::span(table)), isa::region::of(std::span(out)),
                           isa::region::of(std::span(rows))};
  isa::builder b(3);
  const scratch_tile index = b.allocate(element::i32, 6, 1);
  const scratch_tile t = b.allocate(element::f32, 6, 4);
  b.load(0, index, {element::i32, b.argument(2), 6, 1, 1}, 0, 0);
  b.load_rows(0, t, {element::f32, b.argument(0), 6, 4, 4}, index, 0x41100000);  // 9
  b.store_rows(0, t, {element::f32, b.argument(1), 6, 4, 4}, index);
  isa::simulate({}, b.finish(), regions,
                std::array{regions[0].address, regions[1].address, regions[2].address});
  for (std::size_t r = 0; r < 6; ++r) {
    const bool named = r == 5 || r == 0 || r == 3;
    for (std::size_t c = 0; c < 4; ++c) {
      CHECK(out[r * 4 + c] == (named ? table[r * 4 + c] : -1.0F));
    }
  }
}

TEST_CASE("chip/npu/dma: combining stores read, combine and write") {
  for (const opcode op : {opcode::store_add, opcode::store_max, opcode::store_min}) {
    std::vector<float> x{1, -2, 3, 4};
    std::vector<float> f{10, -20, -30, 40};
    std::vector<std::int32_t> n{10, -20, -30, 40};
    const std::array regions{isa::region::of(std::span(x)), isa::region::of(std::span(f)),
                             isa::region::of(std::span(n))};
    isa::builder b(3);
    const scratch_tile t = b.allocate(element::f32, 1, 4);
    const scratch_tile u = b.allocate(element::i32, 1, 4);
    b.load(0, t, {element::f32, b.argument(0), 1, 4, 4}, 0, 0);
    b.barrier({isa::dma_unit(0), isa::vector_unit});
    b.cast(u, t);
    b.barrier({isa::dma_unit(0), isa::vector_unit});
    b.store(0, t, {element::f32, b.argument(1), 1, 4, 4}, 0, 0, op);
    b.store(0, u, {element::i32, b.argument(2), 1, 4, 4}, 0, 0, op);
    isa::simulate({}, b.finish(), regions,
                  std::array{regions[0].address, regions[1].address, regions[2].address});
    const std::array old{10.0F, -20.0F, -30.0F, 40.0F};
    for (std::size_t i = 0; i < 4; ++i) {
      const float expected = op == opcode::store_add   ? old[i] + x[i]
                             : op == opcode::store_max ? std::max(old[i], x[i])
                                                       : std::min(old[i], x[i]);
      CHECK(f[i] == expected);
      CHECK(n[i] == static_cast<std::int32_t>(expected));
    }
  }
}

TEST_CASE("chip/npu/dma: combining stores by an index list go row after row") {
  const auto run = [](opcode op, auto first) {
    using T = decltype(first);
    const element type = npu_harness::element_of<T>();
    std::vector<T> x{T(1), T(2), T(-3), T(4), T(5)};
    std::vector<T> memory{T(10), T(-20), T(30)};
    std::vector<std::int32_t> rows{2, 0, 2, -1, 3};  // the last two are outside
    const std::array regions{isa::region::of(std::span(x)), isa::region::of(std::span(memory)),
                             isa::region::of(std::span(rows))};
    isa::builder b(3);
    const scratch_tile index = b.allocate(element::i32, 5, 1);
    const scratch_tile t = b.allocate(type, 5, 1);
    b.load(0, index, {element::i32, b.argument(2), 5, 1, 1}, 0, 0);
    b.load(0, t, {type, b.argument(0), 5, 1, 1}, 0, 0);
    b.store_rows(0, t, {type, b.argument(1), 3, 1, 1}, index, op);
    isa::simulate({}, b.finish(), regions,
                  std::array{regions[0].address, regions[1].address, regions[2].address});
    std::vector<double> seen;
    for (const T v : memory) {
      seen.push_back(static_cast<double>(v));
    }
    return seen;
  };
  using all = std::vector<double>;
  CHECK(run(opcode::store_rows_add, 0.0F) == all{12, -20, 28});
  CHECK(run(opcode::store_rows_max, 0.0F) == all{10, -20, 30});
  CHECK(run(opcode::store_rows_min, 0.0F) == all{2, -20, -3});
  CHECK(run(opcode::store_rows_add, std::int64_t{0}) == all{12, -20, 28});
  CHECK(run(opcode::store_rows_min, std::int8_t{0}) == all{2, -20, -3});
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <string_view>

#include "ashlar/tile/analysis.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/lifetime.hpp"
#include "ashlar/tile/passes.hpp"
#include "ashlar/tile/verify.hpp"

namespace {

namespace tile = ashlar::tile;
namespace passes = tile::passes;
using ashlar::dtype;
using tile::opcode;
using tile::program;
using tile::tile_type;
using tile::value_id;

/// Seven loops with loads and chains of arithmetic: nearly as long as a program can be.
constexpr program long_program() {
  tile::builder b("long");
  b.add_parameter({.element = dtype::float32, .rank = 2});
  b.add_parameter({.element = dtype::float32, .rank = 2, .written = true});
  const tile_type t(dtype::float32, {16, 32});
  const value_id row = b.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
  value_id total = b.broadcast(b.constant(dtype::float32, 0.5), t);
  for (int group = 0; group < 7; ++group) {
    const value_id end =
        b.emit({.op = opcode::extent, .index = 0, .value = 1, .type = tile::index_type});
    const value_id owner = b.emit({.op = opcode::loop}, {b.index(0), end, b.index(32), total});
    const value_id counter = b.begin_region(std::array{tile::index_type, t});
    value_id sum = static_cast<value_id>(counter + 1);
    const value_id first =
        b.binary(opcode::add, b.binary(opcode::mul, row, b.index(16)), b.index(0));
    value_id x = b.emit({.op = opcode::load, .index = 0, .type = t}, {first, counter});
    const value_id y = b.emit({.op = opcode::load, .index = 0, .type = t}, {first, counter});
    for (int k = 0; k < 5; ++k) {
      const value_id factor = b.broadcast(b.constant(dtype::float32, 1.5 + k), t);
      x = b.binary(opcode::add, b.binary(opcode::mul, x, factor), y);
      x = b.unary(opcode::neg, b.unary(opcode::neg, x));
      sum = b.binary(opcode::add, sum, x);
    }
    b.yield(std::array{sum});
    total = b.result(owner, 0, t);
  }
  b.emit({.op = opcode::store, .index = 1}, {total, row, b.index(0)});
  return b.finish();
}

inline constexpr program long_one = long_program();
static_assert(long_one.size > 300, "the test wants a long program");
using long_pipeline = passes::pipeline<long_one>;

// Each pass in one constant expression, within the compilers' own limits.
constexpr program folded =
    passes::checked([](const program& p) { return passes::fold_constants(p); })(long_one);
constexpr program fused = passes::fuse_multiply_add(long_one);
constexpr auto facts = tile::analyse_indices(long_one);
constexpr tile::lifetimes lives(long_one);

struct row_exp {
  static constexpr std::string_view name = "row_exp";
  constexpr void operator()(tile::scope& s, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = s.program_id(0);
    s.loop(0, x.extent(1), 128, [&](tile::index column) {
      store(y, exp(tile::load<128>(x, row, column)) * 1.0f, row, column);
    });
  }
};
inline constexpr const program& row_exp_result =
    passes::pipeline<tile::program_of<row_exp>>::result;
static_assert(row_exp_result == passes::optimise(tile::program_of<row_exp>),
              "passes::pipeline and passes::optimise do the same");

/// A pass as a user writes one: x + x as 2 x.
constexpr program doubled_by_products(const program& p) {
  passes::rewriter out(p);
  for (int i = 0; i < p.size; ++i) {
    const bool sums_itself = p.at(i).op == opcode::add && p.operand(i, 0) == p.operand(i, 1);
    if (sums_itself && is_floating(p.type_of(i).element) && out.fits(i, 2, 1)) {
      const value_id x = out[p.operand(i, 0)];
      const value_id two = passes::emit_constant(out, tile::constant_bits(2.0), p.type_of(i));
      out.replace(i, out.emit({.op = opcode::mul, .type = p.type_of(i)}, {x, two}));
    } else {
      out.copy(i);
    }
  }
  return out.finish();
}

}  // namespace

TEST_CASE("tile/passes_constexpr: a long program passes the pipeline while it is compiled") {
  CHECK(long_pipeline::result == passes::optimise(long_one));
  CHECK(long_pipeline::after<0> == long_one);
  CHECK(long_pipeline::result.size < long_one.size / 2);
  CHECK(folded.size >= long_one.size);
  CHECK(tile::verify(fused));
  CHECK(lives.uses[0] == 8);
  CHECK(facts[0].low == 0);
}

TEST_CASE("tile/passes_constexpr: the options of a pipeline are part of its type") {
  using fusing = passes::pipeline<long_one, passes::options{.fuse_multiply_add = true}>;
  const auto count = [](const program& p, opcode op) {
    int n = 0;
    for (int i = 0; i < p.size; ++i) {
      n += p.at(i).op == op ? 1 : 0;
    }
    return n;
  };
  CHECK(count(long_pipeline::result, opcode::fma) == 0);
  CHECK(count(fusing::result, opcode::fma) == 35);
  CHECK(row_exp_result.size < tile::program_of<row_exp>.size);
}

TEST_CASE("tile/passes_constexpr: a pass of one's own is a function over a rewriter") {
  constexpr program before = [] {
    tile::builder b("sum");
    b.add_parameter({.element = dtype::float32, .rank = 1, .written = true});
    const value_id at = b.index(0);
    const value_id x =
        b.emit({.op = opcode::load, .index = 0, .type = tile_type(dtype::float32, {4})}, {at});
    b.emit({.op = opcode::store, .index = 0}, {b.binary(opcode::add, x, x), at});
    return b.finish();
  }();
  constexpr program after = passes::checked(doubled_by_products)(before);
  CHECK(after.size == before.size + 2);
  CHECK(after.at(4).op == opcode::mul);
  CHECK(after.operand(5, 0) == 4);
}

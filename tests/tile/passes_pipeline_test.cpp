// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>

#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_random.hpp"

namespace {

namespace tile = ashlar::tile;
namespace passes = tile::passes;
using tile::opcode;
using tile::program;

/// Does what no pass may: sums become comparisons that still say that they are numbers.
constexpr program without_sums(const program& p) {
  program q = p;
  for (int i = 0; i < q.size; ++i) {
    q.at(i).op = q.at(i).op == opcode::add ? opcode::less : q.at(i).op;
  }
  return q;
}

constexpr program a_sum() {
  tile::builder b("sum");
  b.add_parameter({.element = ashlar::dtype::float32, .rank = 1, .written = true});
  const tile::value_id at = b.index(0);
  const tile::value_id x = b.emit(
      {.op = opcode::load, .index = 0, .type = tile::tile_type(ashlar::dtype::float32, {4})}, {at});
  b.emit({.op = opcode::store, .index = 0}, {b.binary(opcode::add, x, x), at});
  return b.finish();
}

}  // namespace

TEST_CASE("tile/passes_pipeline: a pass that makes a bad program is found in debug builds") {
  const program before = a_sum();
  std::optional<passes::pass_error> found;
  try {
    const program after = passes::checked(without_sums, "without_sums")(before);
    CHECK(!tile::verify(after));
  } catch (const passes::pass_error& e) {
    found = e;
  }
#ifdef NDEBUG
  CHECK(!found.has_value());
#else
  REQUIRE(found.has_value());
  CHECK(found->pass == "without_sums");
  CHECK(found->rule == "a comparison gives bool");
  CHECK(found->instruction == 2);
  CHECK(std::string(found->what()) ==
        "ashlar::tile::passes: without_sums made a bad program, %2: a comparison gives bool");
#endif
}

// In debug builds `optimise` verifies after each step by itself.
TEST_CASE("tile/passes_pipeline: each step of the pipeline makes a program that is well") {
  MESSAGE("seeds 0 to 499");
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    CAPTURE(seed);
    const program before = tile_test::random_program(seed, tile_test::everything());
    for (const bool fuse : {false, true}) {
      const passes::options options{.fuse_multiply_add = fuse};
      program now = before;
      for (int k = 0; k < passes::step_count; ++k) {
        now = passes::step(k).run(now, options);
        INFO(std::string(passes::step(k).name));
        REQUIRE(tile::verify(now));
      }
      REQUIRE(passes::optimise(before, options) == now);
    }
  }
}

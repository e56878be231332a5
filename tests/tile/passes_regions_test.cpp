// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/passes.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_pass.hpp"

namespace {

namespace passes = ashlar::tile::passes;
using ashlar::tile::program;

std::string kernel(std::string_view body) {
  return "kernel \"k\"(p0: f32[?], p1: f32[?], p2: f32[?] written, p3: f32[?] written) {" +
         std::string(body) + "}";
}

template <class Pass>
void check(const Pass& pass, std::string_view from, std::string_view to) {
  const program before = tile_test::read(kernel(from));
  const program after = passes::checked(pass)(before);
  CHECK(verify(after));
  CHECK(tile_test::text_of(after) == tile_test::text_of(tile_test::read(kernel(to))));
  CHECK(tile_test::difference(before, after) == "");
}
template <class Pass>
void check_kept(const Pass& pass, std::string_view body) {
  check(pass, body, body);
}

constexpr auto merge = [](const program& p) { return passes::merge_common(p); };
constexpr auto dead = [](const program& p) { return passes::remove_dead(p); };
constexpr auto hoist = [](const program& p) { return passes::hoist_invariants(p); };
constexpr auto selects = [](const program& p) {
  return passes::remove_dead(passes::branches_to_selects(p));
};

}  // namespace

TEST_CASE("tile/passes_common: equal expressions are computed once, where the first is visible") {
  check(merge, R"(
    %0 = program_id axis=0 : i64
    %1 = program_id axis=0 : i64
    %2 = load p0, %0 : f32[4]
    %3 = load p0, %1 : f32[4]
    %4 = add %2, %3 : f32[4]
    %5 = add %2, %2 : f32[4]
    %6 = mul %4, %5 : f32[4]
    store p2, %6, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %2 = load p0, %0 : f32[4]
    %4 = add %2, %2 : f32[4]
    %6 = mul %4, %4 : f32[4]
    store p2, %6, %0)");
  // What a region computed is not visible after it, nor in its sister.
  check_kept(merge, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = grid_size axis=0 : i64
    %3 = less %0, %2 : bool
    %4 = branch %3 {
      %5 = neg %1 : f32[4]
      yield %5
    } {
      %6 = neg %1 : f32[4]
      yield %6
    }
    %7 = result %4, number=0 : f32[4]
    %8 = neg %1 : f32[4]
    %9 = mul %7, %8 : f32[4]
    store p2, %9, %0)");
  // Not equal: +0 and -0, two axes.
  check_kept(merge, R"(
    %0 = program_id axis=0 : i64
    %1 = program_id axis=1 : i64
    %2 = constant 0 : f32
    %3 = constant -0 : f32
    %4 = broadcast %2 : f32[4]
    %5 = broadcast %3 : f32[4]
    store p2, %4, %0
    store p3, %5, %1)");
}

TEST_CASE("tile/passes_common: nothing is read once where it may have been written between") {
  check_kept(merge, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    store p2, %1, %0
    %2 = load p0, %0 : f32[4]
    store p3, %2, %0)");
  check_kept(merge, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 3 : i64
    %3 = load p2, %0 : f32[4]
    %4 = loop %0, %2, %1, %3 (%5: i64, %6: f32[4]) {
      %7 = load p2, %0 : f32[4]
      %8 = add %6, %7 : f32[4]
      %9 = load p2, %5 : f32[4]
      %10 = add %8, %9 : f32[4]
      store p2, %10, %5
      yield %10
    }
    %11 = result %4, number=0 : f32[4]
    %12 = load p2, %0 : f32[4]
    %13 = add %11, %12 : f32[4]
    store p2, %13, %0)");
}

TEST_CASE("tile/passes_dead: effects stay in order, the rest only where they need it") {
  check(dead, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = exp %1 : f32[4]
    %3 = constant 2 : i64
    %4 = less %0, %3 : bool
    require %4, number=1
    %5 = load p1, %0 : f32[4]
    print %5, number=2
    require %4, number=3
    %6 = reduce %1, axis=0 (%7: f32, %8: f32) {
      %9 = add %7, %8 : f32
      yield %9
    }
    %10 = result %6, number=0 : f32
    store p2, %1, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %3 = constant 2 : i64
    %4 = less %0, %3 : bool
    require %4, number=1
    %5 = load p1, %0 : f32[4]
    print %5, number=2
    require %4, number=3
    store p2, %1, %0)");
}

TEST_CASE("tile/passes_dead: carried values that only feed themselves go") {
  check(dead, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 5 : i64
    %3 = load p0, %0 : f32[4]
    %4 = load p1, %0 : f32[4]
    %5 = loop %0, %2, %1, %3, %4, %3 (%6: i64, %7: f32[4], %8: f32[4], %9: f32[4]) {
      %10 = exp %7 : f32[4]
      %11 = add %10, %9 : f32[4]
      %12 = mul %8, %4 : f32[4]
      yield %11, %12, %7
    }
    %13 = result %5, number=1 : f32[4]
    %14 = result %5, number=0 : f32[4]
    store p2, %13, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 5 : i64
    %4 = load p1, %0 : f32[4]
    %5 = loop %0, %2, %1, %4 (%6: i64, %8: f32[4]) {
      %12 = mul %8, %4 : f32[4]
      yield %12
    }
    %13 = result %5, number=0 : f32[4]
    store p2, %13, %0)");
  check(dead, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 5 : i64
    %3 = load p0, %0 : f32[4]
    %4 = constant 0 : i64
    %5 = repeat %3, %4, %3 (%6: f32[4], %7: i64, %8: f32[4]) {
      %9 = less %7, %2 : bool
      yield %9
    } (%10: f32[4], %11: i64, %12: f32[4]) {
      %13 = exp %10 : f32[4]
      %14 = add %11, %1 : i64
      %15 = add %12, %12 : f32[4]
      yield %13, %14, %15
    }
    %16 = result %5, number=2 : f32[4]
    store p2, %16, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 5 : i64
    %3 = load p0, %0 : f32[4]
    %4 = constant 0 : i64
    %5 = repeat %4, %3 (%7: i64, %8: f32[4]) {
      %9 = less %7, %2 : bool
      yield %9
    } (%11: i64, %12: f32[4]) {
      %14 = add %11, %1 : i64
      %15 = add %12, %12 : f32[4]
      yield %14, %15
    }
    %16 = result %5, number=1 : f32[4]
    store p2, %16, %0)");
}

TEST_CASE("tile/passes_dead: parts of a reduction and of a branch that nobody asks for go") {
  check(dead, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = load p1, %0 : f32[4]
    %3 = reduce %1, %2, axis=0 (%4: f32, %5: f32, %6: f32, %7: f32) {
      %8 = add %4, %6 : f32
      %9 = max %5, %7 : f32
      yield %8, %9
    }
    %10 = result %3, number=1 : f32
    %11 = constant 1 : i64
    %12 = less %0, %11 : bool
    %13 = branch %12 {
      %14 = exp %1 : f32[4]
      %15 = neg %10 : f32
      yield %14, %15
    } {
      yield %1, %10
    }
    %16 = result %13, number=1 : f32
    %17 = broadcast %16 : f32[4]
    store p2, %17, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %2 = load p1, %0 : f32[4]
    %3 = reduce %2, axis=0 (%5: f32, %7: f32) {
      %9 = max %5, %7 : f32
      yield %9
    }
    %10 = result %3, number=0 : f32
    %11 = constant 1 : i64
    %12 = less %0, %11 : bool
    %13 = branch %12 {
      %15 = neg %10 : f32
      yield %15
    } {
      yield %10
    }
    %16 = result %13, number=0 : f32
    %17 = broadcast %16 : f32[4]
    store p2, %17, %0)");
}

TEST_CASE("tile/passes_invariant: what is the same in each round moves as far out as it can") {
  check(hoist, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %3 = load p0, %0 : f32[4]
    %4 = loop %0, %2, %1, %3 (%5: i64, %6: f32[4]) {
      %7 = loop %0, %5, %1, %6 (%8: i64, %9: f32[4]) {
        %10 = exp %3 : f32[4]
        %11 = load p1, %5 : f32[4]
        %12 = mul %10, %11 : f32[4]
        %13 = add %9, %12 : f32[4]
        yield %13
      }
      %14 = result %7, number=0 : f32[4]
      %15 = neg %3 : f32[4]
      %16 = add %14, %15 : f32[4]
      yield %16
    }
    %17 = result %4, number=0 : f32[4]
    store p2, %17, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %3 = load p0, %0 : f32[4]
    %10 = exp %3 : f32[4]
    %15 = neg %3 : f32[4]
    %4 = loop %0, %2, %1, %3 (%5: i64, %6: f32[4]) {
      %11 = load p1, %5 : f32[4]
      %12 = mul %10, %11 : f32[4]
      %7 = loop %0, %5, %1, %6 (%8: i64, %9: f32[4]) {
        %13 = add %9, %12 : f32[4]
        yield %13
      }
      %14 = result %7, number=0 : f32[4]
      %16 = add %14, %15 : f32[4]
      yield %16
    }
    %17 = result %4, number=0 : f32[4]
    store p2, %17, %0)");
}

TEST_CASE("tile/passes_invariant: reductions move with their region") {
  check(hoist, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %3 = load p0, %0 : f32[4]
    %4 = loop %0, %2, %1, %3 (%5: i64, %6: f32[4]) {
      %20 = constant 2 : f32
      %7 = reduce %3, axis=0 (%8: f32, %9: f32) {
        %10 = mul %9, %20 : f32
        %11 = add %8, %10 : f32
        yield %11
      }
      %12 = result %7, number=0 : f32
      %13 = broadcast %12 : f32[4]
      %14 = scan %6, axis=0 (%15: f32, %16: f32) {
        %17 = add %15, %16 : f32
        yield %17
      }
      %18 = result %14, number=0 : f32[4]
      %19 = add %13, %18 : f32[4]
      yield %19
    }
    %21 = result %4, number=0 : f32[4]
    store p2, %21, %0)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %3 = load p0, %0 : f32[4]
    %20 = constant 2 : f32
    %7 = reduce %3, axis=0 (%8: f32, %9: f32) {
      %10 = mul %9, %20 : f32
      %11 = add %8, %10 : f32
      yield %11
    }
    %12 = result %7, number=0 : f32
    %13 = broadcast %12 : f32[4]
    %4 = loop %0, %2, %1, %3 (%5: i64, %6: f32[4]) {
      %14 = scan %6, axis=0 (%15: f32, %16: f32) {
        %17 = add %15, %16 : f32
        yield %17
      }
      %18 = result %14, number=0 : f32[4]
      %19 = add %13, %18 : f32[4]
      yield %19
    }
    %21 = result %4, number=0 : f32[4]
    store p2, %21, %0)");
}

TEST_CASE("tile/passes_invariant: loads stay in loops that write, and all stays in a branch") {
  check(hoist, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    loop %0, %2, %1 (%5: i64) {
      %6 = load p2, %0 : f32[4]
      %7 = constant 2 : f32
      %8 = broadcast %7 : f32[4]
      %9 = mul %6, %8 : f32[4]
      store p2, %9, %0
      yield
    })",
        R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %7 = constant 2 : f32
    %8 = broadcast %7 : f32[4]
    loop %0, %2, %1 (%5: i64) {
      %6 = load p2, %0 : f32[4]
      %9 = mul %6, %8 : f32[4]
      store p2, %9, %0
      yield
    })");
  check_kept(hoist, R"(
    %0 = program_id axis=0 : i64
    %1 = constant 1 : i64
    %2 = constant 4 : i64
    %20 = loop %0, %2, %1, %0 (%10: i64, %11: i64) {
      %12 = less %10, %1 : bool
      %13 = branch %12 {
        %14 = load p0, %0 : f32
        %15 = cast %14 : i64
        yield %15
      } {
        yield %11
      }
      %16 = result %13, number=0 : i64
      yield %16
    }
    %21 = result %20, number=0 : i64
    %22 = load p0, %21 : f32[4]
    store p3, %22, %0)");
}

TEST_CASE("tile/passes_unroll: few rounds are written out, with their counters and in order") {
  const auto unroll = [](const program& p) {
    return passes::remove_dead(passes::unroll(p, {.rounds = 3, .instructions = 20}));
  };
  check(unroll, R"(
    %0 = constant 2 : i64
    %1 = constant 7 : i64
    %2 = constant 3 : i64
    %3 = load p0, %0 : f32[4]
    %4 = load p1, %0 : f32[4]
    %5 = loop %0, %1, %2, %3, %4 (%6: i64, %7: f32[4], %8: f32[4]) {
      %9 = load p1, %6 : f32[4]
      %10 = sub %7, %9 : f32[4]
      yield %8, %10
    }
    %11 = result %5, number=0 : f32[4]
    %12 = result %5, number=1 : f32[4]
    %13 = sub %11, %12 : f32[4]
    store p2, %13, %0)",
        R"(
    %0 = constant 2 : i64
    %3 = load p0, %0 : f32[4]
    %4 = load p1, %0 : f32[4]
    %6 = constant 2 : i64
    %9 = load p1, %6 : f32[4]
    %10 = sub %3, %9 : f32[4]
    %26 = constant 5 : i64
    %29 = load p1, %26 : f32[4]
    %30 = sub %4, %29 : f32[4]
    %13 = sub %10, %30 : f32[4]
    store p2, %13, %0)");
  const std::string_view four_rounds = R"(
    %0 = constant 0 : i64
    %1 = constant 4 : i64
    %2 = constant 1 : i64
    loop %0, %1, %2 (%6: i64) {
      %9 = load p1, %6 : f32[4]
      store p2, %9, %6
      yield
    })";
  check_kept(unroll, four_rounds);
  check_kept([](const program& p) { return passes::unroll(p, {.rounds = 4, .instructions = 8}); },
             four_rounds);
  // From the most negative to the largest counter it is further than an int64 holds.
  check(unroll, R"(
    %0 = constant -9223372036854775808 : i64
    %1 = constant 9223372036854775807 : i64
    %2 = constant 9223372036854775807 : i64
    %3 = constant 0 : i64
    %4 = loop %0, %1, %2, %3 (%5: i64, %6: i64) {
      %7 = bit_xor %5, %6 : i64
      yield %7
    }
    %8 = result %4, number=0 : i64
    %9 = load p0, %8 : f32[4]
    store p2, %9, %3)",
        R"(
    %3 = constant 0 : i64
    %0 = constant -9223372036854775808 : i64
    %10 = bit_xor %0, %3 : i64
    %11 = constant -1 : i64
    %12 = bit_xor %11, %10 : i64
    %13 = constant 9223372036854775806 : i64
    %14 = bit_xor %13, %12 : i64
    %9 = load p0, %14 : f32[4]
    store p2, %9, %3)");
}

TEST_CASE("tile/passes_unroll: loops in loops are written out inside first to last") {
  const program before = tile_test::read(kernel(R"(
    %0 = constant 0 : i64
    %1 = constant 3 : i64
    %2 = constant 1 : i64
    %3 = load p0, %0 : f32[4]
    %4 = loop %0, %1, %2, %3 (%5: i64, %6: f32[4]) {
      %7 = loop %0, %5, %2, %6 (%8: i64, %9: f32[4]) {
        %10 = load p1, %8 : f32[4]
        %11 = sub %10, %9 : f32[4]
        yield %11
      }
      %12 = result %7, number=0 : f32[4]
      yield %12
    }
    %13 = result %4, number=0 : f32[4]
    store p2, %13, %0)"));
  const program once = passes::unroll(before);
  CHECK(tile_test::difference(before, once) == "");
  const program twice = passes::remove_dead(passes::unroll(passes::canonicalise(once)));
  CHECK(tile_test::difference(before, twice) == "");
  for (int i = 0; i < twice.size; ++i) {
    CHECK(twice.at(i).op != ashlar::tile::opcode::loop);
  }
}

TEST_CASE("tile/passes_unroll: by a factor, any number of rounds gives the same bits") {
  for (const int end : {-3, 0, 1, 2, 3, 7, 8, 20}) {
    for (const int step : {1, 2, 5}) {
      const program before =
          tile_test::read(kernel("%0 = constant -1 : i64\n %1 = constant " + std::to_string(end) +
                                 " : i64\n %2 = constant " + std::to_string(step) + R"( : i64
          %3 = load p0, %2 : f32[4]
          %4 = load p1, %2 : f32[4]
          %5 = loop %0, %1, %2, %3, %4 (%6: i64, %7: f32[4], %8: f32[4]) {
            %9 = load p1, %6 : f32[4]
            %10 = sub %9, %7 : f32[4]
            store p3, %10, %6
            yield %8, %10
          }
          %11 = result %5, number=0 : f32[4]
          store p2, %11, %2)"));
      for (const int factor : {1, 2, 3, 8}) {
        const program after = passes::unroll_by(before, factor);
        CHECK(verify(after));
        CHECK(after.size > before.size);
        CHECK(tile_test::difference(before, after) == "");
        CHECK(tile_test::difference(before, passes::optimise(after)) == "");
      }
    }
  }
}

TEST_CASE("tile/passes_branches: small sides without effects are both computed") {
  check(selects, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = less %0, %2 : bool
    %4 = branch %3 {
      %5 = load p1, %0 : f32[4]
      yield %5, %2
    } {
      %6 = neg %1 : f32[4]
      yield %6, %0
    }
    %7 = result %4, number=0 : f32[4]
    %8 = result %4, number=1 : i64
    store p2, %7, %8)",
        R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = less %0, %2 : bool
    %5 = load p1, %0 : f32[4]
    %6 = neg %1 : f32[4]
    %9 = broadcast %3 : bool[4]
    %7 = select %9, %5, %6 : f32[4]
    %8 = select %3, %2, %0 : i64
    store p2, %7, %8)");
  check_kept(selects, R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = less %0, %2 : bool
    branch %3 {
      store p2, %1, %0
      yield
    } {
      yield
    })");
}

TEST_CASE("tile/passes_branches: a branch in a branch becomes a selection of selections") {
  const program before = tile_test::read(kernel(R"(
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = less %0, %2 : bool
    %4 = branch %3 {
      %5 = branch %3 {
        yield %1
      } {
        %6 = neg %1 : f32[4]
        yield %6
      }
      %7 = result %5, number=0 : f32[4]
      yield %7
    } {
      %8 = exp %1 : f32[4]
      yield %8
    }
    %9 = result %4, number=0 : f32[4]
    store p2, %9, %0)"));
  const program after = passes::branches_to_selects(before);
  CHECK(verify(after));
  for (int i = 0; i < after.size; ++i) {
    CHECK(after.at(i).op != ashlar::tile::opcode::branch);
  }
  CHECK(tile_test::difference(before, after) == "");
}

TEST_CASE("tile/passes_combine: a selection by comparison is min or max where no bit changes") {
  const auto pass = [](const program& p) {
    return passes::remove_dead(passes::select_to_min_max(p));
  };
  // relu: 0 > x ? 0 : x
  check(pass, R"(
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[324]
    %2 = constant 0 : f32
    %3 = broadcast %2 : f32[324]
    %4 = less %1, %3 : bool[324]
    %5 = select %4, %3, %1 : f32[324]
    %6 = less %3, %1 : bool[324]
    %7 = select %6, %3, %1 : f32[324]
    store p2, %5, %0
    store p3, %7, %0)",
        R"(
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[324]
    %2 = constant 0 : f32
    %3 = broadcast %2 : f32[324]
    %5 = max %3, %1 : f32[324]
    %7 = min %3, %1 : f32[324]
    store p2, %5, %0
    store p3, %7, %0)");
  // NaN would become another number, and -0 might become +0.
  check_kept(pass, R"(
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[324]
    %2 = constant 0 : f32
    %3 = broadcast %2 : f32[324]
    %4 = less %3, %1 : bool[324]
    %5 = select %4, %1, %3 : f32[324]
    %6 = less_equal %1, %3 : bool[324]
    %7 = select %6, %3, %1 : f32[324]
    store p2, %5, %0
    store p3, %7, %0)");
  for (const char* asked : {"less", "less_equal"}) {
    for (const bool turned : {false, true}) {
      const program before = tile_test::read(
          R"(kernel "whole"(p0: i32[?], p1: i32[?], p2: i32[?] written) {
          %0 = constant 0 : i64
          %1 = load p0, %0 : i32[144]
          %2 = load p1, %0 : i32[144]
          %3 = )" +
          std::string(asked) + " %1, %2 : bool[144]\n %4 = select %3, " +
          (turned ? "%2, %1" : "%1, %2") + R"( : i32[144]
          store p2, %4, %0
        })");
      const program after = pass(before);
      CHECK(after.size == before.size - 1);
      CHECK(tile_test::difference(before, after) == "");
    }
  }
}

TEST_CASE("tile/passes_combine: products in sums and differences become fma") {
  const auto pass = [](const program& p) {
    return passes::remove_dead(passes::fuse_multiply_add(p));
  };
  const program before = tile_test::read(kernel(R"(
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = load p1, %0 : f32[4]
    %3 = mul %1, %2 : f32[4]
    %4 = add %3, %1 : f32[4]
    %5 = mul %4, %2 : f32[4]
    %6 = sub %1, %5 : f32[4]
    %7 = mul %6, %2 : f32[4]
    %8 = sub %7, %1 : f32[4]
    %9 = mul %8, %8 : f32[4]
    %10 = add %9, %9 : f32[4]
    store p2, %10, %0)"));
  const program after = tile_test::read(kernel(R"(
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = load p1, %0 : f32[4]
    %4 = fma %1, %2, %1 : f32[4]
    %20 = neg %4 : f32[4]
    %6 = fma %20, %2, %1 : f32[4]
    %21 = neg %1 : f32[4]
    %8 = fma %6, %2, %21 : f32[4]
    %9 = mul %8, %8 : f32[4]
    %10 = add %9, %9 : f32[4]
    store p2, %10, %0)"));
  CHECK(tile_test::text_of(pass(before)) == tile_test::text_of(after));
}

TEST_CASE("tile/passes_rewriter: a program that is full, or nearly, stays within its room") {
  namespace tile = ashlar::tile;
  for (int size = program::max_instructions - 40; size <= program::max_instructions; ++size) {
    tile::builder b("full");
    b.add_parameter({.element = ashlar::dtype::float32, .rank = 1});
    b.add_parameter({.element = ashlar::dtype::float32, .rank = 1, .written = true});
    const auto t = tile::tile_type(ashlar::dtype::float32, {4});
    const auto at = b.index(0);
    const auto rounds = b.index(3);
    const auto step = b.index(1);
    const auto two = b.broadcast(b.constant(ashlar::dtype::float32, 2), t);
    const auto x = b.emit({.op = tile::opcode::load, .index = 0, .type = t}, {at});
    const auto owner = b.emit({.op = tile::opcode::loop}, {at, rounds, step, x});
    const auto counter = b.begin_region(std::array{tile::index_type, t});
    auto sum = static_cast<tile::value_id>(counter + 1);
    while (b.so_far().size < size - 6) {
      const auto product = b.binary(tile::opcode::mul, two, two);
      const auto quotient = b.binary(tile::opcode::div, x, two);
      sum = b.binary(tile::opcode::add, b.binary(tile::opcode::mul, product, quotient), sum);
    }
    b.yield(std::array{sum});
    b.emit({.op = tile::opcode::store, .index = 1}, {b.result(owner, 0, t), at});
    const program before = b.finish();
    REQUIRE(verify(before));
    const std::array all{passes::fold_constants(before),   passes::canonicalise(before),
                         passes::merge_common(before),     passes::remove_dead(before),
                         passes::hoist_invariants(before), passes::unroll(before, {8, 1000}),
                         passes::unroll_by(before, 2),     passes::optimise(before)};
    for (const program& after : all) {
      CHECK(verify(after));
      CHECK(tile_test::difference(before, after) == "");
    }
    CHECK(verify(passes::fuse_multiply_add(before)));
  }
}

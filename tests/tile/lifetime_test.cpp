// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/lifetime.hpp"

#include <doctest/doctest.h>

#include "ashlar/tile/program.hpp"
#include "support/tile_pass.hpp"

namespace {
using ashlar::tile::at;
using ashlar::tile::lifetimes;
using ashlar::tile::program;
}  // namespace

TEST_CASE("tile/lifetime: a value lives to its last use, in a loop to the end of the loop") {
  const program p = tile_test::read(R"(kernel "k"(p0: f32[?], p1: f32[?] written) {
    %0 = constant 0 : i64
    %1 = constant 8 : i64
    %2 = load p0, %0 : f32[4]
    %3 = load p0, %1 : f32[4]
    %4 = loop %0, %1, %1, %2 (%5: i64, %6: f32[4]) {
      %7 = exp %3 : f32[4]
      %8 = mul %6, %7 : f32[4]
      %9 = reduce %8, axis=0 (%10: f32, %11: f32) {
        %12 = add %10, %11 : f32
        yield %12
      }
      %14 = result %9, number=0 : f32
      %15 = broadcast %14 : f32[4]
      yield %15
    }
    %17 = result %4, number=0 : f32[4]
    %18 = less %0, %1 : bool
    branch %18 {
      store p1, %17, %0
      yield
    } {
      yield
    }
  })");
  const lifetimes l(p);
  CHECK(at(l.uses, 0) == 4);
  CHECK(at(l.last_use, 0) == 20);  // the store
  CHECK(at(l.uses, 2) == 1);
  CHECK(at(l.last_use, 2) == 4);   // carried into the loop, which then has its own
  CHECK(at(l.last_use, 1) == 18);  // the comparison
  CHECK(at(l.last_use, 3) == 16);  // each round reads it: to the yield of the loop
  CHECK(at(l.last_use, 7) == 8);
  CHECK(at(l.last_use, 8) == 13);  // the reduction combines its elements to its own yield
  CHECK(at(l.last_use, 10) == 12);
  CHECK(at(l.last_use, 15) == 16);
  CHECK(at(l.last_use, 17) == 20);  // a branch has one round
  CHECK(at(l.uses, 5) == 0);
  CHECK(at(l.last_use, 5) == 5);
}

TEST_CASE("tile/lifetime: what a repeat or a reduction reads from outside lives to its end") {
  const program p = tile_test::read(R"(kernel "k"(p0: f32[?], p1: f32[?] written) {
    %0 = constant 0 : i64
    %1 = constant 8 : i64
    %2 = load p0, %0 : f32[4]
    %3 = load p0, %1 : f32
    %4 = repeat %0 (%5: i64) {
      %6 = less %5, %1 : bool
      yield %6
    } (%8: i64) {
      %9 = add %8, %1 : i64
      yield %9
    }
    %11 = result %4, number=0 : i64
    %12 = reduce %2, axis=0 (%13: f32, %14: f32) {
      %15 = add %13, %14 : f32
      %16 = mul %15, %3 : f32
      yield %16
    }
    %18 = result %12, number=0 : f32
    store p1, %18, %11
  })");
  const lifetimes l(p);
  CHECK(at(l.last_use, 0) == 4);
  CHECK(at(l.last_use, 1) == 10);  // the condition is asked again after the body
  CHECK(at(l.last_use, 2) == 17);
  CHECK(at(l.last_use, 3) == 17);
  CHECK(at(l.last_use, 18) == 19);
}

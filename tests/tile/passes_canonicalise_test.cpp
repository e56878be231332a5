// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/passes/canonicalise.hpp"
#include "ashlar/tile/passes/dead.hpp"
#include "ashlar/tile/passes/fold.hpp"
#include "ashlar/tile/verify.hpp"
#include "support/tile_pass.hpp"

namespace {

namespace passes = ashlar::tile::passes;
using ashlar::dtype;
using ashlar::tile::builder;
using ashlar::tile::opcode;
using ashlar::tile::program;
using ashlar::tile::rounding;
using ashlar::tile::tile_type;
using ashlar::tile::value_id;
using tile_test::program_of_two;

using b_ref = builder&;
using v = value_id;

constexpr std::array floats{dtype::float16, dtype::bfloat16, dtype::float32, dtype::float64};
constexpr std::array integers{dtype::int8, dtype::uint8, dtype::int32, dtype::int64};
constexpr std::array all_signed{dtype::int8, dtype::int32, dtype::int64};
constexpr double infinity = std::numeric_limits<double>::infinity();

program simple(const program& p) { return passes::remove_dead(passes::canonicalise(p)); }

/// A tile of the type of `like` that repeats one number.
template <class T>
value_id all_of(builder& b, value_id like, T x) {
  const tile_type t = b.type_of(like);
  return b.broadcast(b.constant(t.element, x), t);
}

/// `from` becomes `to`, and both give the same for awkward numbers.
template <class From, class To>
void check_result(dtype e, dtype result, const From& from, const To& to) {
  const program before = program_of_two(e, result, from);
  const program wanted = passes::remove_dead(program_of_two(e, result, to));
  const program after = simple(before);
  INFO(std::string(ashlar::name_of(e)));
  REQUIRE(verify(after));
  if (!(after == wanted)) {
    CHECK(tile_test::text_of(after) == tile_test::text_of(wanted));
  }
  CHECK(tile_test::difference(before, after) == "");
}
template <class Types, class From, class To>
void check(const Types& types, const From& from, const To& to) {
  for (const dtype e : types) {
    check_result(e, e, from, to);
  }
}
/// What must stay as it is: a bit would change.
template <class Types, class From>
void check_kept(const Types& types, const From& from) {
  for (const dtype e : types) {
    const program before = program_of_two(e, e, from);
    INFO(std::string(ashlar::name_of(e)));
    const program after = simple(before);
    CHECK(tile_test::text_of(after) == tile_test::text_of(passes::remove_dead(before)));
  }
}

constexpr auto first = [](b_ref, v x, v) { return x; };

template <class T>
auto with_number(opcode op, T number) {
  return [=](b_ref b, v x, v) { return b.binary(op, x, all_of(b, x, number)); };
}
template <class T>
auto number_with(opcode op, T number) {
  return [=](b_ref b, v x, v) {
    const v c = all_of(b, x, number);
    return b.binary(op, c, x);
  };
}
template <class T>
auto just(T number) {
  return [=](b_ref b, v x, v) { return all_of(b, x, number); };
}
auto one(opcode op) {
  return [=](b_ref b, v x, v) { return b.unary(op, x); };
}

}  // namespace

TEST_CASE("tile/passes_canonicalise: neutral numbers go away where they keep -0") {
  check(floats, with_number(opcode::add, -0.0), first);
  check(floats, number_with(opcode::add, -0.0), first);
  check(floats, with_number(opcode::sub, 0.0), first);
  check(floats, with_number(opcode::mul, 1.0), first);
  check(floats, number_with(opcode::mul, 1.0), first);
  check(floats, with_number(opcode::div, 1.0), first);
  check_kept(floats, with_number(opcode::add, 0.0));
  check_kept(floats, with_number(opcode::sub, -0.0));
  check_kept(floats, with_number(opcode::mul, 0.0));
  check_kept(floats, number_with(opcode::sub, 0.0));

  check(integers, with_number(opcode::add, 0), first);
  check(integers, with_number(opcode::sub, 0), first);
  check(integers, with_number(opcode::mul, 1), first);
  check(integers, with_number(opcode::div, 1), first);
  check(integers, with_number(opcode::bit_or, 0), first);
  check(integers, with_number(opcode::bit_xor, 0), first);
  check(integers, with_number(opcode::bit_and, -1), first);
  check(integers, with_number(opcode::shift_left, 0), first);
  check(integers, with_number(opcode::shift_right, 0), first);
}

TEST_CASE("tile/passes_canonicalise: what decides the result alone, decides it") {
  check(integers, with_number(opcode::mul, 0), just(0));
  check(integers, with_number(opcode::div, 0), just(0));
  check(integers, number_with(opcode::div, 0), just(0));
  check(integers, with_number(opcode::rem, 0), first);
  check(integers, with_number(opcode::rem, 1), just(0));
  check(all_signed, with_number(opcode::rem, -1), just(0));
  check(integers, number_with(opcode::rem, 0), just(0));
  check(integers, with_number(opcode::bit_and, 0), just(0));
  check(all_signed, with_number(opcode::bit_or, -1), just(-1));
  check(integers, number_with(opcode::shift_left, 0), just(0));
  check(integers, number_with(opcode::shift_right, 0), just(0));
  for (const opcode op : {opcode::sub, opcode::rem, opcode::bit_xor}) {
    check(
        integers, [=](b_ref b, v x, v) { return b.binary(op, x, x); }, just(0));
  }
  for (const opcode op : {opcode::min, opcode::max, opcode::bit_and, opcode::bit_or}) {
    check(
        integers, [=](b_ref b, v x, v) { return b.binary(op, x, x); }, first);
  }
  for (const opcode op : {opcode::min, opcode::max}) {
    check(
        floats, [=](b_ref b, v x, v) { return b.binary(op, x, x); }, first);
  }
  check_kept(floats, [](b_ref b, v x, v) { return b.binary(opcode::sub, x, x); });
  check_kept(integers, [](b_ref b, v x, v) { return b.binary(opcode::div, x, x); });
}

TEST_CASE("tile/passes_canonicalise: signs move") {
  const auto minus = [](b_ref b, v x, v) { return b.unary(opcode::neg, x); };
  check(floats, with_number(opcode::mul, -1.0), minus);
  check(floats, with_number(opcode::div, -1.0), minus);
  check(floats, number_with(opcode::sub, -0.0), minus);
  check(all_signed, with_number(opcode::mul, -1), minus);
  check(all_signed, with_number(opcode::div, -1), minus);
  check(integers, number_with(opcode::sub, 0), minus);

  const auto both = [](const auto& types) {
    const auto neg = [](b_ref b, v x) { return b.unary(opcode::neg, x); };
    check(
        types, [=](b_ref b, v x, v) { return neg(b, neg(b, x)); }, first);
    check(
        types, [=](b_ref b, v x, v y) { return b.binary(opcode::add, x, neg(b, y)); },
        [](b_ref b, v x, v y) { return b.binary(opcode::sub, x, y); });
    check(
        types, [=](b_ref b, v x, v y) { return b.binary(opcode::sub, x, neg(b, y)); },
        [](b_ref b, v x, v y) { return b.binary(opcode::add, x, y); });
  };
  both(floats);
  both(integers);
  const auto negated_difference = [](b_ref b, v x, v y) {
    return b.unary(opcode::neg, b.binary(opcode::sub, x, y));
  };
  check(integers, negated_difference,
        [](b_ref b, v x, v y) { return b.binary(opcode::sub, y, x); });
  check_kept(floats, negated_difference);
  check(
      floats,
      [](b_ref b, v x, v y) {
        return b.binary(opcode::mul, b.unary(opcode::neg, x), b.unary(opcode::neg, y));
      },
      [](b_ref b, v x, v y) { return b.binary(opcode::mul, x, y); });

  const auto abs_of_neg = [](b_ref b, v x, v) {
    return b.unary(opcode::abs, b.unary(opcode::neg, x));
  };
  check(floats, abs_of_neg, one(opcode::abs));
  check(all_signed, abs_of_neg, one(opcode::abs));
  check(std::array{dtype::uint8}, abs_of_neg, minus);
  check(std::array{dtype::uint8}, one(opcode::abs), first);
  for (const opcode op : {opcode::abs, opcode::floor}) {
    check(
        floats, [=](b_ref b, v x, v) { return b.unary(op, b.unary(op, x)); }, one(op));
  }
}

TEST_CASE("tile/passes_canonicalise: powers of two divide by multiplication, exactly") {
  for (const double c : {2.0, -4.0, 0.25, 16384.0}) {
    check(floats, with_number(opcode::div, c), with_number(opcode::mul, 1 / c));
  }
  check(std::array{dtype::bfloat16, dtype::float32, dtype::float64},
        with_number(opcode::div, 0x1p126), with_number(opcode::mul, 0x1p-126));
  check(std::array{dtype::float64}, with_number(opcode::div, 0x1p1022),
        with_number(opcode::mul, 0x1p-1022));
  for (const double c : {3.0, 0.0, infinity}) {
    check_kept(floats, with_number(opcode::div, c));
  }
  check_kept(std::array{dtype::float16}, with_number(opcode::div, 0x1p15));
  check_kept(std::array{dtype::float32}, with_number(opcode::div, 0x1p127));
  check_kept(std::array{dtype::float64}, with_number(opcode::div, 0x1p1023));
}

TEST_CASE("tile/passes_canonicalise: constants gather on the right of integers") {
  const auto chain = [](opcode op, int c, int d) {
    return [=](b_ref b, v x, v) {
      return b.binary(op, b.binary(op, x, all_of(b, x, c)), all_of(b, x, d));
    };
  };
  check(integers, chain(opcode::add, 100, 100), [](b_ref b, v x, v) {
    const bool narrow = b.type_of(x).element == dtype::int8;
    return b.binary(opcode::add, x, all_of(b, x, narrow ? -56 : 200));
  });
  check(integers, chain(opcode::mul, 3, 5), with_number(opcode::mul, 15));
  check(integers, chain(opcode::min, 7, 3), with_number(opcode::min, 3));
  check(integers, chain(opcode::max, 7, 3), with_number(opcode::max, 7));
  check(integers, chain(opcode::bit_and, 12, 6), with_number(opcode::bit_and, 4));
  check(integers, chain(opcode::bit_xor, 12, 6), with_number(opcode::bit_xor, 10));
  check(integers, chain(opcode::add, 5, -5), first);
  check(all_signed, with_number(opcode::sub, 5), with_number(opcode::add, -5));
  // The most negative number is its own negative.
  check(std::array{dtype::int8}, with_number(opcode::sub, -128), with_number(opcode::add, -128));
  check(std::array{dtype::int64},
        with_number(opcode::sub, std::numeric_limits<std::int64_t>::min()),
        with_number(opcode::add, std::numeric_limits<std::int64_t>::min()));
  check_kept(floats, [](b_ref b, v x, v) {
    const v sum = b.binary(opcode::add, x, all_of(b, x, 0.5));
    return b.binary(opcode::add, sum, all_of(b, x, 0.75));
  });
  // Which of +0 and -0 `max` gives depends on the order.
  check_kept(floats, number_with(opcode::max, 0.0));
  check(integers, number_with(opcode::max, 3), with_number(opcode::max, 3));
}

TEST_CASE("tile/passes_canonicalise: comparisons and selections") {
  const auto compared = [](opcode op, bool swapped = false) {
    return [=](b_ref b, v x, v y) { return swapped ? b.binary(op, y, x) : b.binary(op, x, y); };
  };
  const auto denied = [](opcode op) {
    return [=](b_ref b, v x, v y) { return b.unary(opcode::bit_not, b.binary(op, x, y)); };
  };
  const auto with_itself = [](opcode op) {
    return [=](b_ref b, v x, v) { return b.binary(op, x, x); };
  };
  const auto bools = [](bool value) {
    return [=](b_ref b, v x, v) {
      const tile_type t = b.type_of(x).with(dtype::boolean);
      return b.broadcast(b.constant(dtype::boolean, value), t);
    };
  };
  for (const dtype e : integers) {
    check_result(e, dtype::boolean, denied(opcode::less), compared(opcode::less_equal, true));
    check_result(e, dtype::boolean, denied(opcode::less_equal), compared(opcode::less, true));
    check_result(e, dtype::boolean, with_itself(opcode::equal), bools(true));
    check_result(e, dtype::boolean, with_itself(opcode::less_equal), bools(true));
    check_result(e, dtype::boolean, with_itself(opcode::not_equal), bools(false));
  }
  for (const dtype e : floats) {
    // NaN is neither less nor not less.
    check_result(e, dtype::boolean, denied(opcode::less), denied(opcode::less));
    check_result(e, dtype::boolean, with_itself(opcode::equal), with_itself(opcode::equal));
    check_result(e, dtype::boolean, with_itself(opcode::not_equal), with_itself(opcode::not_equal));
    check_result(e, dtype::boolean, denied(opcode::equal), compared(opcode::not_equal));
    check_result(e, dtype::boolean, denied(opcode::not_equal), compared(opcode::equal));
    check_result(e, dtype::boolean, with_itself(opcode::less), bools(false));
  }
  const auto chosen = [](v condition, bool yes) {
    return [=](b_ref b, v x, v y) {
      static_cast<void>(condition);
      const tile_type t = b.type_of(x).with(dtype::boolean);
      return b.select(b.broadcast(b.constant(dtype::boolean, yes), t), x, y);
    };
  };
  check(floats, chosen(0, true), first);
  check(floats, chosen(0, false), [](b_ref, v, v y) { return y; });
  check(
      floats,
      [](b_ref b, v x, v y) {
        return b.select(b.unary(opcode::bit_not, b.binary(opcode::less, x, y)), x, y);
      },
      [](b_ref b, v x, v y) { return b.select(b.binary(opcode::less, x, y), y, x); });
  check(
      floats, [](b_ref b, v x, v y) { return b.select(b.binary(opcode::less, x, y), x, x); },
      first);
  for (const bool yes : {true, false}) {
    check_result(
        dtype::float32, dtype::boolean,
        [=](b_ref b, v x, v y) {
          const v asked = b.binary(opcode::less, x, y);
          const v left = all_of(b, asked, yes);
          return b.select(asked, left, all_of(b, asked, !yes));
        },
        [=](b_ref b, v x, v y) {
          const v asked = b.binary(opcode::less, x, y);
          return yes ? asked : b.unary(opcode::bit_not, asked);
        });
  }
}

TEST_CASE("tile/passes_canonicalise: a cast by way of a larger type goes straight") {
  constexpr std::array all{dtype::boolean,  dtype::int8,        dtype::uint8,       dtype::int32,
                           dtype::int64,    dtype::float8_e4m3, dtype::float8_e5m2, dtype::float16,
                           dtype::bfloat16, dtype::float32,     dtype::float64};
  int straight = 0;
  for (const dtype from : all) {
    for (const dtype middle : all) {
      for (const dtype to : all) {
        for (const rounding how :
             {rounding::nearest_even, rounding::toward_zero, rounding::saturating}) {
          const program before = program_of_two(from, to, [&](b_ref b, v x, v) {
            return b.cast(b.cast(x, middle, rounding::nearest_even), to, how);
          });
          const program after = simple(before);
          INFO(std::string(ashlar::name_of(from)) << " " << std::string(ashlar::name_of(middle))
                                                  << " " << std::string(ashlar::name_of(to)));
          CHECK(tile_test::difference(before, after) == "");
          straight += after.size < before.size ? 1 : 0;
        }
      }
    }
  }
  CHECK(straight > 400);
  check_kept(std::array{dtype::int8},
             [](b_ref b, v x, v) { return b.cast(b.cast(x, dtype::boolean), dtype::int8); });
  check(
      std::array{dtype::float32},
      [](b_ref b, v x, v) {
        return b.emit(
            {.op = opcode::bitcast, .type = b.type_of(x)},
            {b.emit({.op = opcode::bitcast, .type = b.type_of(x).with(dtype::int32)}, {x})});
      },
      first);
}

TEST_CASE("tile/passes_canonicalise: fma without a product or without a sum") {
  const auto ternary = [](double second, double third, bool y_is_third) {
    return [=](b_ref b, v x, v y) {
      const v s = y_is_third ? all_of(b, x, second) : y;
      return b.fma(x, s, y_is_third ? y : all_of(b, x, third));
    };
  };
  check(floats, ternary(1, 0, true), [](b_ref b, v x, v y) { return b.binary(opcode::add, x, y); });
  check(floats, ternary(-1, 0, true),
        [](b_ref b, v x, v y) { return b.binary(opcode::sub, y, x); });
  check(floats, ternary(0, -0.0, false),
        [](b_ref b, v x, v y) { return b.binary(opcode::mul, x, y); });
  check_kept(floats, ternary(0, 0.0, false));
}

TEST_CASE("tile/passes_canonicalise: shapes of shapes") {
  const auto pairs = [](b_ref b, v x) { return b.type_of(x).extent(0); };
  const std::array swap{1, 0};
  check(
      std::array{dtype::float32},
      [&](b_ref b, v x, v) {
        const tile_type wide(dtype::float32, {pairs(b, x) / 2, 2});
        const v t = b.transpose(b.transpose(b.reshape(x, wide), swap), swap);
        return b.reshape(t, b.type_of(x));
      },
      first);
  check(
      std::array{dtype::float32},
      [&](b_ref b, v x, v) {
        tile_type half = b.type_of(x);
        half.extents[0] /= 2;
        const v even = b.emit({.op = opcode::split, .index = 0, .type = half}, {x});
        const v odd = b.emit({.op = opcode::split, .index = 1, .type = half}, {x});
        return b.emit({.op = opcode::join, .type = b.type_of(x)}, {even, odd});
      },
      first);
  check(
      std::array{dtype::float32},
      [&](b_ref b, v x, v y) {
        tile_type twice = b.type_of(x);
        twice.extents[0] *= 2;
        const v both = b.emit({.op = opcode::join, .type = twice}, {x, y});
        return b.emit({.op = opcode::split, .index = 1, .type = b.type_of(x)}, {both});
      },
      [](b_ref, v, v y) { return y; });
  check(
      std::array{dtype::float32},
      [&](b_ref b, v x, v) {
        const tile_type wide(dtype::float32, {1, pairs(b, x)});
        const v repeated = b.broadcast(b.constant(dtype::float32, 2), wide);
        const v two = b.reshape(b.transpose(repeated, swap), b.type_of(x));
        return b.binary(opcode::add, x, two);
      },
      with_number(opcode::add, 2));
  // Three axes, whose two orders make one.
  const program before = [] {
    builder b("axes");
    b.add_parameter({.element = dtype::float32, .rank = 3});
    b.add_parameter({.element = dtype::float32, .rank = 3, .written = true});
    const v at = b.index(0);
    const v x =
        b.emit({.op = opcode::load, .index = 0, .type = tile_type(dtype::float32, {2, 3, 4})},
               {at, at, at});
    const v y = b.transpose(x, std::array{1, 2, 0});
    const v z = b.transpose(y, std::array{1, 0, 2});
    b.emit({.op = opcode::store, .index = 1}, {z, at, at, at});
    return b.finish();
  }();
  const program after = simple(before);
  REQUIRE(after.size == 4);
  CHECK(after.at(2).value == (2 | 1 << 4 | 0 << 8));
  CHECK(verify(after));
}

TEST_CASE("tile/passes_canonicalise: exact arithmetic is done before it is repeated") {
  const program before = tile_test::read(R"(kernel "small"(p0: f32[?], p1: f32[?] written) {
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[1]
    %2 = broadcast %1 : f32[8]
    %3 = constant 3 : f32
    %4 = broadcast %3 : f32[8]
    %5 = mul %2, %4 : f32[8]
    %6 = abs %5 : f32[8]
    store p1, %6, %0
  })");
  const program after = tile_test::read(R"(kernel "small"(p0: f32[?], p1: f32[?] written) {
    %0 = program_id axis=0 : i64
    %1 = load p0, %0 : f32[1]
    %2 = constant 3 : f32
    %3 = broadcast %2 : f32[1]
    %4 = mul %1, %3 : f32[1]
    %5 = abs %4 : f32[1]
    %6 = broadcast %5 : f32[8]
    store p1, %6, %0
  })");
  CHECK(tile_test::text_of(simple(before)) == tile_test::text_of(after));
  CHECK(tile_test::difference(before, after) == "");
}

TEST_CASE("tile/passes_canonicalise: regions that are decided lose their frame") {
  const program before = tile_test::read(R"(kernel "frames"(p0: f32[?], p1: f32[?] written) {
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = constant 5 : i64
    %4 = loop %3, %2, %2, %1 (%5: i64, %6: f32[4]) {
      %7 = exp %6 : f32[4]
      yield %7
    }
    %8 = result %4, number=0 : f32[4]
    %9 = less %2, %3 : bool
    %10 = branch %9 {
      %11 = neg %8 : f32[4]
      yield %11
    } {
      yield %8
    }
    %12 = result %10, number=0 : f32[4]
    %13 = reshape %12 : f32[1, 4]
    %14 = reduce %13, axis=0 (%15: f32, %16: f32) {
      %17 = add %15, %16 : f32
      yield %17
    }
    %18 = result %14, number=0 : f32[4]
    require %9, number=7
    %19 = loop %2, %3, %2, %18, %18 (%20: i64, %21: f32[4], %22: f32[4]) {
      %23 = add %22, %21 : f32[4]
      yield %21, %23
    }
    %24 = result %19, number=0 : f32[4]
    %25 = result %19, number=1 : f32[4]
    %26 = mul %24, %25 : f32[4]
    store p1, %26, %0
  })");
  const program after = tile_test::read(R"(kernel "frames"(p0: f32[?], p1: f32[?] written) {
    %0 = constant 0 : i64
    %1 = load p0, %0 : f32[4]
    %2 = constant 1 : i64
    %3 = constant 5 : i64
    %4 = neg %1 : f32[4]
    %5 = reshape %4 : f32[1, 4]
    %6 = reshape %5 : f32[4]
    %7 = loop %2, %3, %2, %6 (%8: i64, %9: f32[4]) {
      %10 = add %6, %9 : f32[4]
      yield %10
    }
    %11 = result %7, number=0 : f32[4]
    %12 = mul %6, %11 : f32[4]
    store p1, %12, %0
  })");
  CHECK(tile_test::text_of(simple(before)) == tile_test::text_of(after));
  CHECK(tile_test::difference(before, after) == "");
}

TEST_CASE("tile/passes_fold: constants are computed, but not what a chip decides or NaN") {
  const auto folded = [](const auto& f) {
    const program p = passes::remove_dead(
        passes::fold_constants(program_of_two(dtype::float32, dtype::float32, f)));
    return p.size == 4 ? std::optional(p.at(1).value) : std::nullopt;
  };
  const auto two = [](opcode op, double c, double d) {
    return [=](b_ref b, v x, v) { return b.binary(op, all_of(b, x, c), all_of(b, x, d)); };
  };
  CHECK(folded(two(opcode::add, 1, 2)) == ashlar::tile::constant_bits(3.0));
  CHECK(folded(two(opcode::add, -0.0, -0.0)) == ashlar::tile::constant_bits(-0.0));
  CHECK(folded(two(opcode::max, 0.0, -0.0)) == ashlar::tile::constant_bits(-0.0));
  CHECK(folded(two(opcode::max, -0.0, 0.0)) == ashlar::tile::constant_bits(0.0));
  CHECK(!folded(two(opcode::div, 0.0, 0.0)));
  CHECK(!folded(two(opcode::sub, infinity, infinity)));
  CHECK(!folded([](b_ref b, v x, v) { return b.unary(opcode::exp, all_of(b, x, 1)); }));
  for (const dtype e : integers) {
    for (const opcode op : {opcode::add, opcode::sub, opcode::mul, opcode::div, opcode::rem,
                            opcode::shift_left, opcode::shift_right}) {
      for (const int c : {0, 1, -1, 127, -128}) {
        for (const int d : {0, 1, -1, 2, 127, -128}) {
          const program before = program_of_two(e, e, [&](b_ref b, v x, v) {
            return b.binary(op, all_of(b, x, c), all_of(b, x, d));
          });
          const program after = passes::remove_dead(passes::fold_constants(before));
          REQUIRE(after.size == 4);
          CHECK(tile_test::difference(before, after) == "");
        }
      }
    }
  }
}

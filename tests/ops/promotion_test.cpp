// SPDX-License-Identifier: Apache-2.0
// The tables of PyTorch's "type promotion" page, for the nine types that both have.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/dispatch/any.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ops/twins.hpp"

namespace al = ashlar;
using al::dtype;

namespace {

constexpr dtype b1 = dtype::boolean;
constexpr dtype u1 = dtype::uint8;
constexpr dtype i1 = dtype::int8;
constexpr dtype i4 = dtype::int32;
constexpr dtype i8 = dtype::int64;
constexpr dtype f2 = dtype::float16;
constexpr dtype bf = dtype::bfloat16;
constexpr dtype f4 = dtype::float32;
constexpr dtype f8 = dtype::float64;

constexpr std::array<dtype, 9> types{b1, u1, i1, i4, i8, f2, bf, f4, f8};

// uint8 with int8 is PyTorch's int16, which is no element type here: the next one, int32.
constexpr dtype i2 = i4;
/// Two tensors with dimensions, or two without.
constexpr dtype pairs[9][9] = {
    {b1, u1, i1, i4, i8, f2, bf, f4, f8},  //
    {u1, u1, i2, i4, i8, f2, bf, f4, f8},  //
    {i1, i2, i1, i4, i8, f2, bf, f4, f8},  //
    {i4, i4, i4, i4, i8, f2, bf, f4, f8},  //
    {i8, i8, i8, i8, i8, f2, bf, f4, f8},  //
    {f2, f2, f2, f2, f2, f2, f4, f4, f8},  //
    {bf, bf, bf, bf, bf, f4, bf, f4, f8},  //
    {f4, f4, f4, f4, f4, f4, f4, f4, f8},  //
    {f8, f8, f8, f8, f8, f8, f8, f8, f8},
};
/// A tensor with dimensions (the row) and one without.
constexpr dtype beside_one[9][9] = {
    {b1, u1, i1, i4, i8, f2, bf, f4, f8},  //
    {u1, u1, u1, u1, u1, f2, bf, f4, f8},  //
    {i1, i1, i1, i1, i1, f2, bf, f4, f8},  //
    {i4, i4, i4, i4, i4, f2, bf, f4, f8},  //
    {i8, i8, i8, i8, i8, f2, bf, f4, f8},  //
    {f2, f2, f2, f2, f2, f2, f2, f2, f2},  //
    {bf, bf, bf, bf, bf, bf, bf, bf, bf},  //
    {f4, f4, f4, f4, f4, f4, f4, f4, f4},  //
    {f8, f8, f8, f8, f8, f8, f8, f8, f8},
};
constexpr dtype with_integer[9] = {i8, u1, i1, i4, i8, f2, bf, f4, f8};
constexpr dtype with_floating[9] = {f4, f4, f4, f4, f4, f2, bf, f4, f8};
/// Of one tensor: its root, its quotient by an integer, its sum.
constexpr dtype roots[9] = {f4, f4, f4, f4, f4, f2, bf, f4, f8};
constexpr dtype sums[9] = {i8, i8, i8, i8, i8, f2, bf, f4, f8};
constexpr dtype floating(dtype d) { return al::is_floating(d) ? d : f4; }
/// Whether PyTorch casts the row's type to the column's where a result is written.
constexpr bool casts[9][9] = {
    {true, true, true, true, true, true, true, true, true},       //
    {false, true, true, true, true, true, true, true, true},      //
    {false, true, true, true, true, true, true, true, true},      //
    {false, true, true, true, true, true, true, true, true},      //
    {false, true, true, true, true, true, true, true, true},      //
    {false, false, false, false, false, true, true, true, true},  //
    {false, false, false, false, false, true, true, true, true},  //
    {false, false, false, false, false, true, true, true, true},  //
    {false, false, false, false, false, true, true, true, true},
};

constexpr std::size_t place_of(dtype d) {
  return static_cast<std::size_t>(std::ranges::find(types, d) - types.begin());
}

template <class X>
constexpr dtype type_of = al::element_type<X>;

template <std::size_t I>
void check_results() {
  using T = al::scalar_of<types[I]>;
  const auto x = al::ones<twins::plain<T>>({2});
  static_assert(type_of<decltype(x * true)> == types[I]);
  static_assert(type_of<decltype(x * 2)> == with_integer[I]);
  static_assert(type_of<decltype(2.5 + x)> == with_floating[I]);
  static_assert(type_of<decltype(x / 2.0F)> == with_floating[I]);
  static_assert(type_of<decltype(2 / x)> == roots[I]);
  static_assert(type_of<decltype(x / x)> == roots[I]);
  static_assert(type_of<decltype(al::sqrt(x))> == roots[I]);
  static_assert(type_of<decltype(al::sum(x))> == sums[I]);
  static_assert(type_of<decltype(al::lt(x, x))> == b1);
  static_assert(al::NumberFor<int, twins::plain<T>> == (with_integer[I] == types[I]));
  static_assert(al::NumberFor<double, twins::plain<T>> == (with_floating[I] == types[I]));
  CHECK(static_cast<double>(twins::at(2.5 + x, 0)) == 3.5);
  CHECK(static_cast<double>(twins::at(x * 2, 0)) == 2.0);
  CHECK(static_cast<double>(twins::at(x / 2, 0)) == 0.5);
  CHECK(static_cast<double>(twins::at(1 / (x + x), 0)) == (types[I] == b1 ? 1.0 : 0.5));
  CHECK(static_cast<double>(twins::at(al::sqrt(x), 1)) == 1.0);
}

/// At run time types do not need elements.
struct world {
  using chips = al::chip_list<al::chip::meta>;
  using element_types = al::element_list<bool, std::uint8_t, std::int8_t, std::int32_t,
                                         std::int64_t, al::float16, al::bfloat16, float, double>;
  using keys = al::make_key_set<al::keys::backend<al::chip::meta>>;
};
using any = al::any_tensor<world>;

template <std::size_t... I>
std::array<any, 9> of_each_type(const al::shape& s, std::index_sequence<I...>) {
  return {any(al::empty<al::tensor<al::scalar_of<types[I]>,
                                   al::make_key_set<al::keys::backend<al::chip::meta>>>>(s))...};
}

}  // namespace

TEST_CASE("ops/promotion: two tensors meet in the type of PyTorch's table") {
  for (std::size_t i = 0; i < 9; ++i) {
    for (std::size_t j = 0; j < 9; ++j) {
      CHECK(al::promote(types[i], types[j]) == pairs[i][j]);
      CHECK(al::promote_category(types[i], types[j]) == beside_one[i][j]);
      CHECK(al::can_cast(types[i], types[j]) == casts[i][j]);
    }
  }
}

TEST_CASE("ops/promotion: a number changes the type of a tensor of a narrower category only") {
  for (std::size_t i = 0; i < 9; ++i) {
    CHECK(al::promote_with_number<bool>(types[i]) == types[i]);
    CHECK(al::promote_with_number<int>(types[i]) == with_integer[i]);
    CHECK(al::promote_with_number<std::uint8_t>(types[i]) == with_integer[i]);
    CHECK(al::promote_with_number<float>(types[i]) == with_floating[i]);
    CHECK(al::promote_with_number<double>(types[i]) == with_floating[i]);
  }
  check_results<0>();  // bool
  check_results<3>();  // int32
  check_results<6>();  // bfloat16
}

TEST_CASE("ops/promotion: at run time tensors without dimensions count as in PyTorch") {
  const auto rows = of_each_type({2, 3}, std::make_index_sequence<9>{});
  const auto ones = of_each_type({}, std::make_index_sequence<9>{});
  for (std::size_t i = 0; i < 9; ++i) {
    for (std::size_t j = 0; j < 9; ++j) {
      CHECK((rows[i] + rows[j]).type() == pairs[i][j]);
      CHECK((ones[i] + ones[j]).type() == pairs[i][j]);
      CHECK((rows[i] + ones[j]).type() == beside_one[i][j]);
      CHECK((ones[j] + rows[i]).type() == beside_one[i][j]);
      CHECK((rows[i] / rows[j]).type() == floating(pairs[i][j]));
      CHECK((ones[i] / rows[j]).type() == floating(beside_one[j][i]));
      CHECK(al::lt(rows[i], ones[j]).type() == b1);
      any out = rows[j];
      if (casts[i][j]) {
        al::add.out(out, rows[i], rows[i]);
        CHECK(out.type() == types[j]);
      } else {
        CHECK_THROWS_AS(al::add.out(out, rows[i], rows[i]), al::any_type_error);
      }
      any self = rows[i];
      if (casts[place_of(pairs[i][j])][i]) {
        CHECK(al::add.in_place(self, rows[j]).type() == types[i]);
      } else {
        CHECK_THROWS_AS(al::add.in_place(self, rows[j]), al::any_type_error);
      }
    }
    for (const any& x : {rows[i], ones[i]}) {
      CHECK((x + true).type() == types[i]);
      CHECK((x * 2).type() == with_integer[i]);
      CHECK((2.5 - x).type() == with_floating[i]);
      CHECK((x / 2).type() == roots[i]);
      CHECK((2 / x).type() == roots[i]);
      CHECK(al::sqrt(x).type() == roots[i]);
      CHECK(al::sum(x).type() == sums[i]);
      if (al::is_floating(types[i])) {
        CHECK(al::mean(x).type() == types[i]);
      } else {
        CHECK_THROWS_AS(static_cast<void>(al::mean(x)), al::argument_error);
      }
    }
  }
}

TEST_CASE("ops/promotion: an output in another type than the call is no argument in disguise") {
  using meta = al::make_key_set<al::keys::backend<al::chip::meta>>;
  using row = al::tensor<float, meta>;
  const row line = al::empty<row>({8});
  const any head = al::narrow(line, 0, 0, 4);
  const any next = al::narrow(line, 0, 2, 4);
  const any wide = al::empty<al::tensor<double, meta>>({4});
  any out = head;
  CHECK_THROWS_AS(al::add.out(out, next, wide), al::overlap_error);
  CHECK(al::add.out(out, head, wide).type() == f4);  // the same place is fine
  row typed = head.as<row>();
  CHECK_THROWS_AS(al::add.out(typed, next.as<row>(), al::empty<al::tensor<double, meta>>({4})),
                  al::overlap_error);
  al::add.out(typed, typed, al::empty<al::tensor<double, meta>>({4}));
  CHECK(typed.bytes() == head.bytes());
  CHECK_THROWS_AS(al::lt.in_place(typed, next.as<row>()), al::overlap_error);
  any one = al::narrow(line, 0, 0, 1);
  CHECK_THROWS_AS(al::add.out(one, one, wide), al::output_error);
}

TEST_CASE("ops/promotion: in place a function with a spelling takes types at run time") {
  const auto rows = of_each_type({2, 3}, std::make_index_sequence<9>{});
  for (std::size_t i = 0; i < 9; ++i) {
    any x = rows[i];
    if (al::is_floating(types[i])) {
      CHECK(al::div.in_place(x, x).type() == types[i]);
    } else {
      CHECK_THROWS_AS(al::div.in_place(x, x), al::any_type_error);
    }
    any y = rows[i];
    if (types[i] == b1) {
      CHECK_THROWS_AS(al::cumsum.in_place(y), al::any_type_error);
    } else {
      CHECK(al::cumsum.in_place(y).type() == types[i]);
    }
  }
}

TEST_CASE("ops/promotion: an empty handle is refused wherever its type would be asked for") {
  const any x = of_each_type({2}, std::make_index_sequence<9>{})[3];
  any none;
  CHECK_THROWS_AS(static_cast<void>(none / x), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(x / none), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(none * 2), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(2 / none), al::undefined_tensor);
  CHECK_THROWS_AS(static_cast<void>(al::sum(none)), al::undefined_tensor);
  CHECK_THROWS_AS(al::div.in_place(none, x), al::undefined_tensor);
}

// SPDX-License-Identifier: Apache-2.0
// The tables of PyTorch's "type promotion" page, for the nine types that both have.
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/operators.hpp"
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
constexpr dtype with_integer[9] = {i8, u1, i1, i4, i8, f2, bf, f4, f8};
constexpr dtype with_floating[9] = {f4, f4, f4, f4, f4, f2, bf, f4, f8};

template <std::size_t I>
void check_results() {
  using T = al::scalar_of<types[I]>;
  const auto x = al::ones<twins::plain<T>>({2});
  static_assert(al::element_type<decltype(x * 2)> == with_integer[I]);
  static_assert(al::element_type<decltype(2.5 + x)> == with_floating[I]);
  static_assert(al::element_type<decltype(x / 2.0F)> == with_floating[I]);
  static_assert(al::NumberFor<int, twins::plain<T>> == (with_integer[I] == types[I]));
  static_assert(al::NumberFor<double, twins::plain<T>> == (with_floating[I] == types[I]));
  CHECK(static_cast<double>(twins::at(2.5 + x, 0)) == 3.5);
  CHECK(static_cast<double>(twins::at(x * 2, 0)) == 2.0);
}

}  // namespace

TEST_CASE("ops/promotion: two tensors meet in the type of PyTorch's table") {
  for (std::size_t i = 0; i < 9; ++i) {
    for (std::size_t j = 0; j < 9; ++j) {
      CHECK(al::promote(types[i], types[j]) == pairs[i][j]);
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

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/rules.hpp"

/// What the tile language asks of types. Each check is a function whose template arguments are the
/// tiles (or views) that must fit, so that compilers show them with the sentence.
namespace ashlar::tile::detail {

template <class X>
constexpr void expect_floating() {
  static_assert(is_floating(X::type.element),
                "ashlar::tile: this function is for floating-point elements; cast the tile");
}

template <class X>
constexpr void expect_integral() {
  static_assert(is_integral(X::type.element),
                "ashlar::tile: this operation is for integers and bool; cast the tile");
}

template <class From, class To>
constexpr void expect_same_size() {
  static_assert(From::type.size() == To::type.size(),
                "ashlar::tile::reshape: the number of elements stays; ask for other extents");
}

template <class X>
constexpr void expect_halves() {
  static_assert(X::rank > 0, "ashlar::tile::split: a scalar has no last axis; reshape it");
  if constexpr (X::rank > 0) {
    static_assert(X::type.extent(X::rank - 1) % 2 == 0,
                  "ashlar::tile::split: the extent of the last axis is odd; take an even one");
  }
}

template <class Even, class Odd>
constexpr void expect_pair() {
  static_assert(std::same_as<Even, Odd>,
                "ashlar::tile::join: two tiles of one type are interleaved; cast or broadcast one");
  static_assert(Even::rank > 0, "ashlar::tile::join: a scalar has no last axis; reshape it");
}

template <class X>
constexpr void expect_bytes() {
  static_assert(X::type.element == dtype::int8 || X::type.element == dtype::uint8,
                "ashlar::tile::unpack_nibbles: nibbles lie in int8 or uint8; bitcast the tile");
  static_assert(X::rank > 0, "ashlar::tile::unpack_nibbles: a scalar has no last axis; reshape it");
}

template <class A, class B, class C>
constexpr void expect_product() {
  constexpr int r = A::rank;
  constexpr bool matrices = (r == 2 || r == 3) && B::rank == r && C::rank == r;
  static_assert(matrices,
                "ashlar::tile::dot: a, b and c are matrices, or 3 axes of which the first counts "
                "matrices; reshape what is not");
  if constexpr (matrices) {
    static_assert(A::type.extent(r - 1) == B::type.extent(r - 2),
                  "ashlar::tile::dot: the extents K of a[.., M, K] and b[.., K, N] differ; "
                  "transpose or load one so that they meet");
    static_assert(A::type.extent(r - 2) == C::type.extent(r - 2) &&
                      B::type.extent(r - 1) == C::type.extent(r - 1),
                  "ashlar::tile::dot: c is not [.., M, N] of a[.., M, K] and b[.., K, N]; give it "
                  "their extents");
    static_assert(r == 2 || (A::type.extent(0) == C::type.extent(0) &&
                             B::type.extent(0) == C::type.extent(0)),
                  "ashlar::tile::dot: a, b and c count different numbers of matrices; broadcast");
  }
  static_assert(std::same_as<typename A::value_type, typename B::value_type>,
                "ashlar::tile::dot: a and b have different element types; cast one");
  static_assert(is_floating(A::type.element) || A::type.element == dtype::int8,
                "ashlar::tile::dot: products of matrices are of floats or int8; cast a and b");
  static_assert(C::type.element == accumulator_of(A::type.element),
                "ashlar::tile::dot: f32 and narrower floats add up in f32, f64 in f64, int8 in "
                "int32; take a c of that type");
}

/// With one scale for 32 elements along K.
template <class A, class ScaleA, class B, class ScaleB, class C>
constexpr void expect_scales() {
  static_assert(C::type.element == dtype::float32,
                "ashlar::tile::dot_scaled: the scales are for floats that add up in f32; cast");
  if constexpr (A::rank == 2 && B::rank == 2) {
    constexpr std::int32_t k = A::type.extent(1);
    static_assert(k % 32 == 0 &&
                      ScaleA::type == tile_type(dtype::float32, {A::type.extent(0), k / 32}) &&
                      ScaleB::type == tile_type(dtype::float32, {k / 32, B::type.extent(1)}),
                  "ashlar::tile::dot_scaled: K is a multiple of 32, the scales are f32 of "
                  "[M, K / 32] and [K / 32, N]; give them these extents");
  } else {
    static_assert(A::rank == 2 && B::rank == 2,
                  "ashlar::tile::dot_scaled: a and b have two axes; reshape them");
  }
}

/// That a tile can be read from or written to a view.
template <class View, class X>
constexpr void expect_elements() {
  static_assert(std::same_as<typename X::value_type, typename View::value_type>,
                "ashlar::tile: the tile and the view have different element types; cast the tile");
}

template <class View, class X>
constexpr void expect_block() {
  static_assert(X::rank <= View::rank,
                "ashlar::tile::load, store: the tile has more axes than the view; reshape it");
}

template <class X, class Offset>
constexpr void expect_offset() {
  static_assert(Offset::rank == 0,
                "ashlar::tile::load, store: an offset is a scalar; take gather or scatter for a "
                "tile of places");
}

/// An index for each element of `X`, or for all of them.
template <class X, class Index>
constexpr void expect_index() {
  static_assert(Index::rank == 0 || std::same_as<typename Index::extents, typename X::extents>,
                "ashlar::tile::gather, scatter: an index is a scalar or has the extents of the "
                "tile; broadcast it");
}

/// That a region gives what is carried: both are tuples of tiles.
template <class Given, class Carried>
constexpr void expect_carried() {
  static_assert(
      std::same_as<std::remove_cv_t<Given>, Carried>,
      "ashlar::tile: a region gives tiles of other types than it must; a loop gives what "
      "it carries, a branch the same twice, a combination scalars of the tiles' elements");
}

}  // namespace ashlar::tile::detail

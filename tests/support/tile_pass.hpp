// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <string>
#include <string_view>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/program.hpp"

/// Checks that a pass turns one program into another, and that both do the same with awkward
/// numbers.
namespace tile_test {

/// How many pairs of awkward numbers of `e` there are: signed zeros, infinities, NaN, the largest,
/// the smallest, the most negative integer ...
int awkward_pairs(ashlar::dtype e);

/// Runs two programs with equal arguments: views of rank 1 whose elements are awkward numbers, in
/// all pairs of the first two views.
///
/// Returns: where what they stored is different; any NaN equals any other. Empty where nothing is.
std::string difference(const ashlar::tile::program& a, const ashlar::tile::program& b);

/// A program that loads the tiles `x` and `y` of all awkward pairs of `e` and stores what `f` makes
/// of them.
template <class F>
  requires std::invocable<const F&, ashlar::tile::builder&, ashlar::tile::value_id,
                          ashlar::tile::value_id>
ashlar::tile::program program_of_two(ashlar::dtype e, ashlar::dtype result, const F& f) {
  namespace tile = ashlar::tile;
  tile::builder b("two");
  b.add_parameter({.element = e, .rank = 1});
  b.add_parameter({.element = e, .rank = 1});
  b.add_parameter({.element = result, .rank = 1, .written = true});
  const tile::tile_type t(e, {awkward_pairs(e)});
  const tile::value_id at = b.index(0);
  const tile::value_id x = b.emit({.op = tile::opcode::load, .index = 0, .type = t}, {at});
  const tile::value_id y = b.emit({.op = tile::opcode::load, .index = 1, .type = t}, {at});
  b.emit({.op = tile::opcode::store, .index = 2}, {f(b, x, y), at});
  return b.finish();
}

/// The text of `p`, with its values numbered afresh, as `print(parse(text))` gives it.
std::string text_of(const ashlar::tile::program& p);
/// Reads the text form; the test ends where it is wrong.
ashlar::tile::program read(std::string_view text);

}  // namespace tile_test

// SPDX-License-Identifier: Apache-2.0
// Every rule has a program that breaks it, and the headers' own text says which rules there are.
#include "ashlar/tile/verify.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/tile/builder.hpp"
#include "support/tile_random.hpp"

namespace tile = ashlar::tile;
using ashlar::dtype;
using tile::instruction;
using tile::opcode;
using tile::tile_type;
using tile::value_id;

namespace {

constexpr tile_type nothing{};
constexpr tile_type f32 = tile::scalar_type(dtype::float32);
constexpr tile_type i64 = tile::index_type;
constexpr tile_type boolean = tile::scalar_type(dtype::boolean);

/// A program that nobody checks while it is written, with some values to begin with.
struct draft {
  tile::program p{};
  value_id number, index, holds;      // scalars
  value_id row, rows, bytes, places;  // f32[4], f32[4, 2], i8[4, 2], i64[4, 2]
  value_id store;                     // no value

  draft() {
    p.set_name("draft");
    p.parameters[0] = {dtype::float32, 2, false};
    p.parameters[1] = {dtype::float32, 1, true};
    p.parameters[2] = {dtype::int64, -1, false};
    p.parameter_count = 3;
    number = push({.op = opcode::constant, .type = f32});
    index = push({.op = opcode::constant, .type = i64});
    holds = push({.op = opcode::constant, .type = boolean});
    row = like({dtype::float32, {4}});
    rows = like({dtype::float32, {4, 2}});
    bytes = like({dtype::int8, {4, 2}});
    places = like({dtype::int64, {4, 2}});
    store = push({.op = opcode::store, .index = 1}, {row, index});
  }

  value_id push(const instruction& i, std::initializer_list<value_id> operands = {}) {
    return p.push(i, std::span(operands.begin(), operands.size()));
  }
  value_id like(const tile_type& t) {
    const value_id x = push({.op = opcode::constant, .type = tile::scalar_type(t.element)});
    return push({.op = opcode::broadcast, .type = t}, {x});
  }
  value_id input(int n, const tile_type& t) {
    return push({.op = opcode::region_input, .index = n, .type = t});
  }
  void yield(std::initializer_list<value_id> values) { push({.op = opcode::yield}, values); }
  void require_op(value_id x) { push({.op = opcode::require}, {x}); }
};

struct broken {
  std::string_view rule;
  std::function<void(draft&)> write;
};

tile_type of(dtype e, std::initializer_list<std::int32_t> extents) { return {e, extents}; }

const std::vector<broken>& leaves_and_memory() {
  static const std::vector<broken> all{
      {"it says to be longer than a program can be", [](draft& d) { d.p.size = 1000; }},
      {"a view has at most 4 axes", [](draft& d) { d.p.parameters[0].rank = 5; }},
      {"a view has at most 4 axes", [](draft& d) { d.p.parameters[2].rank = -2; }},
      {"there is no such type",
       [](draft& d) { d.p.parameters[0].element = static_cast<dtype>(77); }},
      {"there is no such type",
       [](draft& d) {
         tile_type t = f32;
         t.rank = 5;
         d.push({.op = opcode::constant, .type = t});
       }},
      {"there is no such type",
       [](draft& d) {
         tile_type t = f32;
         t.extents[2] = 3;  // behind its rank
         d.push({.op = opcode::constant, .type = t});
       }},
      {"there is no such type",
       [](draft& d) {
         tile_type t = f32;
         t.element = static_cast<dtype>(ashlar::dtype_count);
         d.push({.op = opcode::constant, .type = t});
       }},
      {"there is no such operation",
       [](draft& d) { d.push({.op = static_cast<opcode>(200), .type = f32}); }},
      {"its operands lie outside the program's list",
       [](draft& d) {
         d.p.at(d.push({.op = opcode::neg, .type = f32}, {d.number})).first = 60000;
       }},
      {"it uses a value that is not there: values come before their uses, in the same region or "
       "one around it",
       [](draft& d) { d.push({.op = opcode::neg, .type = f32}, {300}); }},
      {"it uses a value that is not there: values come before their uses, in the same region or "
       "one around it",
       [](draft& d) {
         const value_id owner = d.push({.op = opcode::branch}, {d.holds});
         const value_id inside = d.push({.op = opcode::neg, .type = f32}, {d.number});
         d.yield({});
         d.yield({});
         d.push({.op = opcode::neg, .type = f32}, {inside});
         static_cast<void>(owner);
       }},
      {"it has another number of operands",
       [](draft& d) { d.push({.op = opcode::add, .type = f32}, {d.number}); }},
      {"an operand has no value",
       [](draft& d) { d.push({.op = opcode::neg, .type = nothing}, {d.store}); }},
      {"an operand has no value",
       [](draft& d) {
         d.push({.op = opcode::fma}, {d.store, d.store, d.store});
       }},
      {"a tile's extents are at least 1",
       [](draft& d) {
         d.push({.op = opcode::iota, .type = of(dtype::int32, {4, 0})});
       }},
      {"a tile has at most 2^24 elements",
       [](draft& d) {
         d.push({.op = opcode::iota, .type = of(dtype::int32, {1 << 30, 1 << 30, 1 << 30})});
       }},
      {"constant: it is a scalar; broadcast it",
       [](draft& d) { d.push({.op = opcode::constant, .type = of(dtype::float32, {4})}); }},
      {"iota: its elements are int32 or int64",
       [](draft& d) { d.push({.op = opcode::iota, .type = of(dtype::float32, {4})}); }},
      {"iota: there is no such axis",
       [](draft& d) { d.push({.op = opcode::iota, .index = 1, .type = of(dtype::int32, {4})}); }},
      {"a grid has the axes 0, 1 and 2",
       [](draft& d) { d.push({.op = opcode::program_id, .index = 3, .type = i64}); }},
      {"a place in the grid is an int64 scalar",
       [](draft& d) { d.push({.op = opcode::grid_size, .type = f32}); }},
      {"extent: no such view among the parameters",
       [](draft& d) { d.push({.op = opcode::extent, .index = 2, .type = i64}); }},
      {"extent: the view has no such axis",
       [](draft& d) { d.push({.op = opcode::extent, .index = 0, .value = 2, .type = i64}); }},
      {"extent: it is an int64 scalar",
       [](draft& d) { d.push({.op = opcode::extent, .type = f32}); }},
      {"argument: no such scalar among the parameters",
       [](draft& d) { d.push({.op = opcode::argument, .index = 0, .type = f32}); }},
      {"argument: its type is the parameter's",
       [](draft& d) { d.push({.op = opcode::argument, .index = 2, .type = f32}); }},
      {"memory: no such view among the parameters",
       [](draft& d) { d.push({.op = opcode::load, .index = 3, .type = f32}); }},
      {"memory: the view is only for reading",
       [](draft& d) {
         d.push({.op = opcode::store}, {d.number, d.index, d.index});
       }},
      {"memory: one place per axis of the view",
       [](draft& d) { d.push({.op = opcode::load, .type = f32}, {d.index}); }},
      {"memory: the tile and the view have different element types; cast",
       [](draft& d) {
         d.push({.op = opcode::load, .type = i64}, {d.index, d.index});
       }},
      {"memory: the tile has more axes than the view",
       [](draft& d) {
         d.push({.op = opcode::store, .index = 1}, {d.rows, d.index});
       }},
      {"memory: offsets are int64 scalars",
       [](draft& d) {
         d.push({.op = opcode::load, .type = f32}, {d.index, d.number});
       }},
      {"memory: indices are int64, scalars or of the tile's extents",
       [](draft& d) {
         d.push({.op = opcode::gather, .type = of(dtype::float32, {4})}, {d.index, d.places});
       }},
      {"memory: what writes has no result",
       [](draft& d) {
         d.push({.op = opcode::atomic_add, .index = 1, .type = f32}, {d.number, d.index});
       }},
  };
  return all;
}

const std::vector<broken>& tiles() {
  static const std::vector<broken> all{
      {"cast: there is no such rounding",
       [](draft& d) { d.push({.op = opcode::cast, .index = 3, .type = i64}, {d.number}); }},
      {"cast: the extents stay",
       [](draft& d) { d.push({.op = opcode::cast, .type = i64}, {d.row}); }},
      {"bitcast: the extents and the size of an element stay",
       [](draft& d) { d.push({.op = opcode::bitcast, .type = i64}, {d.number}); }},
      {"the result has the operand's type",
       [](draft& d) { d.push({.op = opcode::neg, .type = i64}, {d.number}); }},
      {"this function is for floating-point elements; cast",
       [](draft& d) { d.push({.op = opcode::exp, .type = i64}, {d.index}); }},
      {"bit_not: for integers and bool",
       [](draft& d) { d.push({.op = opcode::bit_not, .type = f32}, {d.number}); }},
      {"bool has no sign",
       [](draft& d) { d.push({.op = opcode::neg, .type = boolean}, {d.holds}); }},
      {"two operands of one type; broadcast or cast",
       [](draft& d) {
         d.push({.op = opcode::add, .type = f32}, {d.number, d.index});
       }},
      {"a comparison gives bool",
       [](draft& d) {
         d.push({.op = opcode::less, .type = f32}, {d.number, d.number});
       }},
      {"the result has the operands' type",
       [](draft& d) {
         d.push({.op = opcode::add, .type = i64}, {d.number, d.number});
       }},
      {"this operation is for integers",
       [](draft& d) {
         d.push({.op = opcode::shift_left, .type = f32}, {d.number, d.number});
       }},
      {"this operation is for integers",
       [](draft& d) {
         d.push({.op = opcode::rem, .type = f32}, {d.number, d.number});
       }},
      {"bool knows and, or, xor; cast",
       [](draft& d) {
         d.push({.op = opcode::add, .type = boolean}, {d.holds, d.holds});
       }},
      {"bool knows and, or, xor; cast",
       [](draft& d) {
         d.push({.op = opcode::shift_right, .type = boolean}, {d.holds, d.holds});
       }},
      {"select: a bool tile and two tiles of the result's type, all of one shape",
       [](draft& d) {
         d.push({.op = opcode::select, .type = f32}, {d.number, d.number, d.number});
       }},
      {"fma: three floating-point operands of the result's type",
       [](draft& d) {
         d.push({.op = opcode::fma, .type = i64}, {d.index, d.index, d.index});
       }},
      {"shape: the element type stays",
       [](draft& d) { d.push({.op = opcode::broadcast, .type = i64}, {d.number}); }},
      {"broadcast: each extent is 1 or the result's",
       [](draft& d) {
         d.push({.op = opcode::broadcast, .type = of(dtype::float32, {4, 5})}, {d.row});
       }},
      {"reshape: the number of elements stays",
       [](draft& d) {
         d.push({.op = opcode::reshape, .type = of(dtype::float32, {4, 5})}, {d.row});
       }},
      {"transpose: the result's extents are the operand's, in the order of the axes",
       [](draft& d) {
         d.push({.op = opcode::transpose, .value = 0x01, .type = of(dtype::float32, {4, 2})},
                {d.rows});
       }},
      {"transpose: each axis once",
       [](draft& d) {
         d.push({.op = opcode::transpose, .value = 0x11, .type = of(dtype::float32, {2, 2})},
                {d.rows});
       }},
      {"transpose: each axis once",
       [](draft& d) {
         d.push({.op = opcode::transpose, .value = 0x201, .type = of(dtype::float32, {2, 4})},
                {d.rows});
       }},
      {"split: half 0 or 1 of the last axis, whose extent is even",
       [](draft& d) {
         d.push({.op = opcode::split, .index = 2, .type = of(dtype::float32, {4, 1})}, {d.rows});
       }},
      {"split: other axes stay",
       [](draft& d) {
         d.push({.op = opcode::split, .type = of(dtype::float32, {3, 1})}, {d.rows});
       }},
      {"join: two tiles of one type; the last axis doubles",
       [](draft& d) {
         d.push({.op = opcode::join, .type = of(dtype::float32, {4, 5})}, {d.rows, d.rows});
       }},
      {"join: other axes stay",
       [](draft& d) {
         d.push({.op = opcode::join, .type = of(dtype::float32, {3, 4})}, {d.rows, d.rows});
       }},
      {"unpack_nibbles: int8 or uint8; the last axis doubles",
       [](draft& d) {
         d.push({.op = opcode::unpack_nibbles, .type = of(dtype::float32, {4, 4})}, {d.rows});
       }},
      {"unpack_nibbles: other axes stay",
       [](draft& d) {
         d.push({.op = opcode::unpack_nibbles, .type = of(dtype::int8, {3, 4})}, {d.bytes});
       }},
      {"dot: a[.., M, K], b[.., K, N] and c[.., M, N], of the result's type",
       [](draft& d) {
         d.push({.op = opcode::dot, .type = of(dtype::float32, {4, 2})}, {d.row, d.rows, d.rows});
       }},
      {"dot: the extents of a[.., M, K], b[.., K, N] and c[.., M, N] do not meet",
       [](draft& d) {
         d.push({.op = opcode::dot, .type = of(dtype::float32, {4, 2})}, {d.rows, d.rows, d.rows});
       }},
      {"dot: f32 and narrower floats add up in f32, f64 in f64, int8 in int32",
       [](draft& d) {
         const value_id b = d.like(of(dtype::int8, {2, 2}));
         d.push({.op = opcode::dot, .type = of(dtype::float32, {4, 2})}, {d.bytes, b, d.rows});
       }},
      {"dot_scaled: f32 scales [M, K/32] and [K/32, N], K a multiple of 32, c in f32",
       [](draft& d) {
         const value_id b = d.like(of(dtype::float32, {2, 2}));
         d.push({.op = opcode::dot_scaled, .type = of(dtype::float32, {4, 2})},
                {d.rows, d.row, b, d.row, d.rows});
       }},
      {"random_bits: an int64 seed and int64 counters give int32",
       [](draft& d) {
         d.push({.op = opcode::random_bits, .type = of(dtype::int64, {4, 2})}, {d.index, d.places});
       }},
      {"require: a bool tile", [](draft& d) { d.require_op(d.number); }},
      {"an operand has no value", [](draft& d) { d.push({.op = opcode::print}, {d.store}); }},
      {"it has no value of its own",
       [](draft& d) { d.push({.op = opcode::print, .type = f32}, {d.number}); }},
  };
  return all;
}

/// A reduction of `d.row` up to its first input.
value_id begin_sum(draft& d) {
  const value_id owner = d.push({.op = opcode::reduce}, {d.row});
  d.input(0, f32);
  d.input(1, f32);
  return owner;
}

const std::vector<broken>& regions() {
  static const std::vector<broken> all{
      {"its regions are not ended by a yield", [](draft& d) { begin_sum(d); }},
      {"a region begins with all its inputs",
       [](draft& d) {
         d.push({.op = opcode::reduce}, {d.row});
         d.yield({d.number});
       }},
      {"region_input: there is no region here", [](draft& d) { d.input(0, f32); }},
      {"region_input: they come first in a region, in order, as many as it has",
       [](draft& d) {
         begin_sum(d);
         d.input(2, f32);
       }},
      {"region_input: its type is that of what is carried, or the scalar of what is reduced",
       [](draft& d) {
         d.push({.op = opcode::reduce}, {d.row});
         d.input(0, i64);
       }},
      {"region_input: its type is that of what is carried, or the scalar of what is reduced",
       [](draft& d) {
         d.push({.op = opcode::loop}, {d.index, d.index, d.index, d.row});
         d.input(0, f32);
       }},
      {"an instruction with regions has results, not a value",
       [](draft& d) { d.push({.op = opcode::reduce, .type = f32}, {d.row}); }},
      {"branch: it asks a bool scalar",
       [](draft& d) { d.push({.op = opcode::branch}, {d.number}); }},
      {"loop: first, end and step are int64 scalars",
       [](draft& d) {
         d.push({.op = opcode::loop}, {d.index, d.index});
       }},
      {"reduce, scan: there is no such axis",
       [](draft& d) { d.push({.op = opcode::reduce, .index = 1}, {d.row}); }},
      {"reduce, scan: there is no such axis", [](draft& d) { d.push({.op = opcode::scan}, {}); }},
      {"reduce, scan: all operands have the same extents",
       [](draft& d) {
         d.push({.op = opcode::reduce}, {d.row, d.rows});
       }},
      {"regions are nested deeper than 16",
       [](draft& d) {
         for (int k = 0; k < 17; ++k) {
           d.push({.op = opcode::branch}, {d.holds});
         }
       }},
      {"yield: there is no region to end", [](draft& d) { d.yield({}); }},
      {"yield: it has no value of its own",
       [](draft& d) {
         begin_sum(d);
         d.push({.op = opcode::yield, .type = f32}, {d.number});
       }},
      {"repeat: its first region gives one bool scalar",
       [](draft& d) {
         d.push({.op = opcode::repeat}, {d.row});
         d.input(0, of(dtype::float32, {4}));
         d.yield({d.number});
       }},
      {"yield: an operand has no value",
       [](draft& d) {
         d.push({.op = opcode::branch}, {d.holds});
         d.yield({d.store});
       }},
      {"branch: both regions give the same types",
       [](draft& d) {
         d.push({.op = opcode::branch}, {d.holds});
         d.yield({d.number});
         d.yield({d.index});
       }},
      {"yield: it gives one value for each that is carried, of its type",
       [](draft& d) {
         begin_sum(d);
         d.yield({d.index});
       }},
      {"yield: it gives one value for each that is carried, of its type",
       [](draft& d) {
         begin_sum(d);
         d.yield({});
       }},
      {"result: its operand is an instruction whose regions have ended",
       [](draft& d) { d.push({.op = opcode::result, .type = f32}, {d.number}); }},
      {"result: its operand is an instruction whose regions have ended",
       [](draft& d) {
         const value_id owner = begin_sum(d);
         d.push({.op = opcode::result, .type = f32}, {owner});
       }},
      {"result: there is no such result",
       [](draft& d) {
         const value_id owner = begin_sum(d);
         d.yield({d.number});
         d.push({.op = opcode::result, .index = 1, .type = f32}, {owner});
       }},
      {"result: its type is that of what was given",
       [](draft& d) {
         const value_id owner = begin_sum(d);
         d.yield({d.number});
         d.push({.op = opcode::result, .type = of(dtype::float32, {4})}, {owner});
       }},
  };
  return all;
}

/// Rules that ask for several things at once: each program lacks one of them.
const std::vector<broken>& one_of_several() {
  constexpr std::string_view no_axis = "iota: there is no such axis";
  constexpr std::string_view no_view = "memory: no such view among the parameters";
  constexpr std::string_view other_element =
      "memory: the tile and the view have different element types; cast";
  constexpr std::string_view offsets = "memory: offsets are int64 scalars";
  constexpr std::string_view indices =
      "memory: indices are int64, scalars or of the tile's extents";
  constexpr std::string_view same_bits = "bitcast: the extents and the size of an element stay";
  constexpr std::string_view selects =
      "select: a bool tile and two tiles of the result's type, all of one shape";
  constexpr std::string_view fused = "fma: three floating-point operands of the result's type";
  constexpr std::string_view turned =
      "transpose: the result's extents are the operand's, in the order of the axes";
  constexpr std::string_view halves = "split: half 0 or 1 of the last axis, whose extent is even";
  constexpr std::string_view doubled = "join: two tiles of one type; the last axis doubles";
  constexpr std::string_view nibbles = "unpack_nibbles: int8 or uint8; the last axis doubles";
  constexpr std::string_view matrices =
      "dot: a[.., M, K], b[.., K, N] and c[.., M, N], of the result's type";
  constexpr std::string_view meeting =
      "dot: the extents of a[.., M, K], b[.., K, N] and c[.., M, N] do not meet";
  constexpr std::string_view elements =
      "dot: f32 and narrower floats add up in f32, f64 in f64, int8 in int32";
  constexpr std::string_view scaled =
      "dot_scaled: f32 scales [M, K/32] and [K/32, N], K a multiple of 32, c in f32";
  constexpr std::string_view bits = "random_bits: an int64 seed and int64 counters give int32";
  constexpr std::string_view places = "loop: first, end and step are int64 scalars";
  const auto op = [](const instruction& i, auto... x) {
    return [=](draft& d) { d.push(i, {d.*x...}); };
  };
  const auto dot = [](const tile_type& a, const tile_type& b, const tile_type& c,
                      const tile_type& result) {
    return [=](draft& d) {
      const value_id x = d.like(a);
      const value_id y = d.like(b);
      const value_id z = d.like(c);
      d.push({.op = opcode::dot, .type = result}, {x, y, z});
    };
  };
  const auto dots = [](const tile_type& a, const tile_type& sa, const tile_type& b,
                       const tile_type& sb, const tile_type& c) {
    return [=](draft& d) {
      const value_id x = d.like(a);
      const value_id scale_x = d.like(sa);
      const value_id y = d.like(b);
      const value_id scale_y = d.like(sb);
      const value_id z = d.like(c);
      d.push({.op = opcode::dot_scaled, .type = c}, {x, scale_x, y, scale_y, z});
    };
  };
  constexpr dtype f = dtype::float32;
  const auto m = [](std::initializer_list<std::int32_t> e) { return of(f, e); };
  static const std::vector<broken> all{
      {no_axis, op({.op = opcode::iota, .index = -1, .type = of(dtype::int32, {4})})},
      {"a grid has the axes 0, 1 and 2",
       op({.op = opcode::grid_size, .index = -1, .type = i64})},
      {"extent: no such view among the parameters",
       op({.op = opcode::extent, .index = -1, .type = i64})},
      {"extent: no such view among the parameters",
       op({.op = opcode::extent, .index = 3, .type = i64})},
      {"extent: the view has no such axis",
       op({.op = opcode::extent, .index = 0, .value = -1, .type = i64})},
      {"argument: no such scalar among the parameters",
       op({.op = opcode::argument, .index = 3, .type = i64})},
      {no_view, op({.op = opcode::load, .index = -1, .type = f32})},
      {no_view, op({.op = opcode::load, .index = 2, .type = f32})},  // a scalar
      {"memory: one place per axis of the view", op({.op = opcode::store, .index = 1})},
      {other_element, op({.op = opcode::load, .index = 0}, &draft::index, &draft::index)},
      {other_element, op({.op = opcode::scatter, .index = 1}, &draft::bytes, &draft::index)},
      {"memory: the view is only for reading",
       op({.op = opcode::scatter}, &draft::row, &draft::index, &draft::index)},
      {"memory: the tile has more axes than the view",
       op({.op = opcode::load, .type = m({2, 2, 2})}, &draft::index, &draft::index)},
      {offsets, op({.op = opcode::load, .type = m({4, 2})}, &draft::index, &draft::places)},
      {offsets, op({.op = opcode::store, .index = 1}, &draft::row, &draft::number)},
      {indices, op({.op = opcode::gather, .type = m({4, 2})}, &draft::index, &draft::rows)},
      {indices, op({.op = opcode::scatter, .index = 1}, &draft::row, &draft::places)},
      {indices, op({.op = opcode::atomic_max, .index = 1}, &draft::row, &draft::row)},
      {"cast: there is no such rounding",
       op({.op = opcode::cast, .index = -1, .type = i64}, &draft::number)},
      {same_bits, op({.op = opcode::bitcast, .type = of(dtype::int32, {4})}, &draft::rows)},
      {"the result has the operand's type",
       op({.op = opcode::exp, .type = m({4})}, &draft::number)},
      {"bool has no sign", op({.op = opcode::abs, .type = boolean}, &draft::holds)},
      {"two operands of one type; broadcast or cast",
       op({.op = opcode::add, .type = m({4})}, &draft::row, &draft::number)},
      {"a comparison gives bool",
       op({.op = opcode::less, .type = boolean}, &draft::row, &draft::row)},
      {"this operation is for integers",
       op({.op = opcode::bit_xor, .type = f32}, &draft::number, &draft::number)},
      {selects, op({.op = opcode::select, .type = f32}, &draft::holds, &draft::number,
                   &draft::index)},
      {selects, op({.op = opcode::select, .type = m({4})}, &draft::holds, &draft::row,
                   &draft::row)},
      {selects, op({.op = opcode::select, .type = i64}, &draft::holds, &draft::number,
                   &draft::number)},
      {fused, op({.op = opcode::fma, .type = m({4})}, &draft::row, &draft::number, &draft::row)},
      {fused, op({.op = opcode::fma, .type = m({4})}, &draft::row, &draft::row, &draft::number)},
      {fused, op({.op = opcode::fma, .type = m({4, 2})}, &draft::row, &draft::row, &draft::row)},
      {"shape: the element type stays", op({.op = opcode::reshape}, &draft::row)},
      {"broadcast: each extent is 1 or the result's",
       op({.op = opcode::broadcast, .type = m({2})}, &draft::rows)},
      {turned, op({.op = opcode::transpose, .value = 0x21, .type = m({2, 4})}, &draft::rows)},
      {turned, op({.op = opcode::transpose, .value = 0x10, .type = m({4, 2, 1})}, &draft::rows)},
      {halves, op({.op = opcode::split, .type = f32}, &draft::number)},
      {halves, op({.op = opcode::split, .type = m({2})}, &draft::rows)},
      {halves, op({.op = opcode::split, .index = -1, .type = m({4, 1})}, &draft::rows)},
      {halves,
       [=](draft& d) {
         const value_id odd = d.like(m({3}));
         d.push({.op = opcode::split, .type = m({1})}, {odd});
       }},
      {doubled, op({.op = opcode::join, .type = m({4, 4})}, &draft::rows, &draft::row)},
      {doubled, op({.op = opcode::join, .type = m({2})}, &draft::number, &draft::number)},
      {doubled, op({.op = opcode::join, .type = m({2, 4})}, &draft::row, &draft::row)},
      {nibbles, op({.op = opcode::unpack_nibbles, .type = of(dtype::int8, {4, 3})},
                   &draft::bytes)},
      {nibbles, op({.op = opcode::unpack_nibbles, .type = of(dtype::int8, {4})}, &draft::bytes)},
      {nibbles,
       [](draft& d) {
         const value_id x = d.like(tile::scalar_type(dtype::uint8));
         d.push({.op = opcode::unpack_nibbles, .type = of(dtype::uint8, {2})}, {x});
       }},
      {matrices, dot(m({1, 1, 4, 2}), m({1, 1, 2, 2}), m({1, 1, 4, 2}), m({1, 1, 4, 2}))},
      {matrices, dot(m({4, 2}), m({1, 2, 2}), m({4, 2}), m({4, 2}))},
      {matrices, dot(m({4, 2}), m({2, 2}), m({1, 4, 2}), m({1, 4, 2}))},
      {matrices, dot(m({4, 2}), m({2, 2}), m({4, 2}), m({4, 3}))},
      {meeting, dot(m({4, 2}), m({2, 2}), m({3, 2}), m({3, 2}))},  // M
      {meeting, dot(m({4, 2}), m({2, 2}), m({4, 3}), m({4, 3}))},  // N
      {meeting, dot(m({4, 2}), m({3, 2}), m({4, 2}), m({4, 2}))},  // K
      {meeting, dot(m({1, 4, 2}), m({3, 2, 2}), m({3, 4, 2}), m({3, 4, 2}))},  // batches
      {meeting, dot(m({3, 4, 2}), m({1, 2, 2}), m({3, 4, 2}), m({3, 4, 2}))},
      {elements, dot(m({4, 2}), of(dtype::bfloat16, {2, 2}), m({4, 2}), m({4, 2}))},
      {elements, dot(of(dtype::int32, {4, 2}), of(dtype::int32, {2, 2}), of(dtype::int32, {4, 2}),
                     of(dtype::int32, {4, 2}))},
      {scaled, dots(m({4, 33}), m({4, 1}), m({33, 2}), m({1, 2}), m({4, 2}))},
      {scaled, dots(m({4, 32}), m({4, 2}), m({32, 2}), m({1, 2}), m({4, 2}))},
      {scaled, dots(m({4, 32}), m({4, 1}), m({32, 2}), m({2, 2}), m({4, 2}))},
      {scaled, dots(m({1, 4, 32}), m({4, 1}), m({1, 32, 2}), m({1, 2}), m({1, 4, 2}))},
      {scaled, dots(of(dtype::int8, {4, 32}), m({4, 1}), of(dtype::int8, {32, 2}), m({1, 2}),
                    of(dtype::int32, {4, 2}))},
      {bits, op({.op = opcode::random_bits, .type = of(dtype::int32, {4, 2})}, &draft::number,
                &draft::places)},
      {bits, op({.op = opcode::random_bits, .type = of(dtype::int32, {4, 2})}, &draft::index,
                &draft::rows)},
      {bits, op({.op = opcode::random_bits, .type = of(dtype::int32, {4})}, &draft::index,
                &draft::places)},
      {places, op({.op = opcode::loop}, &draft::number, &draft::index, &draft::index)},
      {places, op({.op = opcode::loop}, &draft::index, &draft::number, &draft::index)},
      {places, op({.op = opcode::loop}, &draft::index, &draft::index, &draft::places)},
      {"reduce, scan: there is no such axis",
       op({.op = opcode::reduce, .index = -1}, &draft::row)},
      {"branch: it asks a bool scalar",
       [](draft& d) {
         d.push({.op = opcode::branch}, {d.like(of(dtype::boolean, {4}))});
       }},
      {"region_input: its type is that of what is carried, or the scalar of what is reduced",
       [](draft& d) {
         d.push({.op = opcode::loop}, {d.index, d.index, d.index});
         d.input(0, f32);
       }},
      {"repeat: its first region gives one bool scalar",
       [=](draft& d) {
         d.push({.op = opcode::repeat}, {d.row});
         d.input(0, m({4}));
         d.yield({d.holds, d.holds});
       }},
      {"branch: both regions give the same types",
       [](draft& d) {
         d.push({.op = opcode::branch}, {d.holds});
         d.yield({d.number});
         d.yield({});
       }},
      {"result: there is no such result",
       [](draft& d) {
         const value_id owner = begin_sum(d);
         d.yield({d.number});
         d.push({.op = opcode::result, .index = -1, .type = f32}, {owner});
       }},
  };
  return all;
}

// Random programs can be made by the compiler, for chips that want them as constants.
template <std::uint64_t Seed>
constexpr tile::program by_compiler = tile_test::random_program(Seed, tile_test::everything());
static_assert(tile::verify(by_compiler<6>));

std::set<std::string> tripped;

void check(const std::vector<broken>& all) {
  for (const broken& b : all) {
    draft d;
    REQUIRE(tile::verify(d.p));
    b.write(d);
    const tile::verdict v = tile::verify(d.p);
    CHECK(v.rule == b.rule);
    tripped.insert(std::string(v.rule));
    const bool of_the_whole = v.instruction < 0;
    CHECK((of_the_whole || v.instruction < d.p.size));
    CHECK_THROWS_AS(tile::expect_valid(d.p), tile::program_error);
  }
}

}  // namespace

TEST_CASE("tile/verify: leaves and memory") { check(leaves_and_memory()); }
TEST_CASE("tile/verify: operations on tiles") { check(tiles()); }
TEST_CASE("tile/verify: regions") { check(regions()); }
TEST_CASE("tile/verify: each part of a rule that has several") { check(one_of_several()); }

TEST_CASE("tile/verify: every sentence of the rules is tripped by a program of this file") {
  check(leaves_and_memory());
  check(tiles());
  check(regions());
  // A verifier sees to inputs itself; only a builder asks the rule of one instruction.
  try {
    tile::builder b("b");
    b.emit({.op = opcode::region_input, .index = -1, .type = f32});
    FAIL("no rule broken");
  } catch (const tile::program_error& e) {
    tripped.insert(std::string(e.rule));
  }
  const char* source = std::getenv("ASHLAR_SOURCE");
  if (source == nullptr) {
    MESSAGE("skipped: ASHLAR_SOURCE does not say where the headers are");
    return;
  }
  int found = 0;
  for (const char* header : {"rules", "verify"}) {
    std::ifstream file(std::string(source) + "/include/ashlar/tile/" + header + ".hpp");
    std::stringstream text;
    text << file.rdbuf();
    // Comments and includes go; literals with only blanks between them are one.
    std::string code = std::regex_replace(text.str(), std::regex("(//|#include)[^\n]*"), "");
    code = std::regex_replace(code, std::regex("\"\\s*\""), "");
    const std::regex literal("\"([^\"]*)\"");
    for (std::sregex_iterator at(code.begin(), code.end(), literal), end; at != end; ++at) {
      ++found;
      const std::string sentence = (*at)[1];
      CAPTURE(sentence);
      CHECK(tripped.contains(sentence));
    }
  }
  CHECK(found > 60);
}

TEST_CASE("tile/verify: a program of one instruction too many says so") {
  draft d;
  while (d.p.size < tile::program::max_instructions) {
    d.push({.op = opcode::constant, .type = f32});
  }
  CHECK(tile::verify(d.p));
  CHECK_THROWS_AS(d.push({.op = opcode::constant, .type = f32}), tile::program_error);
  tile::program p{};
  const std::vector<value_id> many(256, 0);
  CHECK_THROWS_AS(p.push({.op = opcode::yield}, many), tile::program_error);
  CHECK(p.size == 0);
}

TEST_CASE("tile/verify: a random program is the same from the compiler and at run time") {
  const auto same = []<std::uint64_t... Seed>(std::integer_sequence<std::uint64_t, Seed...>) {
    return ((tile_test::random_program(Seed, tile_test::everything()) == by_compiler<Seed>)&&...);
  };
  CHECK(same(std::make_integer_sequence<std::uint64_t, 20>{}));
}

// No pass may trust what it was given: whatever the fields hold, the answer is a sentence.
TEST_CASE("tile/verify: damaged programs are refused or well, never read out of bounds") {
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    tile::program p = tile_test::random_program(seed % 50);
    tile_test::dice d(seed);
    for (int k = d.between(1, 3); k > 0; --k) {
      instruction& i = p.at(d.between(0, p.size - 1));
      switch (d.between(0, 6)) {
        case 0:
          i.op = static_cast<opcode>(d.between(0, 70));
          break;
        case 1:
          i.index = d.between(-2, 1000);
          break;
        case 2:
          i.count = static_cast<std::uint8_t>(d.between(0, 255));
          break;
        case 3:
          i.first = static_cast<std::uint16_t>(d.between(0, 65535));
          break;
        case 4:
          i.type.rank = static_cast<std::int8_t>(d.between(-128, 127));
          break;
        case 5:
          i.type.extents[static_cast<std::size_t>(d.between(0, 3))] = d.between(-5, 1 << 30);
          break;
        default:
          p.operand_list[static_cast<std::size_t>(d.between(0, p.operand_count - 1))] =
              static_cast<value_id>(d.between(-32768, 32767));
      }
    }
    const tile::verdict v = tile::verify(p);
    refused += v ? 0 : 1;
  }
  CHECK(refused > 1000);
}

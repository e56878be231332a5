// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/parse.hpp"
#include "ashlar/tile/print.hpp"
#include "support/tile_random.hpp"

namespace tile = ashlar::tile;
using ashlar::dtype;
using tile::opcode;
using tile::value_id;

namespace {

constexpr std::string_view row_sums = R"(kernel "row_sums"(p0: f32[?, ?], p1: f32[?] written) {
  %0 = program_id axis=0 : i64
  %1 = constant 0 : i64
  %2 = load p0, %0, %1, else=-0.5 : f32[64]
  %3 = reduce %2, axis=0 (%4: f32, %5: f32) {
    %6 = add %4, %5 : f32
    yield %6
  }
  %8 = result %3, number=0 : f32
  store p1, %8, %0
}
)";

/// The error with which a text is refused; line 0 where it is not.
tile::parse_error refusal(std::string_view text) {
  try {
    tile::parse(text);
  } catch (const tile::parse_error& e) {
    return e;
  }
  return {0, 0, "", ""};
}

/// A text around one line, which is line 5.
tile::parse_error refused_line(const std::string& line) {
  return refusal(std::string("kernel \"k\"(p0: f32[?], p1: i64) {\n  %i = argument p1 : i64\n") +
                 std::string("  %x = constant 1 : f32\n  %t = broadcast %x : f32[4, 2]\n  ") +
                 line + "\n}\n");
}

}  // namespace

TEST_CASE("tile/text: what is printed is what was parsed") {
  const tile::program p = tile::parse(row_sums);
  CHECK(p.name() == "row_sums");
  CHECK(p.size == 10);
  CHECK(p.parameter_at(1).written);
  CHECK(p.at(2).value == tile::constant_bits(-0.5));
  CHECK(tile::print(p) == row_sums);
}

TEST_CASE("tile/text: names may be any, comments and blanks do not count") {
  const tile::program p = tile::parse(
      "kernel \"row_sums\" ( x : f32[?,?] , y:f32[?]written ){// sums\n"
      "%row=program_id axis=0:i64 %zero = constant 0 : i64\n"
      "%tile = load x, %row, %zero, else = -5e-1 : f32[64]\r\n"
      "%s = reduce %tile, axis=0 (%a: f32, %b: f32) { %sum = add %a, %b : f32\n yield %sum }\n"
      "\t%total = result %s, number=0 : f32\n\n  store y, %total, %row }");
  CHECK(p == tile::parse(row_sums));
}

TEST_CASE("tile/text: random programs come back as they were") {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const tile::program p = tile_test::random_program(
        seed, tile_test::everything({.speech = true, .moves = static_cast<int>(seed % 40)}));
    const std::string text = tile::print(p);
    CAPTURE(seed);
    REQUIRE(tile::parse(text) == p);
  }
}

TEST_CASE("tile/text: constants come back bit by bit") {
  tile_test::dice d(1);
  std::vector<std::pair<dtype, std::int64_t>> all;
  using limits = std::numeric_limits<double>;
  for (const double x : {0.0, -0.0, 0.1, 1e300, limits::max(), limits::min(), limits::denorm_min(),
                         limits::infinity(), -limits::infinity(), limits::quiet_NaN(),
                         static_cast<double>(0.1f), 123456789.0, 1e-7}) {
    all.emplace_back(dtype::float32, tile::constant_bits(x));
    all.emplace_back(dtype::bfloat16, tile::constant_bits(-x));
  }
  for (int k = 0; k < 300; ++k) {
    const auto bits = static_cast<std::int64_t>(d.bits());
    all.emplace_back(dtype::float64, bits);
    all.emplace_back(dtype::int64, bits);
    all.emplace_back(dtype::boolean, bits % 3);
    all.emplace_back(dtype::float64, bits | 0x7ff0000000000001);  // NaNs of any payload
  }
  for (const auto& [element, bits] : all) {
    tile::builder b("constants");
    b.emit({.op = opcode::constant, .value = bits, .type = tile::scalar_type(element)});
    const std::string text = tile::print(b.finish());
    CAPTURE(text);
    CHECK(tile::parse(text).at(0).value == bits);
  }
}

TEST_CASE("tile/text: every name of a kernel comes back") {
  std::string name = "a \"b\" \\ \n\t\x01\xff%{}";
  tile::builder b(name);
  const tile::program p = b.finish();
  CHECK(tile::parse(tile::print(p)).name() == name);
  CHECK(refusal("kernel \"a\\x00b\"() {}").line == 1);
  CHECK(refusal("kernel \"0123456789012345678901234567890\"() {}").line == 0);
  CHECK(refusal("kernel \"01234567890123456789012345678901\"() {}").line == 1);
  CHECK(tile::parse("kernel \"\"() {}").size == 0);
}

TEST_CASE("tile/text: an error names line, column, what stands there and what could") {
  const tile::parse_error e = refused_line("%y = add %x, %z : f32");
  CHECK(e.line == 5);
  CHECK(e.column == 16);
  CHECK(e.token == "%z");
  CHECK(e.expected == "a value that is named before");
  CHECK(std::string_view(e.what()) ==
        "ashlar::tile::parse: 5:16: `%z`; expected a value that is named before");
  // A rule of the IR, at the operation that breaks it.
  const tile::parse_error rule = refused_line("%y = add %x, %i : f32");
  CHECK(rule.line == 5);
  CHECK(rule.token == "add");
  CHECK(rule.expected == "two operands of one type; broadcast or cast");
}

TEST_CASE("tile/text: what is wrong is refused where it stands") {
  struct wrong {
    std::string line, token, expected;
  };
  const std::vector<wrong> all{
      {"%y = wonder %x : f32", "wonder", "an operation"},
      {"%y = region_input index=0 : f32", "region_input", "an operation"},
      {"%x = neg %x : f32", "%x", "a name that is not used before"},
      {"neg %x : f32", "neg", "`%name =` before this operation"},
      {"%y = store p0, %x, %i", "store", "an operation that gives a value"},
      {"%y = neg %x", "}", "`:`"},
      {"%y = neg %x : f33", "f33", "an element type"},
      {"%y = neg %x : f32[0]", "0", "an integer from 1 to 16777216"},
      {"%y = neg %x : f32[4", "}", "`]`"},
      {"%y = neg %x : f32[1, 1, 1, 1, 1]", "1", "at most 4 extents"},
      {"%y = neg %x, : f32", ":", "a value, a parameter or an attribute"},
      {"%y = neg p0 : f32", "p0", "a value, an attribute or, in its place, a parameter"},
      {"%y = load p9, %i : f32", "p9", "a value, an attribute or, in its place, a parameter"},
      {"%y = load %i : f32", "load", "a parameter after this operation"},
      {"%y = load p0, p0, %i : f32", "p0", "a value, an attribute or, in its place, a parameter"},
      {"%y = constant : f32", "constant", "a number after this operation"},
      {"%y = constant 1, 2 : f32", "2", "one number"},
      {"%y = constant 1e999 : f32", "1e999", "a number"},
      {"%y = constant 1.5 : i32", "1.5",
       "an integer from -9223372036854775808 to 9223372036854775807"},
      {"%y = constant true : f32", "true", "a number"},
      {"%y = constant nan(0x1) : f32", "0x1", "0x and the bits of a NaN"},
      {"%y = constant 1x : f32", "1x", "a number"},
      {"%y = iota axis=0, axis=0 : i32[4]", "axis", "an attribute of this operation, once"},
      {"%y = iota axle=0 : i32[4]", "axle", "an attribute of this operation, once"},
      {"%y = iota axis=3000000000 : i32[4]", "3000000000",
       "an integer from -2147483648 to 2147483647"},
      {"%y = cast %x, rounding=up : f16", "up", "nearest_even, toward_zero or saturating"},
      {"%y = transpose %t, axes=[1, 0, 2] : f32[2, 4]", "[", "as many axes as the result has"},
      {"%y = transpose %t, axes=[1, 9] : f32[2, 4]", "9", "an integer from 0 to 3"},
      {"%y = reduce %t, axis=0 (%a: f32, %b: f32) yield %a", "yield", "`{`"},
      {"%y = reduce %t, axis=0 (%a: f32, 1) { yield %a }", "1", "a value's name"},
      {"%y = add %x, $ : f32", "$", "a value, a parameter or an attribute"},
      {"yield", "yield", "yield: there is no region to end"},
      {"%y = reduce %t, axis=0 { yield %x }", "yield", "a region begins with all its inputs"},
  };
  for (const wrong& w : all) {
    CAPTURE(w.line);
    const tile::parse_error e = refused_line(w.line);
    CHECK(e.line >= 5);
    CHECK(e.token == w.token);
    CHECK(e.expected == w.expected);
  }
  CHECK(refusal("").expected == "`kernel`");
  CHECK(refusal("kernel k() {}").expected == "the kernel's name in \"\"");
  CHECK(refusal("kernel \"k").expected == "a string that ends with \"");
  CHECK(refusal("kernel \"\\n\"() {}").expected == "\\x and two hexadecimal digits");
  CHECK(refusal("kernel \"k\"() {").expected == "an operation");
  CHECK(refusal("kernel \"k\"() {} }").expected == "the end of the text");
  CHECK(refusal("kernel \"k\"(p: f32, p: f32) {}").expected ==
        "a parameter's name, not used before");
  CHECK(refusal("kernel \"k\"(p: f32[?, ?, ?, ?, ?]) {}").expected == "at most 4 axes");
  std::string many = "kernel \"k\"(p0: f32";
  for (int k = 1; k <= 16; ++k) {
    many += std::string(", p") + std::to_string(k) + ": f32";
  }
  CHECK(refusal(many + ") {}").expected == "at most 16 parameters");
}

TEST_CASE("tile/text: depth and length have limits") {
  std::string deep = "kernel \"k\"() {\n%c = constant true : bool\n";
  for (int k = 0; k < 100000; ++k) {
    deep += "branch %c {\n";
  }
  CHECK(refusal(deep).expected == "regions nested at most 16 deep");
  std::string long_text = "kernel \"k\"() {\n";
  for (int k = 0; k < 385; ++k) {
    long_text += std::string("%v") + std::to_string(k) + " = constant 0 : f32\n";
  }
  CHECK(refusal(long_text + "}").line == 386);
  std::string wide = "kernel \"k\"() {\n%c = constant 0 : i64\nyield %c";
  for (int k = 0; k < 300; ++k) {
    wide += ", %c";
  }
  CHECK(refusal(wide + "}").line == 3);
}

TEST_CASE("tile/text: damaged text is refused or is a program that comes back") {
  std::vector<std::string> texts{std::string(row_sums)};
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    texts.push_back(tile::print(
        tile_test::random_program(seed, tile_test::everything({.speech = true, .moves = 6}))));
  }
  constexpr std::array<std::string_view, 24> words{
      "%1", "p0",    "kernel", "yield", "}",       "{",   "(",    ")",  "[",  "]", ",", ":",
      "-1", "1e400", "nan",    "inf",   "axis=99", "i64", "f32[", "0x", "\"", "=", "?", "result"};
  tile_test::dice d(7);
  int refused = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string text =
        texts[static_cast<std::size_t>(d.between(0, static_cast<int>(texts.size()) - 1))];
    for (int k = d.between(1, 3); k > 0; --k) {
      const auto at = static_cast<std::size_t>(d.between(0, static_cast<int>(text.size()) - 1));
      switch (d.between(0, 5)) {
        case 0:
          text[at] = static_cast<char>(d.between(0, 255));
          break;
        case 1:
          text.erase(at, static_cast<std::size_t>(d.between(1, 12)));
          break;
        case 2:
          text.insert(at, words[static_cast<std::size_t>(d.between(0, 23))]);
          break;
        case 3:
          text.insert(at, text.substr(at, static_cast<std::size_t>(d.between(1, 40))));
          break;
        case 4:
          text[at] =
              text[static_cast<std::size_t>(d.between(0, static_cast<int>(text.size()) - 1))];
          break;
        default:
          text.resize(std::max<std::size_t>(at, 1));
      }
      if (text.empty()) {
        text.push_back(' ');
      }
    }
    try {
      const tile::program p = tile::parse(text);
      REQUIRE(tile::parse(tile::print(p)) == p);
    } catch (const tile::parse_error& e) {
      ++refused;
      REQUIRE(e.line > 0);
      REQUIRE(e.column > 0);
    }
  }
  CHECK(refused > 3000);
}

TEST_CASE("tile/text: programs that break rules are shown, too") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    tile::program p = tile_test::random_program(seed % 10);
    tile_test::dice d(seed);
    tile::instruction& i = p.at(d.between(0, p.size - 1));
    i.op = static_cast<opcode>(d.between(0, 255));
    i.first = static_cast<std::uint16_t>(d.between(0, 65535));
    i.type.rank = static_cast<std::int8_t>(d.between(-128, 127));
    i.type.element = static_cast<dtype>(d.between(0, 255));
    CHECK(!tile::print(p).empty());
  }
}

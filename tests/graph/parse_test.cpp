// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/parse.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "ashlar/graph/eager.hpp"
#include "graph/text_samples.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using text_samples::real;

TEST_CASE("graph/parse: a text is its graph and the graph its text") {
  const graph::graph g = text_samples::sample();
  const std::string text = to_text(g);
  CAPTURE(text);
  const graph::graph h = graph::parse(text, graph::vocabulary::of(g), graph::tensors_of(g));
  verify(h);
  CHECK(to_text(h) == text);
  REQUIRE(h.nodes.size() == g.nodes.size());
  REQUIRE(h.values.size() == g.values.size());
  CHECK(h.outputs == g.outputs);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    CHECK(h.nodes[i].kind == g.nodes[i].kind);
    CHECK(h.nodes[i].op == g.nodes[i].op);
    CHECK(h.nodes[i].in == g.nodes[i].in);
    CHECK(h.nodes[i].out == g.nodes[i].out);
    CHECK(h.nodes[i].attributes == g.nodes[i].attributes);
    CHECK(h.nodes[i].data.body() == g.nodes[i].data.body());
  }
  for (std::size_t v = 0; v < g.values.size(); ++v) {
    CHECK(h.values[v].spec == g.values[v].spec);
  }
}

TEST_CASE("graph/parse: a graph written by hand runs") {
  const auto words = graph::vocabulary::learn(
      [](const auto& x) { return al::scale(al::mul(al::add(x, x), x), 2.0); }, al::ones<real>({1}));
  const graph::graph g = graph::parse(
      "// y = 3 (a + b)\n\n"
      "%a = placeholder : f32[2]\r\n"
      "  %b = placeholder \"right\" : f32[2]  // the other\n"
      "%1=add %a,%b:f32[2]\n"
      "%2 = scale %1, 3, 0.0 : f32[2]\n"
      "return %2\n\n",
      words);
  CHECK(g.nodes[1].name == "right");
  const real a = al::from_values<real>({2}, {1, 2});
  const real b = al::from_values<real>({2}, {10, 20});
  CHECK(al::to_vector(real(graph::eager{}.compile(g)(a, b)[0])) == std::vector<float>{33, 66});
}

TEST_CASE("graph/parse: parameters are the tensors of their names, type and shape") {
  const real w = al::ones<real>({2});
  const real v = al::ones<real>({3});
  const graph::named_tensors both{{"w", w}, {"w", v}};
  const graph::graph g = graph::parse(
      "%w = parameter : f32[3]\n%u = constant \"w\" : f32[2]\nreturn %w, %u", {}, both);
  CHECK(g.nodes[0].data.body() == v.body());
  CHECK(g.nodes[1].data.body() == w.body());
}

TEST_CASE("graph/parse: an operation that two chips have is not guessed") {
  graph::vocabulary words;
  for (const char* chip : {"left", "right", "left"}) {
    words.add(std::make_shared<text_samples::halves>(chip));
  }
  CHECK(words.size() == 2);
  const std::string text =
      "%x = placeholder : f32[4]\n%a, %b = \"cut \\\"in\\\" two\" %x : f32[2], f32[2]\nreturn %b";
  try {
    static_cast<void>(graph::parse(text, words));
    FAIL("it was read");
  } catch (const graph::parse_error& e) {
    CHECK(e.line == 2);
    CHECK(e.reason.find("for the chips left and right") != std::string::npos);
  }
}

namespace {

/// What a vocabulary with `add`, `scale.in_place` and `select` on f32 is asked to read, and where
/// and why it does not.
struct bad {
  std::string_view text;
  int line, column;
  std::string_view reason;  ///< a part of it
};
constexpr bad bads[]{
    {"", 1, 1, "should stand here"},
    {"%", 1, 1, "a name should follow %"},
    {"%a", 1, 3, "`=` should stand here"},
    {"%a =", 1, 5, "should stand here"},
    {"%a = placeholder", 1, 17, "`:` should stand here"},
    {"%a = placeholder :", 1, 19, "an element type"},
    {"%a = placeholder : f33[2]", 1, 20, "an element type"},
    {"%a = placeholder : f32", 1, 23, "`[` should stand here"},
    {"%a = placeholder : f32[2", 1, 25, "`,` should stand here"},
    {"%a = placeholder : f32[2,]", 1, 26, "a whole number"},
    {"%a = placeholder : f32[-2]", 1, 20, "negative extent"},
    {"%a = placeholder : f32[9223372036854775808]", 1, 24, "a whole number"},
    {"%a = placeholder : f32[9223372036854775807, 4]", 1, 20, "more elements than memory"},
    {"%a = placeholder : f32[1, 1, 1, 1, 1, 1, 1, 1, 1]", 1, 48, "at most 8"},
    {"%a = placeholder : f32[2] strides [1, 1]", 1, 20, "a stride for each extent"},
    {"%a = placeholder : f32[2] strides [-1]", 1, 20, "out of any memory"},
    {"%a = placeholder : f32[2] strides [9223372036854775807]", 1, 20, "out of any memory"},
    {"%a = placeholder : f32[2] offset x", 1, 34, "a whole number"},
    {"%a = placeholder : f32[2] offset -1", 1, 20, "out of any memory"},
    {"%a = placeholder : f32[2] f32[2]", 1, 27, "the line should end"},
    {"%a = placeholder : f32[2], f32[2]", 1, 34, "for each result"},
    {"%a, %b = placeholder : f32[2], f32[2]", 1, 10, "one result"},
    {"%a = placeholder 3 : f32[2]", 1, 6, "no arguments"},
    {"%a = placeholder \"x : f32[2]", 1, 18, "a string ends"},
    {"%a = placeholder \"\\q\" : f32[2]", 1, 18, "after \\ stands"},
    {"%a = placeholder \"\\x0\" : f32[2]", 1, 18, "after \\ stands"},
    {"placeholder", 1, 1, "one result"},
    {"%w = parameter : f32[2]", 1, 6, "no tensor of this name"},
    {"%v = parameter : f32[2]", 1, 6, "the tensor of this name is f32[3]"},
    {"%v = parameter : f64[3]", 1, 6, "the tensor of this name is f32[3]"},
    {"\n%a = placeholder : f32[2]\n%a = placeholder : f32[2]", 3, 1, "makes a value of this name"},
    {"%a = add %b, %b : f32[2]", 1, 10, "no line before this one"},
    {"%a = placeholder : f32[2]\n%b = add %a : f32[2]", 2, 6, "with other types: add(f32, f32)"},
    {"%a = placeholder : f32[2]\n%b = add %a, %a", 2, 16, "`:` should stand here"},
    {"%a = placeholder : f32[2]\n%b = add %a, %a : f32[3]", 2, 6, "result 0 is f32[2]"},
    {"%a = placeholder : f32[2]\n%b = add %a, %a : f64[2]", 2, 6, "with other types"},
    {"%a = placeholder : f64[2]\n%b = add %a, %a : f64[2]", 2, 6, "with other types"},
    {"%a = placeholder : f32[2]\n%b = placeholder : f32[3]\n%c = add %a, %b : f32[2]", 3, 6,
     "extents must be equal or 1"},
    {"%a = placeholder : f32[2]\n%b = subtract %a, %a : f32[2]", 2, 6, "no operation"},
    {"%a = placeholder : f32[2]\n%b = add.in %a, %a : f32[2]", 2, 10, "out or in_place"},
    {"%a = placeholder : f32[2]\n%b = add.out %a, %a : f32[2]", 2, 6, "no operation"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, 1.0, own", 2, 25, "operator's own type"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, 1.0", 2, 1, "with other types"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, true, 1", 2, 1, "with other types"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, 1e999, 1", 2, 20, "this is no number"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, 1.5.2, 1", 2, 20, "this is no number"},
    {"%a = placeholder : f32[2]\nscale.in_place 1.0, %a", 2, 21, "tensors stand before"},
    {"%a = placeholder : f32[2]\nscale.in_place %a 1.0", 2, 19, "`,` should stand here"},
    {"%a = placeholder : f32[2]\nscale.in_place %a, ;", 2, 20, "should stand here"},
    {"%a = placeholder : f32[2]\n%b = select %a, 7, 0 : f32[]", 2, 6, "axis 7"},
    {"%a = placeholder : f32[2]\n%b = \"add", 2, 6, "a string ends"},
    {"%a = placeholder : f32[2]\n;", 2, 1, "an operation, placeholder"},
    {"%a = placeholder : f32[2]", 1, 26, "an operation, placeholder"},
    {"%a = placeholder : f32[2]\nreturn %b", 2, 8, "no line before this one"},
    {"%a = placeholder : f32[2]\nreturn %a %a", 2, 11, "`,` should stand here"},
    {"%a = placeholder : f32[2]\nreturn %a\n%b = placeholder : f32[2]", 3, 1, "nothing stands"},
};

}  // namespace

TEST_CASE("graph/parse: broken text is told by line and column") {
  static_assert(std::size(bads) >= 30);
  const graph::named_tensors tensors{{"v", al::ones<real>({3})}};
  const auto words = graph::vocabulary::learn(
      [](const auto& x) {
        auto y = al::add(x, x);
        al::scale.in_place(y, 1.0, 1.0);
        return al::select(y, 0, 0);
      },
      al::ones<real>({1}));
  for (const bad& b : bads) {
    CAPTURE(b.text);
    try {
      static_cast<void>(graph::parse(b.text, words, tensors));
      FAIL("it was read");
    } catch (const graph::parse_error& e) {
      CAPTURE(e.what());
      CHECK(e.line == b.line);
      CHECK(e.column == b.column);
      CHECK(e.reason.find(b.reason) != std::string::npos);
    }
  }
}

TEST_CASE("graph/parse: text broken at random is refused with a place in it, or is a graph") {
  const graph::graph g = text_samples::sample();
  const std::string text = to_text(g);
  const auto words = graph::vocabulary::of(g);
  const graph::named_tensors tensors = graph::tensors_of(g);
  std::mt19937 random(6);
  int refused = 0;
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string other = text_samples::broken(text, random);
    CAPTURE(other);
    try {
      const graph::graph h = graph::parse(other, words, tensors);
      ++read;
      verify(h);
      const std::string again = to_text(h);
      CHECK(to_text(graph::parse(again, words, graph::tensors_of(h))) == again);
    } catch (const graph::parse_error& e) {
      ++refused;
      const auto lines = std::count(other.begin(), other.end(), '\n') + 1;
      CHECK((e.line >= 1 && e.line <= lines && e.column >= 1));
      CHECK(e.column <= static_cast<int>(other.size()) + 1);
    }
  }
  CHECK(refused > 10000);
  CHECK(read > 50);
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/print.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <source_location>
#include <string>
#include <tuple>

#include "ashlar/graph/capture.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/views.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using real = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;

TEST_CASE("graph/print: a line for each node, in single assignment") {
  const real w = al::ones<real>({3});
  const real other = al::ones<real>({3});
  const auto f = [&](const auto& x, const auto& y) {
    auto a = al::add(al::mul(x, w), y);
    a = al::add(a, other);
    auto row = al::select(a, 0, 1);
    al::scale.in_place(row, 2.0, 0.5);
    return std::tuple(a, al::transpose(a, 0, 1));
  };
  const graph::graph g = graph::capture(f, graph::named_tensors{{"layers.0.w", w}, {"a b", other}},
                                        al::ones<real>({2, 3}), al::ones<real>({}));
  CHECK(to_text(g) ==
        "%x0 = placeholder : f32[2, 3]\n"
        "%x1 = placeholder : f32[]\n"
        "%layers.0.w = parameter : f32[3]\n"
        "%mul = mul %x0, %layers.0.w : f32[2, 3]\n"
        "%add = add %mul, %x1 : f32[2, 3]\n"
        "%a_b = parameter \"a b\" : f32[3]\n"
        "%add_1 = add %add, %a_b : f32[2, 3]\n"
        "%select = select %add_1, 0, 1 : f32[3] offset 3\n"
        "scale.in_place %select, 2.0, 0.5\n"
        "%transpose = transpose %add_1, 0, 1 : f32[3, 2] strides [1, 3]\n"
        "return %add_1, %transpose\n");
}

TEST_CASE("graph/print: the table names users and the user's lines") {
  constexpr auto line = std::source_location::current().line() + 1;
  const auto f = [](const auto& x) { return al::mul(x, al::add(x, x)); };
  const graph::graph g = graph::capture(f, al::ones<real>({2}));
  const std::string at = "print_test.cpp:" + std::to_string(line);
  CHECK(to_table(g) ==
        "opcode       name    target  args     users     spec    line\n"
        "-----------  ------  ------  -------  --------  ------  " +
            std::string(at.size(), '-') +
            "\n"
            "placeholder  x0      x0               add, mul  f32[2]\n"
            "call         add     add     x0, x0   mul       f32[2]  " +
            at +
            "\n"
            "call         mul     mul     x0, add  output    f32[2]  " +
            at + "\noutput       output          mul\n");
}

TEST_CASE("graph/print: numbers read back to the same bits, whatever they are") {
  CHECK(graph::text_of(graph::attribute(2.0)) == "2.0");
  CHECK(graph::text_of(graph::attribute(-0.0)) == "-0.0");
  CHECK(graph::text_of(graph::attribute(1e300)) == "1e+300");
  CHECK(graph::text_of(graph::attribute(0.1)) == "0.1");
  CHECK(graph::text_of(graph::attribute(-std::numeric_limits<double>::infinity())) == "-inf");
  CHECK(graph::text_of(graph::attribute(std::nan(""))) == "nan");
  CHECK(graph::text_of(graph::attribute(std::int64_t{-3})) == "-3");
  CHECK(graph::text_of(graph::attribute(true)) == "true");
  CHECK(graph::text_of(graph::attribute(al::shape{2, 0})) == "[2, 0]");
  CHECK(graph::text_of(graph::attribute(std::string("mine"))) == "own");
}

TEST_CASE("graph/print: names are told apart, and broken graphs are shown, too") {
  graph::graph g;
  const al::tensor_spec s = al::contiguous_spec(al::dtype::int64, al::shape{1}.span());
  for (const char* name : {"", "placeholder_1", "", "a\"\n\\b", "a__"}) {
    g.add({.kind = graph::node_kind::placeholder, .name = name}, std::array{s});
  }
  g.add({.op = nullptr, .in = {0, 99, -1}}, std::array{s, s});
  g.outputs = {6, 1000};
  CHECK(to_text(g) ==
        "%placeholder = placeholder : i64[1]\n"
        "%placeholder_1 = placeholder : i64[1]\n"
        "%placeholder_2 = placeholder : i64[1]\n"
        "%a___b = placeholder \"a\\\"\\x0a\\\\b\" : i64[1]\n"
        "%a__ = placeholder : i64[1]\n"
        "%call.0, %call.1 = ? %placeholder, %?99, %?-1 : i64[1], i64[1]\n"
        "return %call.1, %?1000\n");
  CHECK(to_table(g).find("?99") != std::string::npos);
}

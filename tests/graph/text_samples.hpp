// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

/// A graph with every kind of node and attribute, and ways to break its text.
namespace text_samples {

namespace graph = ashlar::graph;
using real = ashlar::tensor<float, ashlar::make_key_set<ashlar::keys::backend<ashlar::chip::host>>>;

/// An operation that a pass has made, under a name that is no word: halves of a vector.
class halves final : public graph::operation {
  static constexpr std::array types{ashlar::dtype::float32, ashlar::dtype::float32};

 public:
  explicit halves(std::string_view on = {}) {
    chip = on;
    name = "cut \"in\" two";
    argument_types = std::span(types).first(1);
    result_types = types;
  }
  void run(std::span<const ashlar::tensor_handle> in, std::span<const graph::attribute>,
           std::span<ashlar::tensor_handle> out) const override {
    const real x(in[0]);
    const std::int64_t n = x.extent(0) / 2;
    out[0] = ashlar::narrow(x, 0, 0, n);
    out[1] = ashlar::narrow(x, 0, n, n);
  }
  [[nodiscard]] std::vector<ashlar::tensor_spec> meta(
      std::span<const ashlar::tensor_spec> in, std::span<const graph::attribute>) const override {
    if (in[0].rank != 1 || in[0][0] % 2 != 0) {
      throw ashlar::argument_error("halves", "it takes a vector of even length");
    }
    return std::vector(2, ashlar::contiguous_spec(types[0], ashlar::shape{in[0][0] / 2}));
  }
};

inline graph::graph sample() {
  const real w = ashlar::ones<real>({3});
  const real odd = ashlar::transpose(ashlar::ones<real>({3, 2}), 0, 1);
  const auto f = [&](const auto& x, const auto& ids) {
    using X = std::remove_cvref_t<decltype(x)>;
    auto a = ashlar::add(ashlar::mul(x, w), ashlar::arange<X>(3));
    auto row = ashlar::select(a, 0, 1);
    ashlar::scale.in_place(row, 2.0, -0.125);
    ashlar::add.out(a, a, odd);
    const auto mask = ashlar::lt(x, a);
    return std::tuple(ashlar::sum(a, ashlar::shape{-1}, true), ashlar::transpose(a, 0, 1), mask,
                      ashlar::cast<float>(ids), ashlar::transpose(w, 0, 0));
  };
  using ids = ashlar::tensor<std::int64_t, real::keys>;
  graph::graph g =
      graph::capture(f, graph::named_tensors{{"layers.0.w", w}, {"an \\ \"odd\"\n one", odd}},
                     ashlar::ones<real>({2, 3}), ashlar::zeros<ids>({5}));
  const ashlar::tensor_handle c = ashlar::ones<real>({6});
  const std::array spec{c.spec()};
  for (int i = 0; i < 2; ++i) {  // constants have no names
    g.add({.kind = graph::node_kind::constant, .data = c}, spec);
  }
  const auto both = g.call(std::make_shared<halves>(), g.nodes.back().out);
  g.outputs.insert(g.outputs.end(), both.begin(), both.end());
  return g;
}

/// A text with one to three places changed: cut, doubled, exchanged, or given other characters.
inline std::string broken(std::string text, std::mt19937& random) {
  static constexpr std::string_view pieces[]{"%",         "\"",          "\\",
                                             ",",         ":",           "=",
                                             "[",         "]",           "-",
                                             ".",         "0",           "9",
                                             "\n",        "//",          "->",
                                             "1e999",     "true",        "inf",
                                             "nan",       "-1",          "2.5",
                                             "{",         "}",           "\0",
                                             "\xff",      "f32",         "i64",
                                             "add",       "strides",     "offset",
                                             "return",    "placeholder", "9223372036854775808",
                                             "[1, 2, 3]", "null"};
  const auto below = [&](std::size_t n) { return random() % n; };
  for (std::size_t changes = 1 + below(3); changes > 0 && !text.empty(); --changes) {
    const std::size_t at = below(text.size());
    const std::size_t n = 1 + below(below(4) == 0 ? 40 : 4);
    switch (below(5)) {
      case 0:
        text.erase(at, n);
        break;
      case 1:
        text.insert(at, text.substr(below(text.size()), n));
        break;
      case 2:
        text[at] = static_cast<char>(random());
        break;
      case 3:
        text.insert(at, pieces[below(std::size(pieces))]);
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

}  // namespace text_samples

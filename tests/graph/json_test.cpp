// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/json.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "graph/text_samples.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;

namespace {

/// Takes an attribute of its own type, or a real number.
class odd final : public graph::operation {
  static constexpr std::array types{al::dtype::float32};
  static constexpr std::array kinds{graph::attribute::kind::own, graph::attribute::kind::real};

 public:
  explicit odd(bool own) {
    name = "odd";
    argument_types = types;
    result_types = types;
    attribute_kinds = std::span(kinds).subspan(own ? 0 : 1, 1);
  }
  void run(std::span<const al::tensor_handle> in, std::span<const graph::attribute>,
           std::span<al::tensor_handle> out) const override {
    out[0] = in[0];
  }
  [[nodiscard]] std::vector<al::tensor_spec> meta(
      std::span<const al::tensor_spec> in, std::span<const graph::attribute>) const override {
    return {in[0]};
  }
};

graph::graph odd_graph(graph::attribute a) {
  graph::graph g;
  const std::array spec{al::contiguous_spec(al::dtype::float32, al::shape{2}.span())};
  g.add({.kind = graph::node_kind::placeholder, .name = "x"}, spec);
  const bool own = a.what() == graph::attribute::kind::own;
  g.outputs = g.call(std::make_shared<odd>(own), {0}, {std::move(a)});
  return g;
}

}  // namespace

TEST_CASE("graph/json: a graph comes back, and another parser agrees about what it is") {
  const graph::graph g = text_samples::sample();
  const std::string text = to_json(g);
  CAPTURE(text);
  const graph::graph h = graph::from_json(text, graph::vocabulary::of(g), graph::tensors_of(g));
  verify(h);
  CHECK(to_text(h) == to_text(g));
  CHECK(to_json(h) == text);
  const auto j = nlohmann::json::parse(text);
  REQUIRE(j["nodes"].size() == g.nodes.size());
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    CHECK(j["nodes"][i]["out"].size() == g.nodes[i].out.size());
    CHECK(j["nodes"][i].value("in", nlohmann::json::array()) == g.nodes[i].in);
  }
  CHECK(j["outputs"] == g.outputs);
}

TEST_CASE("graph/json: numbers that JSON has no word for come back") {
  for (const double x : {std::numeric_limits<double>::infinity(), -0.0, 0.1, 3.0, 5e-324,
                         -std::numeric_limits<double>::infinity()}) {
    const graph::graph g = odd_graph(graph::attribute(x));
    const graph::graph h = graph::from_json(to_json(g), graph::vocabulary::of(g));
    CHECK(h.nodes[1].attributes == g.nodes[1].attributes);
    CHECK(std::signbit(h.nodes[1].attributes[0].as<double>()) == std::signbit(x));
  }
  const graph::graph g = odd_graph(graph::attribute(std::numeric_limits<double>::quiet_NaN()));
  const graph::graph h = graph::from_json(to_json(g), graph::vocabulary::of(g));
  CHECK(std::isnan(h.nodes[1].attributes[0].as<double>()));
}

TEST_CASE("graph/json: an attribute of the operator's own type is refused, by node") {
  const graph::graph g = odd_graph(graph::attribute(std::string("mine")));
  try {
    static_cast<void>(to_json(g));
    FAIL("it was written");
  } catch (const graph::graph_error& e) {
    CHECK(e.node == 1);
    CHECK(e.rule.find("attribute 0 of odd") != std::string::npos);
  }
}

TEST_CASE("graph/json: broken documents are told by path") {
  struct bad {
    std::string_view text;
    std::string_view path, reason;
  };
  static constexpr bad bads[]{
      {"", "", "parse error"},
      {"{", "", "parse error"},
      {"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", "", "deeper than 16"},
      {"3", "", "a member \"format\""},
      {R"({"format":1})", "format", "a string"},
      {R"({"format":"gguf"})", "format", "\"ashlar.graph\""},
      {R"({"format":"ashlar.graph"})", "", "a member \"version\""},
      {R"({"format":"ashlar.graph","version":2})", "version", "version 1"},
      {R"({"format":"ashlar.graph","version":1,"nodes":{}})", "nodes", "a list"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[1],"outputs":[]})", "nodes[0]",
       "a member \"kind\""},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"call"}]})", "nodes[0].kind",
       "placeholder, parameter or constant"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"placeholder","name":"x","out":[]}]})",
       "nodes[0]", "one result"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"placeholder","name":"x","out":[
          {"type":"f31","shape":[]}]}]})",
       "nodes[0].out[0].type", "an element type"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"placeholder","name":"x","out":[
          {"type":"f32","shape":[9223372036854775808]}]}]})",
       "nodes[0].out[0].shape[0]", "a whole number of 64 bits"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"placeholder","name":"x","out":[
          {"type":"f32","shape":[2],"strides":[1,1]}]}]})",
       "nodes[0].out[0]", "a stride for each extent"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"kind":"parameter","name":"x","out":[
          {"type":"f32","shape":[2]}]}]})",
       "nodes[0]", "no tensor of this name"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"call":"add","in":[0]}]})",
       "nodes[0].in[0]", "no node before"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"call":"add","in":[],"attributes":[{}]}]})",
       "nodes[0].attributes[0]", "a number"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[{"call":"add","in":[],"attributes":[],"out":[]}]})",
       "nodes[0]", "no operation"},
      {R"({"format":"ashlar.graph","version":1,"nodes":[],"outputs":[0]})", "outputs[0]",
       "no node before"},
  };
  for (const bad& b : bads) {
    CAPTURE(b.text);
    try {
      static_cast<void>(graph::from_json(b.text, {}));
      FAIL("it was read");
    } catch (const graph::json_error& e) {
      CHECK(e.path == b.path);
      CAPTURE(e.reason);
      CHECK(e.reason.find(b.reason) != std::string::npos);
    }
  }
}

TEST_CASE("graph/json: text broken at random is refused, or is a graph") {
  const graph::graph g = text_samples::sample();
  const std::string text = to_json(g);
  const auto words = graph::vocabulary::of(g);
  const graph::named_tensors tensors = graph::tensors_of(g);
  std::mt19937 random(7);
  int refused = 0;
  int read = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string other = text_samples::broken(text, random);
    CAPTURE(other);
    try {
      const graph::graph h = graph::from_json(other, words, tensors);
      ++read;
      verify(h);
      const std::string again = to_json(h);
      CHECK(to_json(graph::from_json(again, words, graph::tensors_of(h))) == again);
    } catch (const graph::json_error&) {
      ++refused;
    }
  }
  CHECK(refused > 5000);
  CHECK(read > 50);
}

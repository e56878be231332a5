// SPDX-License-Identifier: Apache-2.0
// A convolutional net and a mixture of experts through capture.
#include <doctest/doctest.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph/breakable.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/nn/batch_norm.hpp"
#include "ashlar/nn/conv.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/moe.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
namespace nn = ashlar::nn;
using host = al::chip::host;

namespace {

/// With the key in the stack, what a module writes to its buffers is captured, too.
using stack = al::stack<al::on<host>, al::through<al::keys::capture>>;
using tensor = stack::tensor<float>;

template <class Stack>
struct conv_net {
  using conv = nn::conv2d<Stack>;
  using norm_type = nn::batch_norm2d<Stack>;
  using head_type = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(conv_net, (conv, stem), (norm_type, norm), (conv, depthwise),
                           (head_type, head));

  auto operator()(const auto& images) const {
    const auto x = al::max_pool2d(al::relu(norm(stem(images))), {2, 2});
    const auto y = al::gelu(depthwise(x));
    const auto pooled = al::avg_pool2d(y, al::shape{y.extent(2), y.extent(3)});
    return head(al::reshape(pooled, {y.extent(0), -1}));
  }
  static conv_net make() {
    const al::window_options same{.padding = {1, 1}};
    conv_net net{conv::make(3, 4, {3, 3}, same, 1, false), norm_type::make(4),
                 conv::make(4, 4, {3, 3}, same, 4), head_type::make(4, 5)};
    nn::initialize(net, 3, [](std::string_view, const al::tensor_spec& s) {
      return s.rank >= 2 ? nn::init::kaiming_normal(s, 1.0) : nn::init::keep();
    });
    return net;
  }
};

}  // namespace

TEST_CASE("graph/capture: a convolutional net, and the statistics that its training moves") {
  auto a = conv_net<stack>::make();
  auto b = conv_net<stack>::make();
  const auto f = [&](const auto& x) { return a(x); };
  const auto g = [&](const auto& x) { return b(x); };
  {
    auto compiled = graph::compile(g, graph::planned<host>{});
    for (std::uint64_t seed = 1; seed < 4; ++seed) {
      const auto x = al::randn<tensor>({2, 3, 8, 6}, seed);
      CHECK(al::to_vector(compiled(x)) == al::to_vector(f(x)));
    }
    CHECK(compiled.statistics().compiled == 1);
    CHECK(al::to_vector(a.norm.running_mean.value) == al::to_vector(b.norm.running_mean.value));
    CHECK(al::to_vector(a.norm.running_var.value) == al::to_vector(b.norm.running_var.value));
    CHECK(al::item(b.norm.num_batches_tracked.value) == 3);
  }
  nn::eval(a);
  nn::eval(b);
  auto compiled = graph::compile(g, graph::eager{}, {.sizes = {graph::dim("B", 2, 9).of(0, 0)}});
  for (const std::int64_t batch : {2, 3, 9}) {
    const auto x = al::randn<tensor>({batch, 3, 8, 6}, 7);
    CHECK(al::to_vector(compiled(x)) == al::to_vector(f(x)));
  }
  CHECK(compiled.statistics().compiled == 1);
}

TEST_CASE("graph/breakable: a mixture of experts reads who goes where, and breaks there") {
  auto experts = nn::moe<stack>::make(8, 12, 4, 2);
  nn::initialize(experts, 3, [](std::string_view, const al::tensor_spec& s) {
    return s.rank >= 2 ? nn::init::kaiming_normal(s, 1.0) : nn::init::keep();
  });
  const auto f = [&](const auto& x) { return experts(x); };
  CHECK_THROWS_AS(static_cast<void>(graph::capture(f, al::randn<tensor>({5, 8}, 1))),
                  graph::capture_error);
  auto g = graph::breakable(f);
  auto planned = graph::breakable(f, graph::planned<host>{});
  for (std::uint64_t seed = 1; seed < 6; ++seed) {
    const auto x = al::randn<tensor>({5, 8}, seed);
    const auto expected = al::to_vector(f(x));
    CHECK(al::to_vector(g(x)) == expected);
    CHECK(al::to_vector(planned(x)) == expected);
    CHECK(g.graphs() == 2);
  }
  CHECK(g.statistics().compiled <= 6);  // what comes before the break is one graph
}

// SPDX-License-Identifier: Apache-2.0
// A small convolutional net, a vision transformer and a block of a mixture of experts: gradients
// equal differences, and training lowers the loss.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;

namespace {

/// Differences need doubles.
struct wide : al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>> {
  using scalar = double;
};
using tensor = wide::tensor<double>;
using integers = wide::tensor<std::int64_t>;

template <class X>
X drawn(const al::shape& s, std::uint64_t seed) {
  return al::randn<X>(s, seed);
}
template <class M>
M started(M module) {
  nn::initialize(module, 3, [](std::string_view, const al::tensor_spec& s) {
    return s.rank >= 2 ? nn::init::kaiming_normal(s, 1.0) : nn::init::keep();
  });
  nn::require_grad(module);
  return module;
}

/// Separable convolutions: each channel by itself, then channels by each place.
template <class Stack>
struct conv_net {
  using conv = nn::conv2d<Stack>;
  using norm_type = nn::batch_norm2d<Stack>;
  using head_type = nn::linear<Stack>;
  using drop_type = nn::dropout;
  BOOST_HANA_DEFINE_STRUCT(conv_net, (conv, stem), (norm_type, norm), (conv, depthwise),
                           (conv, pointwise), (drop_type, drop), (head_type, head));

  auto operator()(const auto& images) const {
    const auto x = al::max_pool2d(al::relu(norm(stem(images))), {2, 2});
    const auto y = al::gelu(pointwise(depthwise(x)));
    const auto pooled = al::avg_pool2d(y, al::shape{y.extent(2), y.extent(3)});
    return head(drop(al::reshape(pooled, {y.extent(0), -1})));
  }
  static conv_net make(std::int64_t width, std::int64_t classes) {
    const al::window_options same{.padding = {1, 1}};
    return {conv::make(3, width, {3, 3}, same, 1, false),
            norm_type::make(width),
            conv::make(width, width, {3, 3}, same, width),
            conv::make(width, 2 * width, {1, 1}),
            nn::dropout::make(0.25, 5),
            head_type::make(2 * width, classes)};
  }
};

template <class Stack>
struct vit_block {
  using norm = nn::layer_norm<Stack>;
  using layer = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(vit_block, (norm, norm1), (layer, qkv), (layer, proj), (norm, norm2),
                           (layer, fc1), (layer, fc2));

  auto operator()(const auto& x) const {  // (B, T, C), two heads
    const std::int64_t b = x.extent(0);
    const std::int64_t t = x.extent(1);
    const std::int64_t c = x.extent(2);
    const auto all = al::reshape(qkv(norm1(x)), {b, t, 3, 2, c / 2});
    const auto part = [&](std::int64_t i) { return al::transpose(al::select(all, 2, i), 1, 2); };
    const auto mixed = al::scaled_dot_product_attention(part(0), part(1), part(2));
    const auto y = x + proj(al::reshape(al::transpose(mixed, 1, 2), {b, t, c}));
    return y + fc2(al::gelu(fc1(norm2(y))));
  }
  static vit_block make(std::int64_t c) {
    return {norm::make(c), layer::make(c, 3 * c), layer::make(c, c),
            norm::make(c), layer::make(c, 2 * c), layer::make(2 * c, c)};
  }
};

template <class Stack>
struct vision_transformer {
  using parameter = nn::parameter_of<Stack>;
  using conv = nn::conv2d<Stack>;
  using block = vit_block<Stack>;
  using norm_type = nn::layer_norm<Stack>;
  using layer = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(vision_transformer, (parameter, cls_token), (parameter, pos_embed),
                           (conv, patch_embed), (std::vector<block>, blocks), (norm_type, norm),
                           (layer, head));

  auto operator()(const auto& images) const {
    const auto patches = patch_embed(images);  // (B, C, h, w)
    const std::int64_t b = patches.extent(0);
    const std::int64_t c = patches.extent(1);
    const auto tokens = al::transpose(al::reshape(patches, {b, c, -1}), 1, 2);
    const auto first = al::expand(cls_token, {b, 1, c});
    parameter x = al::cat(first, tokens, 1) + pos_embed;
    for (const block& each : blocks) {
      x = each(x);
    }
    return head(al::select(norm(x), 1, 0));
  }
  static vision_transformer make(std::int64_t patches, std::int64_t c, std::int64_t classes) {
    return {al::zeros<parameter>({1, 1, c}),
            al::zeros<parameter>({1, patches + 1, c}),
            conv::make(3, c, {4, 4}, {.stride = {4, 4}}),
            {block::make(c), block::make(c)},
            norm_type::make(c),
            layer::make(c, classes)};
  }
};

template <class Stack>
struct mixtral_block {
  using norm = nn::rms_norm<Stack>;
  using layer = nn::linear<Stack>;
  using mixture = nn::moe<Stack>;
  BOOST_HANA_DEFINE_STRUCT(mixtral_block, (norm, input_layernorm), (layer, q_proj),
                           (layer, kv_proj), (layer, o_proj), (norm, post_attention_layernorm),
                           (mixture, block_sparse_moe));

  auto operator()(const auto& x) const {  // (B, T, C), four query heads on two key heads
    const std::int64_t b = x.extent(0);
    const std::int64_t t = x.extent(1);
    const std::int64_t c = x.extent(2);
    const auto h = input_layernorm(x);
    const auto places = al::arange<integers_of>(t);
    const auto turned = [&](const auto& y) {
      return al::transpose(al::rope(y, places, 1e4, false), 1, 2);
    };
    const auto q = al::reshape(q_proj(h), {b, t, 4, c / 4});
    const auto kv = al::reshape(kv_proj(h), {b, t, 2, 2, c / 4});
    const auto mixed = al::scaled_dot_product_attention(
        turned(q), turned(al::select(kv, 2, 0)), al::transpose(al::select(kv, 2, 1), 1, 2), true);
    const auto y = x + o_proj(al::reshape(al::transpose(mixed, 1, 2), {b, t, c}));
    return y + block_sparse_moe(post_attention_layernorm(y));
  }
  using integers_of = typename Stack::template tensor<std::int64_t>;
  static mixtral_block make(std::int64_t c) {
    return {
        norm::make(c), layer::make(c, c, false), layer::make(c, c, false), layer::make(c, c, false),
        norm::make(c), mixture::make(c, 3, 4, 2)};
  }
};

/// Compares gradients of the input and of some parameters with differences.
template <class M, class... P>
void check_gradients(const M& model, const tensor& x, const P&... some) {
  const auto worst =
      al::gradcheck([&](const auto& input, const auto&...) { return model(input); }, x, some...);
  CHECK_MESSAGE(static_cast<bool>(worst), worst.text());
}

/// The mean loss of the first steps is above that of the last ones.
template <class M>
void check_learns(M& model, const tensor& images, const integers& labels) {
  nn::adamw optimizer(model, al::adamw_options{.lr = 2e-2});
  std::vector<double> losses;
  for (int step = 0; step < 20; ++step) {
    nn::zero_grad(model);
    const auto loss = al::cross_entropy(model(images), labels);
    losses.push_back(al::item(loss));
    al::backward(loss);
    optimizer.step();
  }
  const double before = std::accumulate(losses.begin(), losses.begin() + 3, 0.0);
  const double after = std::accumulate(losses.end() - 3, losses.end(), 0.0);
  CHECK(after < 0.8 * before);
}

std::vector<std::string> names_of(const auto& module) {
  std::vector<std::string> all;
  for (const auto& [name, x] : nn::state_dict(module)) {
    all.push_back(name);
  }
  return all;
}

}  // namespace

TEST_CASE("nn/batch_norm: running statistics are state, not parameters, and follow the batches") {
  auto norm = nn::batch_norm2d<wide>::make(2);
  CHECK(names_of(norm) == std::vector<std::string>{"bias", "num_batches_tracked", "running_mean",
                                                   "running_var", "weight"});
  CHECK(nn::parameters(norm).size() == 2);
  const auto x = drawn<tensor>({3, 2, 2, 2}, 1);
  static_cast<void>(norm(x));
  static_cast<void>(norm(x));
  CHECK(al::item(norm.num_batches_tracked.value) == 2);
  const auto elements = al::to_vector(x);
  for (std::size_t c = 0; c < 2; ++c) {
    double mean = 0;
    double squares = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      mean += i / 4 % 2 == c ? elements[i] / 12 : 0.0;
    }
    for (std::size_t i = 0; i < elements.size(); ++i) {
      squares += i / 4 % 2 == c ? (elements[i] - mean) * (elements[i] - mean) / 11 : 0.0;
    }
    // From 0 and from 1, a tenth of the way, twice.
    CHECK(al::to_vector(norm.running_mean.value)[c] == doctest::Approx(0.19 * mean));
    CHECK(al::to_vector(norm.running_var.value)[c] == doctest::Approx(0.81 + 0.19 * squares));
  }
  nn::eval(norm);
  const auto fixed = al::to_vector(norm(x));
  CHECK(al::to_vector(norm(x)) == fixed);
  CHECK(al::item(norm.num_batches_tracked.value) == 2);
  auto other = nn::batch_norm2d<wide>::make(2);
  nn::eval(other);
  nn::load_state_dict(other, nn::state_dict(norm));
  CHECK(al::to_vector(other(x)) == fixed);
  nn::train(norm);
  CHECK_THROWS_AS(norm(drawn<tensor>({1, 2, 1, 1}, 1)), al::argument_error);
}

TEST_CASE("nn/dropout: other places in each call, none outside of training") {
  auto drop = nn::dropout::make(0.5, 9);
  const auto x = al::ones<tensor>({64});
  const auto first = al::to_vector(drop(x));
  CHECK(al::to_vector(drop(x)) != first);
  drop.random.used = 0;
  CHECK(al::to_vector(drop(x)) == first);
  nn::eval(drop);
  CHECK(drop(x).data() == x.data());
}

TEST_CASE("nn/conv: windows have places along both axes") {
  CHECK_THROWS_AS((void)nn::conv2d<wide>::make(1, 1, {0, 3}), al::argument_error);
  CHECK_THROWS_AS((void)nn::conv2d<wide>::make(1, 1, {3, 0}), al::argument_error);
}

TEST_CASE("nn/conv: a small convolutional net learns, with the right gradients") {
  auto net = started(conv_net<wide>::make(2, 3));
  CHECK(names_of(net) ==
        std::vector<std::string>{"depthwise.bias", "depthwise.weight", "head.bias", "head.weight",
                                 "norm.bias", "norm.num_batches_tracked", "norm.running_mean",
                                 "norm.running_var", "norm.weight", "pointwise.bias",
                                 "pointwise.weight", "stem.weight"});
  net.drop.training = false;  // differences see the same numbers again
  check_gradients(net, drawn<tensor>({2, 3, 4, 4}, 1), net.stem.weight, net.norm.weight,
                  net.depthwise.weight, net.pointwise.bias, net.head.weight);
  net = started(conv_net<wide>::make(8, 3));
  const auto images = drawn<tensor>({6, 3, 8, 8}, 2);
  const auto labels = al::from_values<integers>({6}, {0, 1, 2, 2, 1, 0});
  check_learns(net, images, labels);
  nn::eval(net);
  CHECK_FALSE(net.norm.training);
  const auto alone = al::to_vector(net(al::narrow(images, 0, 0, 1)));
  const auto among = al::to_vector(net(images));
  CHECK(std::equal(alone.begin(), alone.end(), among.begin()));  // nothing leaks across a batch
}

TEST_CASE("nn/conv: a vision transformer learns, with the right gradients") {
  auto vit = started(vision_transformer<wide>::make(4, 8, 3));
  check_gradients(vit, drawn<tensor>({1, 3, 8, 8}, 1), vit.cls_token, vit.pos_embed,
                  vit.patch_embed.bias, vit.blocks[0].norm1.weight, vit.blocks[1].proj.bias,
                  vit.head.weight);
  check_learns(vit, drawn<tensor>({6, 3, 8, 8}, 2),
               al::from_values<integers>({6}, {0, 1, 2, 2, 1, 0}));
}

TEST_CASE("nn/moe: a token is the weighted sum of its experts, whatever else is in the batch") {
  const auto moe = started(nn::moe<wide>::make(4, 3, 5, 2));
  CHECK(names_of(moe).front() == "experts.0.w1.weight");
  CHECK(names_of(moe).back() == "gate.weight");
  for (const al::shape& s : {al::shape{0, 4}, {1, 4}, {7, 4}, {2, 3, 4}}) {
    const auto x = drawn<tensor>(s, 4);
    const auto y = moe(x);
    REQUIRE(al::shape(y.shape()) == s);
    const auto flat = al::reshape(x, {x.size() / 4, 4});
    const auto got = al::to_vector(y);
    for (std::int64_t t = 0; t < flat.extent(0); ++t) {
      const auto token = al::narrow(flat, 0, t, 1);
      const auto scores = al::to_vector(al::softmax(moe.gate(token)));
      std::vector<std::size_t> order(scores.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::ranges::stable_sort(order, [&](auto i, auto j) { return scores[i] > scores[j]; });
      const double both = scores[order[0]] + scores[order[1]];
      const auto a = al::to_vector(moe.experts[order[0]](token));
      const auto b = al::to_vector(moe.experts[order[1]](token));
      const auto alone = al::to_vector(moe(token));
      for (std::size_t c = 0; c < 4; ++c) {
        const double want = (scores[order[0]] * a[c] + scores[order[1]] * b[c]) / both;
        const double have = got[static_cast<std::size_t>(t) * 4 + c];
        CHECK(have == doctest::Approx(want).epsilon(1e-12));
        CHECK(have == alone[c]);
      }
    }
  }
  CHECK_THROWS_AS((void)nn::moe<wide>::make(4, 3, 2, 3), al::argument_error);
}

TEST_CASE("nn/moe: a block as in Mixtral learns, with the right gradients") {
  auto block = started(mixtral_block<wide>::make(8));
  const auto& experts = block.block_sparse_moe.experts;
  check_gradients(block, drawn<tensor>({1, 3, 8}, 1), block.q_proj.weight,
                  block.block_sparse_moe.gate.weight, experts[0].w1.weight, experts[1].w2.weight,
                  experts[2].w3.weight);
  nn::adamw optimizer(block, al::adamw_options{.lr = 1e-2});
  const auto x = drawn<tensor>({2, 5, 8}, 2);
  const auto target = drawn<tensor>({2, 5, 8}, 3);
  double first = 0;
  double last = 0;
  for (int step = 0; step < 20; ++step) {
    nn::zero_grad(block);
    const auto loss = al::mean(al::square(block(x) - target));
    last = al::item(loss);
    first = step == 0 ? last : first;
    al::backward(loss);
    optimizer.step();
  }
  CHECK(last < 0.8 * first);
}

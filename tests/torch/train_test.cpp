// SPDX-License-Identifier: Apache-2.0
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/models/llama.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/stack.hpp"
#include "torch/peer.hpp"

using namespace peer;
namespace nn = ashlar::nn;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using model_type = al::models::llama<stack>;
using floats = stack::tensor<float>;
using integers = model_type::integers;
using weights = std::map<std::string, at::Tensor>;

/// LibTorch's optimizers treat all parameters of a group alike.
constexpr auto every_parameter_decays = [](std::string_view, const al::tensor_spec&) {
  return nn::parameter_group{};
};

struct two_tensors {
  floats weight, bias;
};

/// Steps two optimizers on the same parameters with the same gradients.
void check_steps(auto& ours, torch::optim::Optimizer& theirs, const two_tensors& p,
                 const at::Tensor& weight, const at::Tensor& bias) {
  generator bits(9);
  for (int step = 1; step <= 20; ++step) {
    const auto load = [&](const floats& x, const at::Tensor& y) {
      al::gradient(x) = random_tensor<floats>(al::shape(x.shape()), bits);
      y.mutable_grad() = copied(al::gradient(x));
    };
    load(p.weight, weight);
    load(p.bias, bias);
    ours.step();
    theirs.step();
    // A few roundings of numbers of size 1 per step; both divide by roots of the same moments.
    const auto what = "step " + std::to_string(step);
    compare(what + " weight", p.weight, weight, 1e-6, 1);
    compare(what + " bias", p.bias, bias, 1e-6, 1);
  }
}

two_tensors make_tensors() {
  generator bits(4);
  const two_tensors p{random_tensor<floats>({7, 5}, bits), random_tensor<floats>({19}, bits)};
  al::require_grad(p.weight);
  al::require_grad(p.bias);
  return p;
}

/// The same architecture in LibTorch's operators. `tokens`: (B, T); result: (B * T, V).
at::Tensor their_llama(const weights& w, const al::models::llama_config& c,
                       const at::Tensor& tokens) {
  const auto batch = tokens.size(0);
  const auto length = tokens.size(1);
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return x * at::rsqrt(at::mean(at::square(x), {-1}, true) + c.norm_eps) * w.at(name + ".weight");
  };
  const auto project = [&](const at::Tensor& x, const std::string& name) {
    return at::linear(x, w.at(name + ".weight"));
  };
  const at::Tensor hidden = at::ones({length, length}, at::TensorOptions(at::kBool)).triu(1);
  at::Tensor x = at::embedding(w.at("model.embed_tokens.weight"), tokens);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.";
    const at::Tensor y = norm(x, layer + "input_layernorm");
    const auto heads = [&](const char* name, std::int64_t count) {
      return project(y, attention + name).view({batch, length, count, c.head_dim});
    };
    const auto turn = [&](const at::Tensor& z) {
      return rotated(z, 0, c.rope_theta, c.rope_interleaved).transpose(1, 2);
    };
    const auto group = c.heads / c.kv_heads;
    const at::Tensor q = turn(heads("q_proj", c.heads));
    const at::Tensor k = turn(heads("k_proj", c.kv_heads)).repeat_interleave(group, 1);
    const at::Tensor v = heads("v_proj", c.kv_heads).transpose(1, 2).repeat_interleave(group, 1);
    const at::Tensor scores =
        at::matmul(q, k.transpose(-2, -1)) / std::sqrt(static_cast<double>(c.head_dim));
    const at::Tensor mixed = at::matmul(at::softmax(scores.masked_fill(hidden, -INFINITY), -1), v)
                                 .transpose(1, 2)
                                 .reshape({batch, length, c.heads * c.head_dim});
    x = x + project(mixed, attention + "o_proj");
    const at::Tensor z = norm(x, layer + "post_attention_layernorm");
    x = x +
        project(at::silu(project(z, layer + "mlp.gate_proj")) * project(z, layer + "mlp.up_proj"),
                layer + "mlp.down_proj");
  }
  return project(norm(x, "model.norm").view({-1, c.dim}),
                 c.tied_embeddings ? "model.embed_tokens" : "lm_head");
}

}  // namespace

BOOST_HANA_ADAPT_STRUCT(two_tensors, weight, bias);

TEST_CASE("torch/train: twenty steps of AdamW equal LibTorch's") {
  for (const double decay : {0.0, 0.1}) {
    const two_tensors p = make_tensors();
    const at::Tensor weight = copied(p.weight).requires_grad_();
    const at::Tensor bias = copied(p.bias).requires_grad_();
    const al::adamw_options options{
        .lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = decay};
    nn::adamw ours(p, options, every_parameter_decays);
    torch::optim::AdamW theirs(
        std::vector{weight, bias},
        torch::optim::AdamWOptions(0.02).betas({0.8, 0.95}).eps(1e-6).weight_decay(decay));
    check_steps(ours, theirs, p, weight, bias);
  }
}

TEST_CASE("torch/train: twenty steps of SGD equal LibTorch's") {
  for (const al::sgd_options options : {al::sgd_options{.lr = 0.02},
                                        {.lr = 0.02, .momentum = 0.9, .weight_decay = 0.1},
                                        {.lr = 0.02, .momentum = 0.9, .nesterov = true}}) {
    const two_tensors p = make_tensors();
    const at::Tensor weight = copied(p.weight).requires_grad_();
    const at::Tensor bias = copied(p.bias).requires_grad_();
    nn::sgd ours(p, options, every_parameter_decays);
    torch::optim::SGD theirs(std::vector{weight, bias}, torch::optim::SGDOptions(options.lr)
                                                            .momentum(options.momentum)
                                                            .weight_decay(options.weight_decay)
                                                            .nesterov(options.nesterov));
    check_steps(ours, theirs, p, weight, bias);
  }
}

TEST_CASE("torch/train: a small llama learns along the same curve as in LibTorch") {
  for (const bool other : {false, true}) {
    const al::models::llama_config config{.dim = 32,
                                          .hidden = 96,
                                          .layers = 2,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 8,
                                          .vocab = 64,
                                          .context = 16,
                                          .rope_interleaved = other,
                                          .tied_embeddings = other};
    auto model = model_type::make(config, 11);
    nn::require_grad(model);
    weights theirs;
    std::vector<at::Tensor> parameters;
    nn::named_parameters(model, [&](const std::string& name, const floats& x) {
      parameters.push_back(copied(x).requires_grad_());
      theirs.emplace(name, parameters.back());
    });
    const al::adamw_options options{.lr = 0.005, .weight_decay = 0.1};
    nn::adamw optimizer(model, options, every_parameter_decays);
    torch::optim::AdamW their_optimizer(
        parameters, torch::optim::AdamWOptions(options.lr).weight_decay(options.weight_decay));

    constexpr std::int64_t batch = 4;
    constexpr std::int64_t length = 16;
    generator bits(21);
    double first = 0;
    double last = 0;
    for (int step = 0; step < 20; ++step) {
      // Sentences that count up by a step of their own: something to learn.
      const auto inputs = al::empty<integers>({batch, length});
      const auto targets = al::empty<integers>({batch * length});
      for (std::int64_t i = 0; i < inputs.size(); i += length) {
        const auto start = static_cast<std::int64_t>(bits() % 64);
        const auto by = static_cast<std::int64_t>(1 + bits() % 3);
        for (std::int64_t t = 0; t < length; ++t) {
          inputs.data()[i + t] = static_cast<std::int32_t>((start + t * by) % 64);
          targets.data()[i + t] = static_cast<std::int32_t>((start + (t + 1) * by) % 64);
        }
      }
      const auto loss = model.loss(inputs, targets);
      al::backward(loss);
      optimizer.step();
      nn::zero_grad(model);
      const at::Tensor their_loss = at::cross_entropy_loss(
          their_llama(theirs, config, copied(inputs).to(at::kLong)), copied(targets).to(at::kLong));
      their_optimizer.zero_grad();
      their_loss.backward();
      their_optimizer.step();

      last = static_cast<double>(al::item(loss));
      first = step == 0 ? last : first;
      const double wanted = their_loss.item<double>();
      CHECK_MESSAGE(std::abs(last - wanted) <= 1e-4 * wanted, "step ", step, ": ", last,
                    ", LibTorch has ", wanted);
    }
    CHECK(last < first - 0.3);
  }
}

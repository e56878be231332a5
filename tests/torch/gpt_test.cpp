// SPDX-License-Identifier: Apache-2.0
#include "ashlar/models/gpt.hpp"

#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/stack.hpp"
#include "torch/peer.hpp"

using namespace peer;
namespace nn = ashlar::nn;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using model_type = al::models::gpt<stack>;
using floats = stack::tensor<float>;
using integers = model_type::integers;
using weights = std::map<std::string, at::Tensor>;

/// The same architecture in LibTorch's operators. `tokens`: (B, T); result: (B * T, V).
at::Tensor their_gpt(const weights& w, const al::models::gpt_config& c, const at::Tensor& tokens) {
  const auto batch = tokens.size(0);
  const auto length = tokens.size(1);
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {c.dim}, w.at(name + ".weight"), w.at(name + ".bias"), c.norm_eps);
  };
  const auto project = [&](const at::Tensor& x, const std::string& name) {
    return at::matmul(x, w.at(name + ".weight")) + w.at(name + ".bias");
  };
  const at::Tensor hidden = at::ones({length, length}, at::TensorOptions(at::kBool)).triu(1);
  at::Tensor x = at::embedding(w.at("transformer.wte.weight"), tokens) +
                 w.at("transformer.wpe.weight").slice(0, 0, length);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "transformer.h." + std::to_string(i) + ".";
    const auto parts = project(norm(x, layer + "ln_1"), layer + "attn.c_attn").split(c.dim, -1);
    const auto heads = [&](const at::Tensor& y) {
      return y.view({batch, length, c.heads, c.head_dim()}).transpose(1, 2);
    };
    const at::Tensor scores = at::matmul(heads(parts[0]), heads(parts[1]).transpose(-2, -1)) /
                              std::sqrt(static_cast<double>(c.head_dim()));
    const at::Tensor mixed =
        at::matmul(at::softmax(scores.masked_fill(hidden, -INFINITY), -1), heads(parts[2]))
            .transpose(1, 2)
            .reshape({batch, length, c.dim});
    x = x + project(mixed, layer + "attn.c_proj");
    const at::Tensor inner = project(norm(x, layer + "ln_2"), layer + "mlp.c_fc");
    x = x + project(at::gelu(inner, "tanh"), layer + "mlp.c_proj");
  }
  const at::Tensor y = norm(x, "transformer.ln_f").view({-1, c.dim});
  return at::linear(y, w.at(c.tied_embeddings ? "transformer.wte.weight" : "lm_head.weight"));
}

}  // namespace

TEST_CASE("torch/gpt: logits and all gradients equal LibTorch's") {
  for (const bool tied : {true, false}) {
    const al::models::gpt_config config{.dim = 60,
                                        .hidden = 101,
                                        .layers = 2,
                                        .heads = 4,
                                        .vocab = 67,
                                        .context = 19,
                                        .norm_eps = 1e-4,
                                        .tied_embeddings = tied};
    auto model = model_type::make(config, 11);
    generator bits(5);
    weights theirs;
    nn::named_parameters(model, [&](const std::string& name, floats& x) {
      // Deviations of 0.1 and biases that are not zero: every part counts.
      const auto spread =
          random_tensor<floats>(al::shape(x.shape()), bits, [](double u) { return 0.2 * u; });
      x = x.rank() == 1 ? al::add(x, spread) : spread;
      al::require_grad(x);
      theirs.emplace(name, copied(x).requires_grad_());
    });
    const auto inputs = al::empty<integers>({3, 17});
    const auto targets = al::empty<integers>({3 * 17});
    for (std::int64_t i = 0; i < inputs.size(); ++i) {
      inputs.data()[i] = static_cast<std::int32_t>(bits() % 67);
      targets.data()[i] = static_cast<std::int32_t>(bits() % 67);
    }
    const floats logits = model(inputs);
    const at::Tensor their_logits = their_gpt(theirs, config, copied(inputs).to(at::kLong));
    // Sums of some hundred terms in another order, through two layers.
    compare("logits", logits, their_logits, 1e-5, 1);
    al::backward(al::cross_entropy(logits, targets));
    at::cross_entropy_loss(their_logits, copied(targets).to(at::kLong)).backward();
    nn::named_parameters(model, [&](const std::string& name, const floats& x) {
      compare("gradient of " + name, al::gradient(x), theirs.at(name).grad(), 1e-4, 1e-3);
    });
  }
}

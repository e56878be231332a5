// SPDX-License-Identifier: Apache-2.0
// A user's file that trains and asks a model whose kernels another file instantiates.
#include <ashlar/ashlar.hpp>
#include <cstdint>
#include <vector>

namespace al = ashlar;

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using model = al::models::llama<stack>;
extern template class al::models::llama<stack>;

double train_step(const al::models::llama_config& config, const std::vector<std::int32_t>& tokens,
                  const std::vector<std::int32_t>& targets);

double train_step(const al::models::llama_config& config, const std::vector<std::int32_t>& tokens,
                  const std::vector<std::int32_t>& targets) {
  using integers = model::integers;
  const auto count = static_cast<std::int64_t>(tokens.size());
  const model llama = model::make(config, 1);
  al::nn::require_grad(llama);
  al::nn::adamw optimizer(llama, {});
  const auto loss = llama.loss(al::from_values<integers>({1, count}, tokens),
                               al::from_values<integers>({count}, targets));
  al::backward(loss);
  optimizer.step(1e-3);
  return static_cast<double>(al::item(loss));
}

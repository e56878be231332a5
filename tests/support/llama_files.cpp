// SPDX-License-Identifier: Apache-2.0
#include "ashlar/models/load.hpp"
#include "support/llama.hpp"

namespace ashlar::testing {

serving_llama to_rotate_half(const serving_llama& model) { return models::to_rotate_half(model); }
serving_llama to_interleaved(const serving_llama& model) {
  return models::with_rope_order(model, io::rope_order::interleaved);
}

opened open(const std::filesystem::path& path) {
  const io::model_file file = io::open_model(path);
  return {models::from_file<serving_stack>(file), file.tokenizer};
}

void save(const std::filesystem::path& folder, const serving_llama& model,
          const io::tokenizer& tokenizer) {
  models::save(folder, model, tokenizer);
}
void save(const std::filesystem::path& folder, const training_llama& model,
          const io::tokenizer& tokenizer) {
  models::save(folder, model, tokenizer);
}

}  // namespace ashlar::testing

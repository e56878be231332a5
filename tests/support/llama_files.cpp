// SPDX-License-Identifier: Apache-2.0
#include "ashlar/models/load.hpp"
#include "support/llama.hpp"

namespace ashlar::testing {

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

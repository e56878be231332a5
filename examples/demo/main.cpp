// SPDX-License-Identifier: Apache-2.0
// Trains a language model on real text, saves it, loads it again and serves it; or serves a file.
#include <ashlar/io.hpp>
#include <ashlar/models/load.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "model.hpp"
#include "options.hpp"
#include "serve.hpp"
#include "train.hpp"

namespace {

using namespace demo;

/// Loads what was saved, and holds its logits against those of the model that was trained.
serving_model reload(const training_model& model, const std::string& folder, bool raw) {
  auto loaded = al::models::from_file<serving_stack>(al::io::open_model(folder));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < model.config.context; ++i) {
    ids.push_back(static_cast<std::int32_t>(i * 37 % model.config.vocab));
  }
  const auto logits = [&](const auto& m) {
    const al::no_grad off;
    using integers = typename std::remove_cvref_t<decltype(m)>::integers;
    return al::to_vector(m(al::from_values<integers>({1, model.config.context}, ids)));
  };
  const auto before = logits(model);
  const auto after = logits(loaded);
  std::fprintf(raw ? stderr : stdout, "saved to %s, loaded again: %zu logits, %s\n", folder.c_str(),
               before.size(), before == after ? "all equal to the bit" : "NOT EQUAL");
  if (before != after) {
    throw std::runtime_error("the loaded model gives other logits than the saved one");
  }
  return loaded;
}

int run(const options& o) {
  if (!o.model.empty()) {
    const al::io::model_file file = al::io::open_model(o.model, o.tokenizer);
    auto model = al::models::from_file<serving_stack>(file);
    model.lay_out_for_decoding();
    const std::int64_t wanted = 512;
    if (model.config.context < wanted) {
      // Rotary positions have no table that could end, and some files name less than their model
      // was trained on.
      std::fprintf(stderr,
                   "the file says a context of %lld tokens; going on to %lld, where a model that "
                   "was trained on no more may write nonsense (--max-tokens ends it earlier)\n",
                   static_cast<long long>(model.config.context), static_cast<long long>(wanted));
      model.config.context = wanted;
    }
    serve(model, file.tokenizer, o.prompts.empty() ? std::vector<std::string>{""} : o.prompts, o);
    return 0;
  }
  std::error_code failed;
  std::filesystem::create_directories(o.save, failed);
  if (failed) {  // what cannot be saved is not worth training
    throw std::runtime_error("--save: cannot make the folder '" + o.save +
                             "': " + failed.message());
  }
  const trained t = train(o);
  al::models::save(o.save, t.model, t.tokenizer);
  auto model = reload(t.model, o.save, o.raw);
  model.lay_out_for_decoding();
  serve(model, t.tokenizer, o.prompts.empty() ? t.prompts : o.prompts, o);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int exit_code = 0;
  const auto o = demo::parse(argc, argv, exit_code);
  if (!o) {
    return exit_code;
  }
  try {
    return run(*o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ashlar demo: %s\n", e.what());
    return 1;
  }
}

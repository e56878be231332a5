// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <concepts>
#include <filesystem>
#include <limits>
#include <string>

namespace demo {

namespace {

/// Reads the whole of `text`; anything but one finite number gives false.
template <class T>
bool read(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool finite = true;
  if constexpr (std::floating_point<T>) {
    finite = std::isfinite(value);
  }
  return error == std::errc{} && end == text.data() + text.size() && finite;
}

/// What CLI11's own checks do, in sentences a reader can act on.
template <class T>
CLI::Validator number(const std::string& range, auto allowed) {
  const std::string kind = std::integral<T> ? "a whole number" : "a number";
  return {[=](std::string& text) -> std::string {
            T value{};
            return read(text, value) && allowed(value)
                       ? ""
                       : "it must be " + kind + " " + range + ", not '" + text + "'";
          },
          ""};
}
template <class T>
CLI::Validator from(T least, T most = std::numeric_limits<T>::max()) {
  const bool bounded = most != std::numeric_limits<T>::max();
  return number<T>(bounded ? "from " + std::to_string(least) + " to " + std::to_string(most)
                           : "that is at least " + std::to_string(least),
                   [=](T value) { return value >= least && value <= most; });
}
CLI::Validator positive() {
  return number<double>("above 0", [](double value) { return value > 0; });
}
CLI::Validator not_negative() {
  return number<double>("of 0 or more", [](double value) { return value >= 0; });
}

}  // namespace

std::optional<options> parse(int argc, char** argv, int& exit_code) {
  options o;
  CLI::App app{
      "Trains a small Llama-architecture language model on real text, saves it, loads it again "
      "and\n"
      "serves it; with --model, serves a model from a file. Results go to stdout, progress and\n"
      "figures to stderr.",
      "ashlar demo"};
  constexpr int large = 1'000'000;
  app.add_option("--model", o.model,
                 "serve this instead of training: a llama2.c checkpoint (.bin), a GGUF file, or a "
                 "Hugging Face folder");
  app.add_option("--tokenizer", o.tokenizer,
                 "tokenizer of a llama2.c checkpoint (default: the one beside it)");
  app.add_option("--prompt", o.prompts,
                 "text to go on from; may be repeated (default: the beginning of a text, or eight "
                 "pieces of the held-out text after training)");
  app.add_option("--max-tokens", o.max_tokens,
                 "tokens to generate per prompt (default: 256 for a file, 48 after training)")
      ->check(from<std::int32_t>(1));
  app.add_option("--temperature", o.temperature, "0 is greedy (default)")->check(not_negative());
  app.add_option("--top-p", o.top_p, "keep the best tokens that add up to this probability")
      ->check(number<double>("above 0 and at most 1",
                             [](double value) { return value > 0 && value <= 1; }));
  app.add_option("--cache-tokens", o.cache_tokens,
                 "room of the key-value cache, in tokens (default: four contexts, at least one per "
                 "prompt)")
      ->check(from<std::int64_t>(1));
  app.add_flag("--raw", o.raw, "print the generated text and nothing else");
  app.add_option("--seed", o.seed,
                 "of weights, batches and sampling: the same seed gives the same run")
      ->check(from<std::uint64_t>(0))
      ->capture_default_str();

  const char* training = "Training";
  app.add_flag("--quick", o.quick, "a tiny model in a few seconds, to see that everything works")
      ->group(training);
  app.add_option("--text", o.text,
                 "text to train on (default: the library's headers and documentation)")
      ->check(CLI::ExistingFile)
      ->group(training);
  app.add_option("--save", o.save, "folder for the trained model")
      ->capture_default_str()
      ->group(training);
  app.add_option("--ranks", o.ranks, "data-parallel ranks, one thread each")
      ->check(from(1, 64))
      ->capture_default_str()
      ->group(training);
  const auto figure = [&](const char* name, auto& value, const char* what,
                          const CLI::Validator& check) {
    app.add_option(name, value, what)->check(check)->capture_default_str()->group(training);
  };
  figure("--steps", o.steps, "optimiser steps", from(1, 1000 * large));
  figure("--batch", o.batch, "sequences per step, over all ranks; a multiple of --ranks",
         from(1, large));
  figure("--context", o.context, "tokens per sequence", from(1, large));
  figure("--dim", o.dim, "width of the model; a multiple of twice --heads", from(2, large));
  figure("--layers", o.layers, "layers of the model", from(1, large));
  figure("--heads", o.heads, "query heads", from(1, large));
  app.add_option("--kv-heads", o.kv_heads, "key-value heads; divides --heads (0: chosen)")
      ->check(from(0, large))
      ->capture_default_str()
      ->group(training);
  figure(
      "--vocabulary", o.vocabulary,
      "entries of the tokenizer: 256 bytes, the end of text, and merges, as many as the text has",
      from(258, large));
  figure("--learning-rate", o.learning_rate, "peak learning rate", positive());
  figure("--weight-decay", o.weight_decay, "of matrices", not_negative());
  figure("--clip", o.clip, "largest norm of the gradient", positive());

  try {
    app.parse(argc, argv);
    if (o.quick) {
      const auto shrink = [&](const char* name, auto& value, auto small) {
        if (app.count(name) == 0) {
          value = small;
        }
      };
      shrink("--steps", o.steps, 500);
      shrink("--batch", o.batch, 8);
      shrink("--context", o.context, 64);
      shrink("--dim", o.dim, 96);
      shrink("--layers", o.layers, 2);
      shrink("--heads", o.heads, 4);
      shrink("--vocabulary", o.vocabulary, 512);
      shrink("--learning-rate", o.learning_rate, 2.5e-3);
    }
    if (o.kv_heads == 0) {
      o.kv_heads = o.heads % 2 == 0 ? o.heads / 2 : o.heads;
    }
    const auto require = [](bool holds, const char* what) {
      if (!holds) {
        throw CLI::ValidationError(what);
      }
    };
    require(o.batch % o.ranks == 0, "--batch must be a multiple of --ranks");
    require(o.dim % (2 * o.heads) == 0, "--dim must be a multiple of twice --heads");
    require(o.heads % o.kv_heads == 0, "--heads must be a multiple of --kv-heads");
    require(o.model.empty() || std::filesystem::exists(o.model),
            ("--model: there is no file or folder '" + o.model + "'").c_str());
    require(app.count("--model") == 0 || !o.model.empty(),
            "--model: it must name a file or folder");
    require(o.tokenizer.empty() || !o.model.empty(), "--tokenizer: it goes with --model");
    for (const CLI::Option* option : app.get_options()) {
      require(o.model.empty() || option->count() == 0 || option->get_group() != training,
              (option->get_name() + ": it is about training, and --model trains nothing").c_str());
    }
    require(!o.save.empty(), "--save: it must name a folder");
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e);
    return std::nullopt;
  }
  return o;
}

}  // namespace demo

// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>

namespace demo {

std::optional<options> parse(int argc, char** argv, int& exit_code) {
  options o;
  CLI::App app{
      "Trains a small Llama-architecture language model on real text, saves it, loads it again "
      "and\n"
      "serves it; with --model, serves a model from a file. Results go to stdout, progress and\n"
      "figures to stderr.",
      "ashlar demo"};
  const auto positive = CLI::PositiveNumber;
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
      ->check(positive);
  app.add_option("--temperature", o.temperature, "0 is greedy (default)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", o.top_p, "keep the best tokens that add up to this probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--cache-tokens", o.cache_tokens,
                 "room of the key-value cache, in tokens (default: four contexts, at least one per "
                 "prompt)")
      ->check(positive);
  app.add_flag("--raw", o.raw, "print the generated text and nothing else");

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
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(training);
  const auto number = [&](const char* name, auto& value, const char* what) {
    app.add_option(name, value, what)->check(positive)->capture_default_str()->group(training);
  };
  number("--steps", o.steps, "optimiser steps");
  number("--batch", o.batch, "sequences per step, over all ranks; a multiple of --ranks");
  number("--context", o.context, "tokens per sequence");
  number("--dim", o.dim, "width of the model; a multiple of twice --heads");
  number("--layers", o.layers, "layers of the model");
  number("--heads", o.heads, "query heads");
  app.add_option("--kv-heads", o.kv_heads, "key-value heads; divides --heads (0: chosen)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(training);
  number("--vocabulary", o.vocabulary, "entries of the tokenizer");
  number("--learning-rate", o.learning_rate, "peak learning rate");
  number("--weight-decay", o.weight_decay, "of matrices");
  number("--clip", o.clip, "largest norm of the gradient");
  app.add_option("--seed", o.seed, "the same seed gives the same weights")
      ->capture_default_str()
      ->group(training);

  try {
    app.parse(argc, argv);
    if (o.quick) {
      const auto shrink = [&](const char* name, auto& value, auto small) {
        if (app.count(name) == 0) {
          value = small;
        }
      };
      shrink("--steps", o.steps, 60);
      shrink("--batch", o.batch, 8);
      shrink("--context", o.context, 64);
      shrink("--dim", o.dim, 64);
      shrink("--layers", o.layers, 2);
      shrink("--heads", o.heads, 4);
      shrink("--vocabulary", o.vocabulary, 512);
      shrink("--learning-rate", o.learning_rate, 1e-2);
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
    require(o.vocabulary >= 258, "--vocabulary must be at least 258: bytes, end of text, a merge");
  } catch (const CLI::ParseError& e) {
    exit_code = app.exit(e);
    return std::nullopt;
  }
  return o;
}

}  // namespace demo

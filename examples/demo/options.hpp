// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace demo {

struct options {
  // serve a file
  std::string model;      ///< empty: train one
  std::string tokenizer;  ///< of a llama2.c checkpoint; empty: beside it
  std::vector<std::string> prompts;
  std::int32_t max_tokens = 0;  ///< 0: 256 for a file, 48 after training
  double temperature = 0;
  double top_p = 1;
  std::int64_t cache_tokens = 0;
  bool raw = false;

  // train
  std::string text;  ///< empty: the library's own headers and documentation
  std::string save = "build/demo-model";
  bool quick = false;
  int ranks = 2;
  int steps = 500;
  int batch = 16;  ///< sequences per step, over all ranks
  int context = 128;
  int dim = 160;
  int layers = 4;
  int heads = 4;
  int kv_heads = 0;  ///< 0: as many as heads, halved where that divides
  int vocabulary = 2048;
  double learning_rate = 4e-3;
  double weight_decay = 0.1;
  double clip = 1.0;
  std::uint64_t seed = 1;
};

/// Returns: nothing where the program is to end with `exit_code` at once (help, bad arguments).
std::optional<options> parse(int argc, char** argv, int& exit_code);

}  // namespace demo

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "ashlar/models/load.hpp"
#include "ashlar/stack.hpp"

// A small real model to measure with. The environment variable ASHLAR_DATA names the folder that
// has stories260K/ (`run bench` looks beside this repository); without it every figure is skipped.
namespace stories {

using stack = ashlar::stack<ashlar::on<ashlar::chip::host>>;
using model_type = ashlar::models::llama<stack>;

inline std::optional<model_type> load(benchmark::State& state) {
  const char* folder = std::getenv("ASHLAR_DATA");
  const auto file =
      std::filesystem::path(folder == nullptr ? "" : folder) / "stories260K" / "stories260K.bin";
  if (!std::filesystem::exists(file)) {
    state.SkipWithError("no stories260K in the folder that ASHLAR_DATA names");
    return std::nullopt;
  }
  auto model = model_type::load(file);
  model.lay_out_for_decoding();
  return model;
}

}  // namespace stories

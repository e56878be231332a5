// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/io.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "model.hpp"
#include "options.hpp"

namespace demo {

struct trained {
  training_model model;
  al::io::tokenizer tokenizer;
  std::vector<std::string> prompts;  ///< pieces of the held-out text
};

/// Trains a model and judges it by the text that it has not seen.
///
/// Effects: progress on stderr, the verdict on stdout (not with `raw`).
/// Throws:  `std::runtime_error` where the text is too short.
trained train(const options& o);

}  // namespace demo

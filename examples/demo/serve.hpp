// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/io.hpp>
#include <string>
#include <vector>

#include "model.hpp"
#include "options.hpp"

namespace demo {

/// Serves all prompts at once, streaming text to stdout and figures to stderr.
///
/// One prompt streams as it comes; of several, each line appears when it is complete, with the
/// number of its prompt in front (not with `raw`, which prints one text after the other).
void serve(serving_model& model, const al::io::tokenizer& tokenizer,
           const std::vector<std::string>& prompts, const options& o);

}  // namespace demo

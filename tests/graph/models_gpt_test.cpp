// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ashlar/models/gpt.hpp"
#include "ashlar/stack.hpp"
#include "graph/models_check.hpp"

TEST_CASE("graph/capture: GPT-2 is one graph for every length, with the bits of its own call") {
  using stack = ashlar::stack<ashlar::on<ashlar::chip::host>>;
  const ashlar::models::gpt_config c{.dim = 24,
                                     .hidden = 44,
                                     .layers = 2,
                                     .heads = 3,
                                     .vocab = 101,
                                     .context = 64,
                                     .tied_embeddings = true};
  models_check::check_language_model(ashlar::models::gpt<stack>::make(c, 5), c.context);
}

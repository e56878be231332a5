// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ashlar/models/llama.hpp"
#include "ashlar/stack.hpp"
#include "graph/models_check.hpp"

TEST_CASE("graph/capture: Llama is one graph for every length, with the bits of its own call") {
  using stack = ashlar::stack<ashlar::on<ashlar::chip::host>>;
  const ashlar::models::llama_config c{.dim = 24,
                                       .hidden = 37,
                                       .layers = 2,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 6,
                                       .vocab = 101,
                                       .context = 64,
                                       .tied_embeddings = true};
  models_check::check_language_model(ashlar::models::llama<stack>::make(c, 5), c.context);
}

// SPDX-License-Identifier: Apache-2.0
#include "memory/model.hpp"

TEST_CASE("memory/model: random requests leave the books as they should be") {
  model::run_all(0.1);  // the whole of it: model_soak.cpp
}

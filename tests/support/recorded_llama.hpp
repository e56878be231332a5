// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/models/recorded.hpp"
#include "support/llama.hpp"

/// The steps of the small models that are recorded; compiled where the models are.
extern template class ashlar::models::recorded_step<ashlar::testing::serving_llama>;

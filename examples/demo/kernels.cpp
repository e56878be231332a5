// SPDX-License-Identifier: Apache-2.0
// Every kernel that the models call is compiled here and nowhere else.
#include "model.hpp"

template class ashlar::models::llama<demo::training_stack>;
template class ashlar::models::llama<demo::serving_stack>;

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/kv/step.hpp"

namespace ashlar::serve {

using kv::sequence_step;
using kv::step;
using kv::token;

/// What an engine can serve.
template <class M>
concept LanguageModel = kv::PagedModel<M>;

}  // namespace ashlar::serve

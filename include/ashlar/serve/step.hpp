// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/kv/step.hpp"

namespace ashlar::serve {

using kv::sequence_step;
using kv::step;
using kv::token;

/// Counts the requests of one engine from 0.
using request_id = std::uint64_t;

/// What an engine can serve.
template <class M>
concept LanguageModel = kv::PagedModel<M>;

}  // namespace ashlar::serve

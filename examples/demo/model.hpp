// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/ashlar.hpp>
#include <ashlar/comm.hpp>
#include <ashlar/parallel.hpp>
#include <ashlar/serve.hpp>

namespace demo {

namespace al = ashlar;

/// The stack that the demo trains on: the host, the tape, a ring of threads.
using training_stack =
    al::stack<al::on<al::chip::host>, al::allocate<al::memory::caching<al::memory::binned>>,
              al::differentiate<al::autograd::tape<>>, al::cache<al::kv::paged<16>>,
              al::schedule<al::serve::continuous<al::serve::chunked_prefill<256>>>,
              al::communicate<al::comm::threads, al::comm::ring>>;
/// The same without the tape: what it serves with.
using serving_stack = training_stack::inference;

using training_model = al::models::llama<training_stack>;
using serving_model = al::models::llama<serving_stack>;

}  // namespace demo

// Compiled once, in kernels.cpp.
extern template class ashlar::models::llama<demo::training_stack>;
extern template class ashlar::models::llama<demo::serving_stack>;

// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The entry headers of what one process and one chip need to build and train a model. Rooms for
/// more are included by themselves, as each costs this header's readers up to a second: `comm` and
/// `parallel` (many ranks), `serve`, `graph`, `io` (file formats, which need JSON), `conformance`
/// (tests of a chip). What only some programs want of the others is, too: `models/load.hpp`,
/// `ops/tile.hpp`, `tile/passes.hpp`, `tile/interpret.hpp`, `chip/npu.hpp`, `chip/llvm.hpp`.
#include "ashlar/autograd.hpp"
#include "ashlar/chip.hpp"
#include "ashlar/core.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/memory.hpp"
#include "ashlar/models.hpp"
#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/plan.hpp"
#include "ashlar/simd.hpp"
#include "ashlar/stack.hpp"
#include "ashlar/tile.hpp"
#include "ashlar/trace.hpp"
#include "ashlar/version.hpp"

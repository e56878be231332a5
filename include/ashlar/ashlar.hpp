// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The entry headers of all rooms but `io`, whose file formats need JSON, `conformance`, which
/// tests of a chip want, `graph` and `serve`, which cost a second more each. What only some
/// programs want is included by itself: `models/load.hpp`, `ops/tile.hpp`, `tile/passes.hpp`,
/// `tile/interpret.hpp`, `chip/npu.hpp`, `chip/llvm.hpp`, `comm/mpi.hpp`.
#include "ashlar/autograd.hpp"
#include "ashlar/chip.hpp"
#include "ashlar/comm.hpp"
#include "ashlar/core.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/kv.hpp"
#include "ashlar/memory.hpp"
#include "ashlar/models.hpp"
#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/parallel.hpp"
#include "ashlar/plan.hpp"
#include "ashlar/simd.hpp"
#include "ashlar/stack.hpp"
#include "ashlar/tile.hpp"
#include "ashlar/trace.hpp"
#include "ashlar/version.hpp"

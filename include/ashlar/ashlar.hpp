// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Everything but the file formats: those need JSON, and come with `ashlar/io.hpp` and
/// `ashlar/models/load.hpp`.
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
#include "ashlar/serve.hpp"
#include "ashlar/simd.hpp"
#include "ashlar/stack.hpp"
#include "ashlar/tile.hpp"
#include "ashlar/version.hpp"

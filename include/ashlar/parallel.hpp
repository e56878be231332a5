// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What a training program runs. What plans it before, with no tensor in sight, is included by
/// itself: `parallel/pipeline.hpp`, `parallel/mesh.hpp`, `parallel/planner.hpp`.
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/errors.hpp"

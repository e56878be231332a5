// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What cuts a training step over ranks. What plans one before, with no tensor in sight, is
/// included by itself: `parallel/pipeline.hpp`, `parallel/mesh.hpp`, `parallel/planner.hpp`; and so
/// is `parallel/pipeline/execute.hpp`, which runs a plan of a pipeline.
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/errors.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"

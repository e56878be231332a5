// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Collectives and the threads that they run on. What looks at schedules without running them is
/// included by itself: `comm/check.hpp`, `comm/simulate.hpp`, `comm/select.hpp`,
/// `comm/program.hpp`, `comm/timeline.hpp`; so are `comm/checked.hpp`, `comm/recorder.hpp`,
/// `comm/traced.hpp`, `comm/recorded.hpp` and `comm/mpi.hpp`.
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/comm/transport.hpp"

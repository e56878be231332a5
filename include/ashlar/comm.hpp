// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/exchange.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/recorder.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/comm/transport.hpp"

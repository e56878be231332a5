// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/comm/transport.hpp"

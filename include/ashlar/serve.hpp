// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"
#include "ashlar/serve/step.hpp"

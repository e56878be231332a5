// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ashlar/serve/engine.hpp"
#include "ashlar/serve/filters.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/processors.hpp"
#include "ashlar/serve/queue_order.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/sampling.hpp"
#include "ashlar/serve/schedule_log.hpp"
#include "ashlar/serve/schedule_policies.hpp"
#include "ashlar/serve/schedule_queue.hpp"
#include "ashlar/serve/scheduled.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"
#include "ashlar/serve/step.hpp"
#include "ashlar/serve/stop_text.hpp"

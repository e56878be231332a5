// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/models/gpt.hpp"
#include "ashlar/models/llama.hpp"
#include "ashlar/models/narrow_cache.hpp"

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/errors.hpp"
#include "ashlar/parallel/pipeline/make.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"
#include "ashlar/parallel/pipeline/simulate.hpp"
#include "ashlar/parallel/pipeline/validate.hpp"

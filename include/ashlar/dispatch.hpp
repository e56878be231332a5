// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/dispatch/call.hpp"
#include "ashlar/dispatch/decomposed.hpp"
#include "ashlar/dispatch/derivative.hpp"
#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/precomputed.hpp"
#include "ashlar/dispatch/spelled.hpp"
#include "ashlar/dispatch/step.hpp"

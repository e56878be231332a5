// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/graph/passes/common_subexpressions.hpp"
#include "ashlar/graph/passes/dead_code.hpp"
#include "ashlar/graph/passes/effects.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/passes/functionalise.hpp"
#include "ashlar/graph/passes/simplify.hpp"

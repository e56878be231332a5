// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/softmax.hpp"

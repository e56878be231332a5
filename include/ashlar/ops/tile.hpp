// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/cross_entropy.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/embedding.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/optimizer.hpp"
#include "ashlar/ops/tile/random.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/rope.hpp"
#include "ashlar/ops/tile/softmax.hpp"

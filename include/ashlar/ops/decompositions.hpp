// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/ops/decompositions/attention.hpp"
#include "ashlar/ops/decompositions/elementwise.hpp"
#include "ashlar/ops/decompositions/layers.hpp"
#include "ashlar/ops/decompositions/reduction.hpp"
#include "ashlar/ops/decompositions/softmax.hpp"
#include "ashlar/ops/decompositions/views.hpp"

/// Every operator that is no prim and no composite, in terms of others: see `decomposition`.
///
/// A chip with kernels for `ops::prims` alone has all operators through these, and a fused gradient
/// is differentiated again through its own, which stands beside it. Results differ from the
/// kernels' by roundings, and in the sign of zeros.

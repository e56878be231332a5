// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/tile/passes/branches.hpp"
#include "ashlar/tile/passes/canonicalise.hpp"
#include "ashlar/tile/passes/combine.hpp"
#include "ashlar/tile/passes/common.hpp"
#include "ashlar/tile/passes/dead.hpp"
#include "ashlar/tile/passes/fold.hpp"
#include "ashlar/tile/passes/identities.hpp"
#include "ashlar/tile/passes/invariant.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/passes/unroll.hpp"

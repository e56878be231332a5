// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/chip/meta.hpp"
#include "ashlar/dispatch/op.hpp"

namespace ashlar {

/// On a chip without memory an operator's `meta` is all there is to do.
template <Structured Op>
  requires(!View<Op> && !Composite<Op>)
struct kernel<Op, keys::backend<chip::meta>> {
  static void impl(auto&&...) {}
};

}  // namespace ashlar

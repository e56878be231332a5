// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/ops/complete.hpp"
#include "ashlar/stack.hpp"

/// A chip with one kernel and nothing for the rest.
struct own_add {
  using op = ashlar::ops::add;
  static void impl(auto&&...) {}
};
struct bare_npu {
  static constexpr ashlar::chip_description description{.name = "bare_npu"};
  using memory = ashlar::chip::host::memory;
  using queue = ashlar::chip::host::queue;
  using kernels = ashlar::kernels<own_add>;
};
using stack = ashlar::stack<ashlar::on<bare_npu>, ashlar::differentiate<ashlar::autograd::tape<>>>;

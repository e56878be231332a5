// EXPECT-ERROR: the stack does not say how ranks talk
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops.hpp"
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/stack.hpp"

using stack =
    ashlar::stack<ashlar::on<ashlar::chip::host>, ashlar::differentiate<ashlar::autograd::tape<>>>;

void use(ashlar::parallel::ddp_for<stack>& ddp) { ddp.finish(); }

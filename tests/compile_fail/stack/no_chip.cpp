// EXPECT-ERROR: no chip; add on<Chip>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/stack.hpp"

ashlar::stack<ashlar::differentiate<ashlar::autograd::tape<>>> without_chip;

int main() {}

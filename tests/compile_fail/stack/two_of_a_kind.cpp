// EXPECT-ERROR: two policies of one kind; keep one
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/stack.hpp"

ashlar::stack<ashlar::on<ashlar::chip::host>, ashlar::on<ashlar::chip::meta>> two_chips;

int main() {}

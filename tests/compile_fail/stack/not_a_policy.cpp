// EXPECT-ERROR: an argument is no policy
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/stack.hpp"

ashlar::stack<ashlar::chip::host> chip_without_on;

int main() {}

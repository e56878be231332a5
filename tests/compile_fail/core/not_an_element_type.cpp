// EXPECT-ERROR: T must be an element type of the library
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/core/tensor.hpp"

ashlar::tensor<char*, ashlar::key_set<>> x;

int main() {}

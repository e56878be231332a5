// EXPECT-ERROR: C::blocks must model BlockPolicy
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/blocks.hpp"

struct npu {
  struct blocks {
    static constexpr int fold = 64;  // and nothing about products
  };
};
using policy = ashlar::chip::blocks_of<npu>;
policy p;

int main() {}

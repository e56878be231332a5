// EXPECT-ERROR: this function is for floating-point elements
// EXPECT-TYPES: tile<int, 4>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto i = tile::cast<int>(tile::load<4>(x, 0, 0));
    tile::store(y, tile::cast<float>(tile::exp(i)) + k.zeros<float, 4>(), 0, 0);
  }
};
auto program = tile::trace<kernel>();

// EXPECT-ERROR: the tile and the view have different element types
// EXPECT-TYPES: out<float, 2>.*tile<int, 4>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    tile::store(y, tile::cast<int>(tile::load<4>(x, 0, 0)) + k.zeros<int, 4>(), 0, 0);
  }
};
auto program = tile::trace<kernel>();

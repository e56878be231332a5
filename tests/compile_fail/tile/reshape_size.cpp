// EXPECT-ERROR: tile::reshape: the number of elements stays
// EXPECT-TYPES: tile<float, 4, 6>.*tile<float, 5, 5>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    tile::store(y, tile::reshape<5, 5>(tile::load<4, 6>(x, 0, 0)) + k.zeros<float, 5, 5>(), 0, 0);
  }
};
auto program = tile::trace<kernel>();

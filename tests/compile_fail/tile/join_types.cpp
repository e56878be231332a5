// EXPECT-ERROR: tile::join: two tiles of one type
// EXPECT-TYPES: tile<float, 4, 6>.*tile<float, 4, 5>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto a = tile::load<4, 6>(x, 0, 0);
    tile::store(y, tile::join(a, k.zeros<float, 4, 5>()), 0, 0);
  }
};
auto program = tile::trace<kernel>();

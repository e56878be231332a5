// EXPECT-ERROR: tile::split: the extent of the last axis is odd
// EXPECT-TYPES: tile<float, 4, 7>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto [even, odd] = tile::split(tile::load<4, 7>(x, 0, 0));
    tile::store(y, even + odd + k.zeros<float, 4, 3>(), 0, 0);
  }
};
auto program = tile::trace<kernel>();

// EXPECT-ERROR: a region gives tiles of other types than it must
// EXPECT-TYPES: tile<float, 4, 6>.*tile<float, 4>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto sum = k.loop(
        0, x.extent(1), 6, [&](tile::index i, auto) { return tile::load<4, 6>(x, 0, i); },
        k.zeros<float, 4>());
    tile::store(y, sum, 0, 0);
  }
};
auto program = tile::trace<kernel>();

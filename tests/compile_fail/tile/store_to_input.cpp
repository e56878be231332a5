// EXPECT-ERROR: the view is only for reading
// EXPECT-TYPES: in<float, 2>.*tile<float, 4>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    tile::store(x, tile::load<4>(y, 0, 0) + k.zeros<float, 4>(), 0, 0);
  }
};
auto program = tile::trace<kernel>();

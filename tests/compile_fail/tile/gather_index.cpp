// EXPECT-ERROR: an index is a scalar or has the extents of the tile
// EXPECT-TYPES: tile<float, 4, 6>.*tile<long[ int]*, 4>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto columns = k.iota<std::int64_t, 0, 4>();
    tile::store(y, tile::gather<4, 6>(x, 0, columns), 0, 0);
  }
};
auto program = tile::trace<kernel>();

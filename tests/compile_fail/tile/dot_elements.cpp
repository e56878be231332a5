// EXPECT-ERROR: tile::dot: a and b have different element types
// EXPECT-TYPES: tile<float, 4, 6>.*tile<ashlar::bfloat16, 6, 5>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto a = tile::load<4, 6>(x, 0, 0);
    const auto b = tile::cast<ashlar::bfloat16>(tile::load<6, 5>(x, 0, 0));
    tile::store(y, tile::dot(a, b, k.zeros<float, 4, 5>()), 0, 0);
  }
};
auto program = tile::trace<kernel>();

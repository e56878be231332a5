// EXPECT-ERROR: tile::dot: f32 and narrower floats add up in f32
// EXPECT-TYPES: tile<signed char, 4, 6>.*tile<float, 4, 5>
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto a = tile::cast<signed char>(tile::load<4, 6>(x, 0, 0));
    const auto b = tile::cast<signed char>(tile::load<6, 5>(x, 0, 0));
    tile::store(y, tile::dot(a, b, k.zeros<float, 4, 5>()), 0, 0);
  }
};
auto program = tile::trace<kernel>();

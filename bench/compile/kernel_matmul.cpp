// SPDX-License-Identifier: Apache-2.0
// One fixed kernel as native code of the host: traced, optimised and instantiated.
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/kernel.hpp"

namespace {

namespace tile = ashlar::tile;

template <int M, int N, int K>
struct matmul {
  static constexpr auto name = "matmul";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::in<float, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(0) * M;
    const auto n = k.program_id(1) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          const auto y = tile::load<K, N>(b, i, n);
          return tile::dot(x, y, acc);
        },
        k.zeros<float, M, N>());
    tile::store(c, sum, m, n);
  }
};

}  // namespace

void multiply(ashlar::view<const float> a, ashlar::view<const float> b, ashlar::view<float> c) {
  ashlar::chip::launch<matmul<64, 64, 16>>({(c.extent(0) + 63) / 64, (c.extent(1) + 63) / 64, 1}, a,
                                           b, c);
}

// EXPECT-ERROR: pass_error
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/passes.hpp"

namespace tile = ashlar::tile;

struct kernel {
  constexpr void operator()(tile::scope&, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto v = tile::load<4>(x, 0);
    tile::store(y, v + v, 0);
  }
};

constexpr tile::program without_sums(const tile::program& p) {
  tile::program q = p;
  for (int i = 0; i < q.size; ++i) {
    q.at(i).op = q.at(i).op == tile::opcode::add ? tile::opcode::less : q.at(i).op;
  }
  return q;
}

constexpr tile::program after = tile::passes::checked(without_sums)(tile::program_of<kernel>);

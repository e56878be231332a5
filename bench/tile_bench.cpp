// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "matmul_peers.hpp"

// A tile program's product (`ashlar`) beside the kernel written by hand and the peers.
namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using matmul_bench::problem;

struct matmul {
  static constexpr auto name = "matmul";
  static constexpr int M = 16;
  static constexpr int N = 64;
  static constexpr int K = 32;

  constexpr void operator()(tile::scope& k, tile::out<float, 2> c, tile::in<float, 2> a,
                            tile::in<float, 2> b) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          return tile::dot(x, tile::load<K, N>(b, i, n), acc);
        },
        k.zeros<float, M, N>());
    tile::store(c, sum, m, n);
  }
};

void by_tiles(benchmark::State& state, const problem& p) {
  const al::tensor_spec a = al::contiguous_spec(al::dtype::float32, al::shape{p.m, p.k}.span());
  const al::tensor_spec c = al::contiguous_spec(al::dtype::float32, al::shape{p.m, p.n}.span());
  const al::tensor_spec b =
      p.weights ? al::geometry::transpose(
                      al::contiguous_spec(al::dtype::float32, al::shape{p.n, p.k}.span()), 0, 1)
                : al::contiguous_spec(al::dtype::float32, al::shape{p.k, p.n}.span());
  matmul_bench::measure<float>(state, p, [&](matmul_bench::operands<float>& x) {
    al::chip::launch<matmul>({al::ceil_div(p.n, matmul::N), al::ceil_div(p.m, matmul::M), 1},
                             al::view<float>{x.c.data(), &c}, al::view<const float>{x.a.data(), &a},
                             al::view<const float>{x.b.data(), &b});
  });
}

const int registered = [] {
  for (const bool weights : {false, true}) {
    for (problem p : {problem{256, 256, 256, false}, problem{1024, 1024, 1024, false},
                      problem{2048, 2048, 2048, false}, problem{128, 3072, 768, false},
                      problem{128, 768, 3072, false}, problem{16, 2048, 2048, false},
                      problem{1, 4096, 4096, false}}) {
      p.weights = weights;
      matmul_bench::add("f32", p, "ashlar", by_tiles);
      matmul_bench::add("f32", p, "hand", matmul_bench::by_hand<float>);
      matmul_bench::add_peers<float>("f32", p);
    }
  }
  return 0;
}();

}  // namespace

// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <cstdint>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"
#include "matmul_peers.hpp"
#include "peaks.hpp"

// A tile program's product (`ashlar`) beside the kernel written by hand, the peers and what one
// core can do at most.
namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using al::chip::product_order;
using al::chip::sum_of;
using matmul_bench::problem;

template <class T>
struct matmul {
  static constexpr auto name = "matmul";
  static constexpr int M = 16;
  static constexpr int N = 64;
  static constexpr int K = 128 / static_cast<int>(sizeof(T));
  using R = sum_of<T>;

  constexpr void operator()(tile::scope& k, tile::out<R, 2> c, tile::in<T, 2> a,
                            tile::in<T, 2> b) const {
    const auto m = k.program_id(1) * M;
    const auto n = k.program_id(0) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, m, i);
          return tile::dot(x, tile::load<K, N>(b, i, n), acc);
        },
        k.zeros<R, M, N>());
    tile::store(c, sum, m, n);
  }
};

template <class T, product_order Order>
void by_tiles(benchmark::State& state, const problem& p) {
  using kernel = matmul<T>;
  using R = sum_of<T>;
  const al::tensor_spec a = al::contiguous_spec(al::dtype_of<T>, al::shape{p.m, p.k}.span());
  const al::tensor_spec c = al::contiguous_spec(al::dtype_of<R>, al::shape{p.m, p.n}.span());
  const al::tensor_spec b =
      p.weights ? al::geometry::transpose(
                      al::contiguous_spec(al::dtype_of<T>, al::shape{p.n, p.k}.span()), 0, 1)
                : al::contiguous_spec(al::dtype_of<T>, al::shape{p.k, p.n}.span());
  matmul_bench::measure<T, R>(state, p, [&](matmul_bench::operands<T, R>& x) {
    al::chip::launch<kernel, Order>({al::ceil_div(p.n, kernel::N), al::ceil_div(p.m, kernel::M), 1},
                                    al::view<R>{x.c.data(), &c}, al::view<const T>{x.a.data(), &a},
                                    al::view<const T>{x.b.data(), &b});
  });
}

template <class T>
void add_narrow(const char* type, const problem& p) {
  matmul_bench::add(type, p, "ashlar", by_tiles<T, product_order::unit>);
  matmul_bench::add(type, p, "ashlar_chain", by_tiles<T, product_order::chain>);
#ifdef ASHLAR_BENCH_ONEDNN
  matmul_bench::add(type, p, "onednn", matmul_bench::with_onednn_narrow<T, sum_of<T>>);
#endif
}

const int registered = [] {
  peaks::add();
  for (const bool weights : {false, true}) {
    for (problem p : {problem{256, 256, 256, false}, problem{1024, 1024, 1024, false},
                      problem{2048, 2048, 2048, false}, problem{128, 3072, 768, false},
                      problem{128, 768, 3072, false}, problem{16, 2048, 2048, false},
                      problem{1, 4096, 4096, false}}) {
      p.weights = weights;
      matmul_bench::add("f32", p, "ashlar", by_tiles<float, product_order::unit>);
      if (weights && p.m == 1) {
        matmul_bench::add("f32", p, "ashlar_lanes", by_tiles<float, product_order::lanes>);
      }
      matmul_bench::add("f32", p, "hand", matmul_bench::by_hand<float>);
      matmul_bench::add_peers<float>("f32", p);
    }
    for (problem p : {problem{1024, 1024, 1024, false}, problem{1, 4096, 4096, false}}) {
      p.weights = weights;
      add_narrow<al::bfloat16>("bf16", p);
      add_narrow<std::int8_t>("i8", p);
    }
  }
  return 0;
}();

}  // namespace

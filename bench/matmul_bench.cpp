// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <cstddef>
#include <vector>

#include "matmul_peers.hpp"

// `al::matmul` (`ashlar`; `ashlar_out` into a tensor that is there) and the kernel beneath it
// (`hand`). Products as tile programs are in tile_bench.cpp.
namespace {

using matmul_bench::problem;

template <class T>
void add_all(const char* type, const problem& p) {
  matmul_bench::add(type, p, "ashlar", matmul_bench::by_operator<true, T>);
  matmul_bench::add(type, p, "ashlar_out", matmul_bench::by_operator<false, T>);
  matmul_bench::add(type, p, "hand", matmul_bench::by_hand<T>);
  matmul_bench::add_peers<T>(type, p);
}

const int registered = [] {
  for (const bool weights : {false, true}) {
    for (problem p :
         {problem{8, 128, 128, false}, problem{16, 344, 128, false}, problem{32, 512, 128, false},
          problem{64, 512, 512, false}, problem{1, 64, 64, false}, problem{1, 172, 64, false},
          problem{1, 512, 64, false}, problem{1, 512, 512, false}, problem{256, 256, 256, false},
          problem{1024, 1024, 1024, false}, problem{2048, 2048, 2048, false},
          problem{128, 768, 3072, false}, problem{128, 3072, 768, false}}) {
      p.weights = weights;
      add_all<float>("f32", p);
    }
  }
  add_all<double>("f64", {256, 256, 256, false});
  add_all<double>("f64", {1024, 1024, 1024, false});
  return 0;
}();

}  // namespace

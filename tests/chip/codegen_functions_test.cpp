// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

TEST_CASE_TEMPLATE("chip/codegen: every function of a floating type", T, float, double,
                   al::bfloat16) {
  using exact = tile_kernels::exact_functions<T, 24>;
  using library = tile_kernels::library_functions<T, 24>;
  auto a = random_array<T>({79}, 7);
  auto b = random_array<T>({79}, 8);
  const float nasty[] = {0.0f,
                         -0.0f,
                         1.0f,
                         std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity(),
                         1e-30f};
  for (int i = 0; i < 36; ++i) {
    a[i] = T(nasty[i / 6]);
    b[i] = T(nasty[i % 6]);
  }
  CHECK(agrees<exact>({4, 1, 1}, array<T>({exact::rows, 79}), a.in(), b.in()));
  CHECK(agrees<library>({4, 1, 1}, array<T>({library::rows, 79}), a.in()));
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

TEST_CASE_TEMPLATE("chip/codegen: every operation of an integer type", T, std::int32_t,
                   std::int64_t, std::int8_t, std::uint8_t) {
  using kernel = tile_kernels::integers<T, 24>;
  auto a = random_array<T>({47}, 9);
  auto b = random_array<T>({47}, 10);
  a[0] = std::numeric_limits<T>::min();
  b[0] = static_cast<T>(-1);
  b[1] = 0;
  CHECK(agrees<kernel>({2, 1, 1}, array<T>({kernel::rows, 47}), a.in(), b.in()));
}

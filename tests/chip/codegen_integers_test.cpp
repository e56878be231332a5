// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
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

TEST_CASE("chip/codegen: all codes of the 8-bit floating-point formats") {
  using kernel = tile_kernels::float8_values<48>;
  array<al::float8_e4m3> codes({250});
  auto numbers = random_array<float>({256}, 7);
  const float large[] = {448, 460, 464, 465, 479, 480, 1e9f, 573.44f, 614.0f, 1e30f};
  for (int i = 0; i < 256; ++i) {
    if (i < 250) {
      codes[i].bits = static_cast<std::uint8_t>(i);
    }
    const float scale = i % 3 == 0 ? 1.0f : i % 3 == 1 ? 120.0f : 0.003f;
    numbers[i] =
        i < 20 ? std::copysign(large[i / 2], i % 2 == 0 ? 1.0f : -1.0f) : numbers[i] * scale;
  }
  array<float> y({kernel::rows, 256});
  array<float> expected = y;
  array<al::float8_e5m2> w({256});
  array<al::float8_e5m2> expected_w = w;
  const tile::grid grid{6, 1, 1};
  tile::interpret<al::chip::host_codegen::host_math>(
      tile::program_of<kernel>, grid,
      std::array{tile::argument(codes.in()), tile::argument(numbers.in()),
                 tile::argument(expected.out()), tile::argument(expected_w.out())});
  al::chip::launch<kernel>(grid, codes.in(), numbers.in(), y.out(), w.out());
  CHECK(host_test::same_bits(y, expected));
  CHECK(host_test::same_bits(w, expected_w));
  CHECK(y[0 * 256 + 0x7e] == 448.0f);
  CHECK(y[1 * 256 + 0x7b] == 57344.0f);
  CHECK(y[0 * 256 + 255] == 1.5f);  // outside
}

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

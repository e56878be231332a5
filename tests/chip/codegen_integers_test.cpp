// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"

namespace {

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

/// Every operation of integer tiles.
template <class T, int B>
struct integers {
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<T, 1> z,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    const auto b = tile::load<B>(z, i);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, v, row++, i); };
    put(a + b);
    put(a - b);
    put(a * b);
    put(a / b);
    put(a % b);
    put(a & b);
    put(a | b);
    put(a ^ b);
    put(a << (b & 7));
    put(a >> (b & 7));
    put(~a);
    put(max(a, b));
    put(min(a, b));
    put(select(a < b, a, b));
    put(tile::cast<T>(tile::cast<std::int64_t>(a) * 3));
    put(tile::cast<T>(tile::cast<float>(a) / 2));
  }
  static constexpr int rows = 16;
};

}  // namespace

TEST_CASE_TEMPLATE("chip/codegen: every operation of an integer type", T, std::int32_t,
                   std::int64_t, std::int8_t, std::uint8_t) {
  using kernel = integers<T, 24>;
  auto a = random_array<T>({47}, 9);
  auto b = random_array<T>({47}, 10);
  a[0] = std::numeric_limits<T>::min();
  b[0] = static_cast<T>(-1);
  b[1] = 0;
  CHECK(agrees<kernel>({2, 1, 1}, array<T>({kernel::rows, 47}), a.in(), b.in()));
}

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

/// Every elementwise function of floating-point tiles.
template <class T, int B>
struct functions {
  constexpr void operator()(tile::scope& k, tile::in<T, 1> x, tile::in<T, 1> z,
                            tile::out<T, 2> y) const {
    const auto i = k.program_id(0) * B;
    const auto a = tile::load<B>(x, i);
    const auto b = tile::load<B>(z, i);
    int row = 0;
    const auto put = [&](auto v) { tile::store(y, v, row++, i); };
    put(exp(a));
    put(log(abs(a)));
    put(sqrt(abs(a)));
    put(rsqrt(abs(a) + 1));
    put(tanh(a));
    put(sigmoid(a));
    put(erf(a));
    put(floor(a * 3));
    put(-a);
    put(a + b);
    put(a - b);
    put(a * b);
    put(a / b);
    put(max(a, b));
    put(min(a, b));
    put(fma(a, b, a));
    put(select(a < b, a, b * 2));
    put(select((a <= b) & !(a == b), b, 1));
    put(select((a != b) | (b > 0), a, 0));
    put(tile::cast<T>(tile::cast<std::int32_t>(a * 100) + 1));
    put(tile::cast<T>(tile::cast<float>(a)));
    put(tile::cast<T>(tile::cast<al::bfloat16>(a)));
    put(tile::cast<T>(tile::cast<al::float16>(a, tile::rounding::toward_zero)));
    put(tile::cast<T>(tile::cast<double>(a) / 3));
  }
  static constexpr int rows = 24;
};

}  // namespace

TEST_CASE_TEMPLATE("chip/codegen: every function of a floating type", T, float, double,
                   al::bfloat16) {
  using kernel = functions<T, 40>;
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
  CHECK(agrees<kernel>({2, 1, 1}, array<T>({kernel::rows, 79}), a.in(), b.in()));
}

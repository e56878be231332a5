// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;
using host_test::same_bits;
using tile_kernels::places;
using tile_kernels::shapes;
using tile_kernels::softmax;

namespace {

template <int B>
struct line {
  static constexpr auto name = "line";
  constexpr void operator()(tile::scope& k, tile::out<float, 1> y, tile::in<float, 1> x) const {
    const auto at = k.program_id(0) * B;
    tile::store(y, tile::max(tile::load<B>(x, at) * 2 + 1, 0), at);
  }
};

}  // namespace

TEST_CASE("chip/codegen: rows that end inside a block, and views with strides") {
  for (const std::int64_t n : {1, 15, 16, 17, 63, 64, 65, 131}) {
    CAPTURE(n);
    const auto x = random_array<float>({3, n}, 1);
    CHECK(agrees<softmax<64>>({3, 1, 1}, array<float>({3, n}), x.in()));
    CHECK(agrees<softmax<7>>({3, 1, 1}, array<float>({3, n}), x.in()));
    auto turned = random_array<float>({n, 3}, 2);
    std::swap(turned.spec.extent[0], turned.spec.extent[1]);
    std::swap(turned.spec.stride[0], turned.spec.stride[1]);
    CHECK(agrees<softmax<64>>({3, 1, 1}, array<float>({3, n}), turned.in()));
  }
}

TEST_CASE("chip/codegen: shapes, reductions and scans") {
  const auto run = [&]<int A, int B>(std::integer_sequence<int, A, B>) {
    using kernel = shapes<A, B>;
    const auto x = random_array<float>({A, B}, 11);
    return agrees<kernel>({1, 1, 1}, array<float>({kernel::size}), x.in());
  };
  CHECK(run(std::integer_sequence<int, 4, 32>{}));
  CHECK(run(std::integer_sequence<int, 33, 5>{}));
}

TEST_CASE("chip/codegen: gather, scatter, atomics, branches and loops that depend on values") {
  const auto x = random_array<float>({5, 20}, 12);
  array<std::int64_t> at({20});
  for (std::int64_t i = 0; i < 20; ++i) {
    at[i] = (i * 7) % 11 - 3;  // some places are outside
  }
  al::chip::thread_limit one(1);  // the interpreter's order of atomics
  CHECK(agrees<places<20>>({4, 1, 1}, random_array<float>({5, 20}, 13), x.in(), at.in(), 3.0f));
}

TEST_CASE("chip/codegen: a result larger than caches is written past them, wherever it begins") {
  constexpr std::int64_t n = (8 << 20) + 37;  // 32 MiB, and the edge of a block
  const auto x = random_array<float>({n}, 14);
  for (const std::int64_t first : {0, 1, 16}) {
    CAPTURE(first);
    array<float> y({n + 32});
    al::tensor_spec spec = x.spec;
    spec.offset = 0;
    // Of all places modulo a cache line one is where registers are.
    const auto aligned = static_cast<std::int64_t>(
        (64 - reinterpret_cast<std::uintptr_t>(y.data()) % 64) % 64 / sizeof(float));
    float* const from = y.data() + (aligned + first) % 32;
    al::chip::launch<line<64>>({(n + 63) / 64, 1, 1}, al::view<float>{from, &spec}, x.in());
    bool equal = true;
    for (std::int64_t i = 0; i < n; ++i) {
      equal = equal && from[i] == std::max(x[i] * 2 + 1, 0.0f);
    }
    CHECK(equal);
    CHECK(std::all_of(y.data(), from, [](float v) { return v == 0; }));
    CHECK(std::all_of(from + n, y.data() + y.size(), [](float v) { return v == 0; }));
  }
}

TEST_CASE("chip/codegen: a launch that cannot be is refused, and nothing is written") {
  array<float> y({4, 4});
  const array<float> flat({16});
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({4, 1, 1}, flat.in(), y.out()), tile::launch_error);
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({-1, 1, 1}, y.in(), y.out()), tile::launch_error);
  CHECK_THROWS_AS(al::chip::launch<softmax<64>>({4, 1, 1}, y.in(), y.in()), tile::launch_error);
  al::chip::launch<softmax<64>>({0, 1, 1}, y.in(), y.out());
  CHECK(same_bits(y, array<float>({4, 4})));
}

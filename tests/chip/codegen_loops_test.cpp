// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <utility>

#include "ashlar/chip/host/codegen.hpp"
#include "chip/codegen_support.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using codegen_test::agrees;
using codegen_test::random_array;
using host_test::array;

namespace {

/// Streams a line and keeps a sum; where the counter stands, lines may reach over any edge.
template <int B>
struct stream {
  static constexpr auto name = "stream";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x,
                            tile::in<float, 1> w, tile::arg<std::int64_t> row,
                            tile::arg<std::int64_t> first, tile::arg<std::int64_t> end,
                            tile::arg<std::int64_t> step) const {
    const auto sum = k.loop(
        first, end, step,
        [&](tile::index c, auto acc) {
          const auto v = tile::load<B>(x, row, c) * tile::load<B>(w.outside(3), c);
          tile::store(y, v + acc, 0, c);
          return acc + v;
        },
        k.zeros<float, B>());
    tile::store(y, sum, 1, 0);
  }
};

/// The counter is a row, the diagonal, or not there at all.
struct down {
  static constexpr auto name = "down";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x,
                            tile::arg<std::int64_t> column, tile::arg<std::int64_t> first,
                            tile::arg<std::int64_t> end) const {
    const auto sum = k.loop(
        first, end, 1,
        [&](tile::index r, auto acc) {
          const auto scale = tile::load(x, r, 0);
          const auto diagonal = tile::load<16>(x, r, r);
          return acc + tile::load<32>(x, r, column) * scale +
                 tile::load<32>(x, 1, column) * tile::max<0>(diagonal);
        },
        k.zeros<float, 32>());
    tile::store(y, sum, 0, 0);
  }
};
/// The same without the reduction, which no loop over lines may hold.
struct down_lines {
  static constexpr auto name = "down_lines";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x,
                            tile::arg<std::int64_t> column, tile::arg<std::int64_t> first,
                            tile::arg<std::int64_t> end) const {
    const auto sum = k.loop(
        first, end, 1,
        [&](tile::index r, auto acc) {
          const auto scale = tile::load(x, r, 0);
          return acc + tile::load<32>(x, r, column) * scale + tile::load<32>(x, 1, column) -
                 tile::load<32>(x, r, r);
        },
        k.zeros<float, 32>());
    tile::store(y, sum, 0, 0);
  }
};

/// Each round reads what the round before wrote.
struct shift {
  static constexpr auto name = "shift";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y,
                            tile::arg<std::int64_t> end) const {
    k.loop(0, end, 16, [&](tile::index c) {
      const auto before = tile::load<16>(y, 0, c);
      tile::store(y, before * 2 + 1, 1, c);
      tile::store(y, before + 1, 0, c);
    });
    k.loop(0, end, 8, [&](tile::index c) {
      const auto before = tile::load<16>(y, 1, c);
      tile::store(y, before + 1, 1, c);
    });
  }
};

template <class T>
array<T> with_turned_axes(array<T> x) {
  std::swap(x.spec.extent[0], x.spec.extent[1]);
  std::swap(x.spec.stride[0], x.spec.stride[1]);
  return x;
}

}  // namespace

TEST_CASE("chip/codegen: loops over lines that begin before a view, end after it and overlap") {
  static_assert(
      al::chip::host_codegen::facts<al::chip::host_codegen::source<stream<48>>>::is_staged([] {
        const auto& code = al::chip::host_codegen::source<stream<48>>::code;
        int i = 0;
        while (code.at(i).op != tile::opcode::loop) {
          ++i;
        }
        return i;
      }()),
      "the loop of this kernel is one over lines");
  for (const std::int64_t n : {1, 16, 47, 48, 97, 200}) {
    CAPTURE(n);
    const auto x = random_array<float>({3, n}, 1);
    const auto turned = with_turned_axes(random_array<float>({n, 3}, 2));
    const auto w = random_array<float>({n > 60 ? n - 20 : n}, 3);
    const array<float> y({2, n});
    for (const std::int64_t step : {1, 16, 48, 100}) {
      CAPTURE(step);
      for (const std::int64_t row : {0, 2, 3}) {
        CHECK(agrees<stream<48>>({1, 1, 1}, y, x.in(), w.in(), row, std::int64_t{0}, n, step));
        CHECK(agrees<stream<48>>({1, 1, 1}, y, turned.in(), w.in(), row, std::int64_t{-70}, n + 70,
                                 step));
      }
    }
    CHECK(agrees<stream<256>>({1, 1, 1}, y, x.in(), w.in(), std::int64_t{1}, std::int64_t{-256}, n,
                              std::int64_t{256}));
    CHECK(agrees<stream<48>>({1, 1, 1}, y, x.in(), w.in(), std::int64_t{1}, n, n, std::int64_t{1}));
  }
}

TEST_CASE("chip/codegen: loops over lines whose counter is another axis, or both") {
  for (const std::int64_t rows : {1, 2, 40}) {
    for (const std::int64_t columns : {1, 31, 32, 70}) {
      const auto x = random_array<float>({rows, columns}, 4);
      const array<float> y({1, 32});
      constexpr auto far = std::numeric_limits<std::int64_t>::min();
      for (const std::int64_t column :
           {std::int64_t{-1}, std::int64_t{0}, std::int64_t{7}, std::int64_t{64}, far}) {
        CAPTURE(columns);
        CAPTURE(column);
        CHECK(agrees<down>({1, 1, 1}, y, x.in(), column, std::int64_t{-2}, rows + 2));
        CHECK(agrees<down_lines>({1, 1, 1}, y, x.in(), column, std::int64_t{-2}, rows + 2));
      }
    }
  }
}

TEST_CASE("chip/codegen: a round of a loop reads what the round before wrote") {
  for (const std::int64_t n : {5, 16, 40, 64, 65}) {
    CHECK(agrees<shift>({1, 1, 1}, random_array<float>({2, n}, 5), n));
  }
}

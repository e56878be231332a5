// SPDX-License-Identifier: Apache-2.0
// A kernel in the tile language: what it says, the program that comes of it, and native code.
#include <array>
#include <ashlar/chip/host/codegen.hpp>
#include <ashlar/core.hpp>
#include <ashlar/tile.hpp>
#include <cmath>
#include <cstdio>
#include <vector>
namespace al = ashlar;
namespace tile = ashlar::tile;

/// y = gelu(a b + bias), one tile of M x N per program, K at a time.
template <int M, int N, int K>
struct dense_gelu {
  static constexpr auto name = "dense_gelu";

  constexpr void operator()(tile::scope& k, tile::in<float, 2> a, tile::in<float, 2> b,
                            tile::in<float, 1> bias, tile::out<float, 2> y) const {
    const auto row = k.program_id(0) * M;
    const auto column = k.program_id(1) * N;
    const auto sum = k.loop(
        0, a.extent(1), K,
        [&](tile::index i, auto acc) {
          const auto x = tile::load<M, K>(a, row, i);  // what lies outside reads as 0
          const auto w = tile::load<K, N>(b, i, column);
          return tile::dot(x, w, acc);
        },
        k.zeros<float, M, N>());
    const auto shifted = sum + tile::load<N>(bias, column);  // [M, N] + [N]
    tile::store(y, tile::fn::gelu{}(shifted), row, column);  // what lies outside is dropped
  }
};

int main() {
  using kernel = dense_gelu<8, 48, 32>;
  constexpr const tile::program& program = tile::program_of<kernel>;  // made by the compiler
  static_assert(tile::verify(program));
  std::printf("%s", tile::print(program).c_str());

  constexpr std::int64_t m = 37, n = 101, depth = 53;  // no multiples of the block sizes
  const auto filled = [](std::int64_t size, double step) {
    std::vector<float> x(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(std::sin(step * static_cast<double>(i)));
    }
    return x;
  };
  const std::vector<float> a = filled(m * depth, 0.1);
  const std::vector<float> b = filled(depth * n, 0.7);
  const std::vector<float> bias = filled(n, 0.3);
  std::vector<float> y(static_cast<std::size_t>(m * n));

  const auto spec = [](std::initializer_list<std::int64_t> extents) {
    return al::contiguous_spec(al::dtype::float32, extents);
  };
  const auto a_spec = spec({m, depth});
  const auto b_spec = spec({depth, n});
  const auto bias_spec = spec({n});
  const auto y_spec = spec({m, n});
  al::chip::launch<kernel>(
      {(m + 7) / 8, (n + 47) / 48, 1},  // native code, made here
      al::view<const float>{a.data(), &a_spec}, al::view<const float>{b.data(), &b_spec},
      al::view<const float>{bias.data(), &bias_spec}, al::view<float>{y.data(), &y_spec});

  double worst = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double x = bias[static_cast<std::size_t>(j)];
      for (std::int64_t k = 0; k < depth; ++k) {
        x += static_cast<double>(a[static_cast<std::size_t>(i * depth + k)]) *
             static_cast<double>(b[static_cast<std::size_t>(k * n + j)]);
      }
      const double expected = 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
      worst = std::max(
          worst, std::abs(expected - static_cast<double>(y[static_cast<std::size_t>(i * n + j)])));
    }
  }
  std::printf("largest difference from double precision: %s 1e-5\n",
              worst < 1e-5 ? "below" : "ABOVE");
  return worst < 1e-5 ? 0 : 1;
}

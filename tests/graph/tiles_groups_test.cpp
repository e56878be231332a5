// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <utility>

#include "ashlar/ops/matmul.hpp"
#include "graph/tiles_support.hpp"

using namespace tiles_support;
using host = ashlar::chip::host;

namespace {

constexpr graph::fusion_options by_blocks{};
constexpr graph::fusion_options by_programs{.host_blocks = false};
// 0, 1, primes, tails of sixteen lanes and of tiles; the last two are several blocks of 64 KiB.
constexpr std::array<std::pair<std::int64_t, std::int64_t>, 8> sizes{
    {{0, 3}, {1, 1}, {3, 17}, {7, 64}, {129, 31}, {3, 5003}, {401, 101}, {2, 17001}}};

template <class T, class F>
void check_all(const F& f, const graph::fusion_options& options, expectations e = {}) {
  for (const auto& [rows, columns] : sizes) {
    check_size<host, T>(f, options, e, rows, columns);
  }
}

/// Squares are added up after they are rounded, in place of multiply-adds: each of n / 16 + 4 sums
/// of a lane may differ by one rounding, and rows of about one size come out of about one.
expectations up_to_rounding(std::int64_t columns) {
  return {.bound = 4.0 * (static_cast<double>(columns) / 16 + 8) * 1.2e-7};
}

}  // namespace

TEST_CASE("graph/tiles: a chain of elementwise calls is one kernel with their bits") {
  check_all<float>(chain{}, by_blocks);
  check_all<float>(chain{}, by_programs);
  check_all<ashlar::bfloat16>(chain{}, by_programs);
}
TEST_CASE("graph/tiles: conditions, choices and casts are part of it") {
  const expectations apart{.kernels = 2};  // the numbers of another type need nothing of the rest
  check_all<float>(choice{}, by_blocks, apart);
  check_all<float>(choice{}, by_programs, apart);
}
TEST_CASE("graph/tiles: reductions of rows and softmax join what is around them") {
  check_all<float>(softmaxes{}, by_blocks);
  check_all<float>(reductions{}, by_blocks);
  const graph::fusion_options same{.reorder_sums = false, .host_blocks = false};
  for (const auto& [rows, columns] : sizes) {
    if (columns <= 4096) {  // more than a sum has in one go
      check_size<host, float>(softmaxes{}, same, {}, rows, columns);
      check_size<host, float>(reductions{}, same, {}, rows, columns);
    }
  }
}
TEST_CASE("graph/tiles: normalisation joins what is around it, up to the order of sums") {
  check_all<float>(norms{}, by_blocks);
  for (const auto& [rows, columns] : sizes) {
    if (columns <= 16384) {  // more than a tile has
      check_size<host, float>(norms{}, by_programs, up_to_rounding(columns), rows, columns);
    }
  }
}
TEST_CASE("graph/tiles: products of rows are in one kernel with what is around them") {
  using X = on<float, host>;
  const X up = al::scale(al::randn<X>({515, 64}, 1), 0.1);
  const X down = al::scale(al::randn<X>({64, 515}, 2), 0.1);
  const X bias = al::randn<X>({64}, 3);
  const auto f = [&](const auto& x) {
    const auto wide = al::gelu_tanh(al::linear(al::rms_norm(x, bias, 1e-5), up));
    return std::tuple(al::add(x, al::linear(wide, down, bias)));
  };
  for (const std::int64_t rows : {0, 1, 7, 1201}) {  // the last one: three blocks
    CAPTURE(rows);
    check_group<host>(f, by_blocks, {}, al::randn<X>({rows, 64}, 4));
    check_group<host>(f, by_blocks, {}, al::randn<X>({2, rows, 64}, 5));
  }
}
TEST_CASE("graph/tiles: a compiled graph takes other strides than those it was captured with") {
  using X = on<float, host>;
  const auto f = [](const auto& x, const auto& y) { return al::exp(al::mul(x, al::add(x, y))); };
  const X x = al::randn<X>({6, 5, 4, 3, 2, 2}, 1);
  const X y = al::randn<X>({4, 1, 2, 1}, 2);
  const X other = al::permute(al::randn<X>({2, 2, 3, 4, 5, 6}, 3), al::shape{5, 4, 3, 2, 1, 0});
  for (const auto& options : {by_blocks, by_programs}) {
    auto compiled = graph::tiles<host>{.options = options}.compile(graph::capture(f, x, y));
    CHECK(compiled.kernels().size() == 1);
    for (const X& a : {x, other, x}) {
      check_equal(X(compiled(a, y)[0]), f(a, y), 0);
    }
  }
}

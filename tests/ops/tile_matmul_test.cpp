// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/tile/matmul.hpp"
#include "support/tile_chip.hpp"

using namespace tile_test;

namespace {
/// Chains over K of products of at most 4.
tolerance chain(std::int64_t k) {
  return {static_cast<double>(k) + 1, 4.0 * static_cast<double>(k) + 2};
}
}  // namespace

TEST_CASE_TEMPLATE("ops/tile_matmul: one over and one under the blocks", T, float, al::bfloat16,
                   std::int32_t) {
  constexpr auto blocks = al::ops::detail::product_blocks<tile_chip, T>;
  for (const std::int64_t m : {0, 1, blocks.m - 1, blocks.m + 1}) {
    for (const std::int64_t n : {1, blocks.n - 1, blocks.n + 1}) {
      for (const std::int64_t k : {0, 1, blocks.k - 1, blocks.k + 1}) {
        const auto a = twins::numbers<twins::plain<T>>({m, k}, 1);
        const auto b = twins::numbers<twins::plain<T>>({k, n}, 2);
        check_both(
            chain(k), [](const auto& x, const auto& y) { return al::matmul(x, y); }, a, b);
      }
    }
  }
}

namespace {
/// As `tile_chip`, with blocks of its own.
struct small_blocks : al::chip::default_blocks {
  static constexpr al::chip::matmul_blocks product(const al::chip_description&,
                                                   const al::chip::matmul_work&) {
    return {5, 7, 3};
  }
};
struct own_chip {
  static constexpr al::chip_description description{.name = "own_chip"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using blocks = small_blocks;
  struct codegen {
    static void run(al::context<own_chip>&, const al::tile::program& program,
                    const al::tile::grid& grid, std::span<const al::tile::argument> arguments) {
      al::tile::interpret(program, grid, arguments);
      places += grid[0] * grid[1] * grid[2];
    }
  };
  static inline std::int64_t places = 0;
};
}  // namespace

TEST_CASE("ops/tile_matmul: a chip sets its blocks, and results keep their bits") {
  using X = twins::plain<float>;
  using own = al::tensor<float, al::make_key_set<al::keys::backend<own_chip>>>;
  const X a = twins::numbers<X>({11, 10}, 1);
  const X b = twins::numbers<X>({10, 15}, 2);
  own_chip::places = 0;
  const own c = al::matmul(al::detail::carried<own>(a), al::detail::carried<own>(b));
  CHECK(own_chip::places == 3 * 3);  // blocks of 5 rows and 7 columns
  CHECK(al::to_vector(al::detail::carried<X>(c)) ==
        al::to_vector(back(al::matmul(moved(a), moved(b)))));
}

TEST_CASE("ops/tile_matmul: the axes in front broadcast, and transposed operands are views") {
  using X = twins::plain<float>;
  const auto run = [](const al::shape& left, const al::shape& right, std::int64_t k) {
    const auto product = [](const auto& x, const auto& y) { return al::matmul(x, y); };
    check_both(chain(k), product, twins::numbers<X>(left, 1), twins::numbers<X>(right, 2));
  };
  run({3, 2, 5}, {5, 7}, 5);
  run({2, 1, 3, 5}, {4, 5, 2}, 5);
  run({2, 1, 2, 3, 4}, {3, 1, 4, 2}, 4);
  const auto a = twins::numbers<X>({7, 3}, 1);
  const auto b = twins::numbers<X>({5, 7}, 2);
  check_both(
      chain(7),
      [](const auto& x, const auto& y) {
        return al::matmul(al::transpose(x, 0, 1), al::transpose(y, 0, 1));
      },
      a, b);
}

TEST_CASE_TEMPLATE("ops/tile_matmul: linear layers with and without bias", T, float, al::bfloat16) {
  using X = twins::plain<T>;
  for (const al::shape& s : {al::shape{17}, {3, 17}, {2, 3, 17}, {0, 17}}) {
    const auto x = twins::numbers<X>(s, 1);
    const auto w = twins::numbers<X>({65, 17}, 2);
    const auto b = twins::numbers<X>({65}, 3);
    check_both(
        chain(17), [](const auto& v, const auto& y) { return al::linear(v, y); }, x, w);
    check_both(
        chain(17), [](const auto& v, const auto& y, const auto& z) { return al::linear(v, y, z); },
        x, w, b);
  }
}

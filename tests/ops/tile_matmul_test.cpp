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
  for (const std::int64_t m : {0, 1, 15, 17}) {
    for (const std::int64_t n : {1, 63, 65}) {
      for (const std::int64_t k : {0, 1, 31, 33}) {
        const auto a = twins::numbers<twins::plain<T>>({m, k}, 1);
        const auto b = twins::numbers<twins::plain<T>>({k, n}, 2);
        check_both(
            chain(k), [](const auto& x, const auto& y) { return al::matmul(x, y); }, a, b);
      }
    }
  }
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

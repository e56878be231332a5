// SPDX-License-Identifier: Apache-2.0
// Which operators a chip has that only runs tile programs: all but views, which need no kernel.
#include <utility>

#include "ashlar/ops.hpp"
#include "ashlar/ops/tile.hpp"
#include "support/tile_chip.hpp"

namespace al = ashlar;
using tile_test::tile_chip;

namespace {

constexpr auto covered = al::coverage<tile_chip>();
static_assert(covered.count(al::found::missing) == 0);
static_assert(covered.count(al::found::composite) == 2);  // reshape and contiguous
static_assert(covered.count(al::found::tile) + covered.count(al::found::view) + 2 ==
              covered.rows.size());

}  // namespace

namespace {

template <class Chip>
auto gradients() {
  using X = al::tensor<float, al::make_key_set<al::keys::autograd, al::keys::backend<Chip>>>;
  const auto leaf = [](const al::shape& s, int salt) {
    const auto values = al::to_vector(twins::numbers<twins::plain<float>>(s, salt));
    return al::require_grad(al::from_values<X>(s, values));
  };
  const X x = leaf({3, 5}, 1);
  const X w = leaf({7, 5}, 2);
  al::backward(al::mean(al::square(al::tanh(al::linear(x, w)))));
  return std::pair(al::to_vector(al::gradient(x)), al::to_vector(al::gradient(w)));
}

}  // namespace

TEST_CASE("ops/tile_coverage: gradients on a chip with nothing but tile programs are the host's") {
  const auto here = gradients<al::chip::host>();
  const auto there = gradients<tile_chip>();
  for (std::size_t i = 0; i < here.first.size(); ++i) {  // a few dozen roundings of 2^-24
    CHECK(there.first[i] == doctest::Approx(here.first[i]).epsilon(1e-5));
  }
  for (std::size_t i = 0; i < here.second.size(); ++i) {
    CHECK(there.second[i] == doctest::Approx(here.second[i]).epsilon(1e-5));
  }
}

// SPDX-License-Identifier: Apache-2.0
// Tile programs write to outputs with any strides: all forms agree on a chip that has only those.
#include "ashlar/ops/tile.hpp"
#include "support/tile_chip.hpp"

using namespace twins;

namespace {
using real = tile_test::on_tiles<float>;
using ids = tile_test::on_tiles<std::int32_t>;
template <class Op>
constexpr al::op_function<Op> of;
}  // namespace

TEST_CASE("ops/tile: all forms of elementwise operators and copies agree") {
  const auto x = numbers<real>({2, 3, 5}, 1);
  check_forms(al::add, x, numbers<real>({3, 1}, 2));
  check_forms(al::scale, x, 2.0);
  check_output(al::lt, x, numbers<real>({5}, 2));
  check_output(al::cast<double>, x);
  check_forms(al::fill, x, 3.0);
  check_forms(al::uniform, x, 7);
  check_output(al::cat, x, x, 1);
  check_output(of<al::ops::slice_backward>, numbers<real>({2, 1}, 1), al::shape{2, 3},
               std::int64_t{1}, std::int64_t{1}, std::int64_t{2}, std::int64_t{1});
}

TEST_CASE("ops/tile: all forms of reductions agree") {
  const auto x = numbers<real>({2, 3, 5}, 1);
  check_output(al::sum, x, 1);
  check_output(al::max, x, al::shape{0, 2}, true);
  check_output(al::argmax, x, -1);
  check_output(al::sum_to, x, al::shape{3, 1});
  check_output(al::sum_squares, x);
  check_forms(al::softmax, x, 1);
  check_output(al::cross_entropy, numbers<real>({2, 7}, 1), al::from_values<ids>({2}, {3, 0}));
}

TEST_CASE("ops/tile: all forms of layers agree") {
  const auto x = numbers<real>({2, 3, 5}, 1);
  const auto c = numbers<real>({5}, 2);
  check_forms(al::matmul, numbers<real>({5, 5}, 1), numbers<real>({5, 5}, 2));
  check_forms(al::linear, x, numbers<real>({5, 5}, 3), c);
  check_forms(al::layer_norm, x, c, c);
  check_output(of<al::ops::rms_norm_backward_weight>, x, x, 1e-3);
  check_output(of<al::ops::layer_norm_backward_weight>, x, x, 1e-3);
  const auto rows = al::from_values<ids>({2, 3}, {3, 0, 0, 2, 1, 3});
  check_output(of<al::ops::embedding_backward>, x, rows, std::int64_t{4});
  check_forms(al::rope, numbers<real>({3, 1, 4}, 1), al::from_values<ids>({3}, {0, 5, 2}), 100.0,
              true);
  const auto q = numbers<real>({1, 2, 3, 4}, 1);
  const auto k = numbers<real>({1, 1, 5, 4}, 2);
  check_forms(al::scaled_dot_product_attention, q, k, k, true);
  const auto y = al::scaled_dot_product_attention(q, k, k, true, 0.3);
  check_output(of<al::ops::scaled_dot_product_attention_backward>, q, q, k, k, y, true, 0.3);
}

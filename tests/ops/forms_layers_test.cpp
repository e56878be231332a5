// SPDX-License-Identifier: Apache-2.0
// Functional, out= and in-place forms of layers are one definition.
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/paged_attention.hpp"
#include "ashlar/ops/rope.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {
using real = plain<float>;
using ids = plain<std::int32_t>;
template <class Op>
constexpr al::op_function<Op> of;
}  // namespace

TEST_CASE("ops/matmul: all forms agree for operands of any rank") {
  const std::vector<std::pair<al::shape, al::shape>> pairs{
      {{3, 3}, {3, 3}}, {{2, 5}, {5, 3}}, {{2, 1, 4, 5}, {3, 5, 2}}, {{0, 3}, {3, 2}},
      {{2, 0}, {0, 3}}, {{5}, {5, 2}},    {{3, 2, 5}, {5}},          {{5}, {5}}};
  for (const auto& [a, b] : pairs) {
    check_forms(al::matmul, numbers<real>(a, 1), numbers<real>(b, 2));
  }
  const auto i = numbers<ids>({2, 3}, 1);
  check_output(al::matmul, i, numbers<real>({3}, 2));
}

TEST_CASE("ops/matmul: all forms of a linear layer agree, with a bias and without") {
  const auto w = numbers<real>({5, 5}, 2);
  const auto b = numbers<real>({5}, 3);
  for (const al::shape& s : {al::shape{5}, {1, 5}, {2, 3, 5}, {0, 5}}) {
    check_forms(al::linear, numbers<real>(s, 1), w);
    check_forms(al::linear, numbers<real>(s, 1), w, b);
  }
  check_output(al::linear, numbers<real>({2, 5}, 1), numbers<real>({3, 5}, 2));
  check_output(al::linear, numbers<real>({2, 5}, 1), numbers<real>({3, 5}, 2),
               numbers<real>({3}, 4));
}

TEST_CASE("ops/norm: all forms agree, with several results too") {
  for (const al::shape& s : {al::shape{7}, {2, 3, 17}, {0, 3}}) {
    const auto x = numbers<real>(s, 1);
    const auto g = numbers<real>(s, 2);
    const auto c = numbers<real>({s[s.rank() - 1]}, 3);
    check_forms(al::rms_norm, x, c);
    check_forms(al::rms_norm, x, c, 1e-3);
    check_forms(al::layer_norm, x, c, c);
    check_forms(of<al::ops::rms_norm_backward_x>, g, x, c, 1e-3);
    check_forms(of<al::ops::layer_norm_backward_x>, g, x, c, 1e-3);
    check_output(of<al::ops::rms_norm_backward_weight>, g, x, 1e-3);
    check_output(of<al::ops::layer_norm_backward_weight>, g, x, 1e-3);
  }
  const auto x = numbers<real>({3, 2}, 1);
  std::tuple<real, real> both;
  al::op_function<al::ops::layer_norm_backward_weight> f;
  std::get<0>(both) = al::zeros<real>({2});
  std::get<1>(both) = std::get<0>(both);
  CHECK_THROWS_AS(f.out(both, x, x, 1e-3), al::overlap_error);
  std::get<1>(both) = al::zeros<real>({3});
  CHECK_THROWS_AS(f.out(both, x, x, 1e-3), al::output_error);
}

TEST_CASE("ops/norm: several outputs are not recorded, and are written without the tape") {
  const leaf x = numbers<leaf>({3, 2}, 1);
  const auto plain_x = al::without<al::keys::autograd>(x);
  al::require_grad(x);
  std::tuple<leaf, leaf> both;
  al::op_function<al::ops::layer_norm_backward_weight> f;
  CHECK_THROWS_AS(f.out(both, x, x, 1e-3), al::not_recordable);
  CHECK_FALSE(std::get<0>(both));
  std::tuple<leaf, leaf> wanted{al::zeros<leaf>({2}), al::zeros<leaf>({2})};
  al::require_grad(std::get<1>(wanted));
  CHECK_THROWS_AS(f.out(wanted, al::detach(x), al::detach(x), 1e-3), al::not_recordable);
  const al::no_grad off;
  f.out(both, x, x, 1e-3);
  check_same(al::without<al::keys::autograd>(std::get<1>(both)),
             std::get<1>(f(plain_x, plain_x, 1e-3)));
}

TEST_CASE("ops/embedding: all forms agree") {
  const auto rows = al::from_values<ids>({2, 2}, {3, 0, 0, 2});
  check_output(al::embedding, numbers<real>({4, 3}, 1), rows);
  check_output(of<al::ops::embedding_backward>, numbers<real>({2, 2, 3}, 1), rows, std::int64_t{4});
}

TEST_CASE("ops/rope: all forms agree") {
  const auto positions = al::from_values<ids>({3}, {0, 5, 2});
  check_forms(al::rope, numbers<real>({2, 3, 2, 6}, 1), positions, 100, true);
  check_forms(al::rope, numbers<real>({3, 1, 4}, 1), positions, 100.0, false, true);
}

TEST_CASE("ops/attention: all forms agree, with several results too") {
  const auto q = numbers<real>({2, 4, 3, 5}, 1);
  const auto k = numbers<real>({2, 2, 6, 5}, 2);
  const auto v = numbers<real>({2, 2, 6, 5}, 3);
  check_forms(al::scaled_dot_product_attention, q, k, v);
  check_forms(al::scaled_dot_product_attention, q, k, v, true);
  check_forms(al::scaled_dot_product_attention, q, k, v, true, 0.3);
  const auto y = al::scaled_dot_product_attention(q, k, v, true, 0.3);
  check_output(of<al::ops::scaled_dot_product_attention_backward>, numbers<real>({2, 4, 3, 5}, 4),
               q, k, v, y, true, 0.3);
}

TEST_CASE("ops/paged_attention: all forms agree") {
  const auto q = numbers<real>({3, 4, 5}, 1);
  const auto keys = numbers<real>({4, 2, 5, 2}, 2);
  const auto values = numbers<real>({4, 2, 2, 5}, 3);
  const auto tables = al::from_values<ids>({2, 2}, {3, 1, 0, 2});
  const auto sequence = al::from_values<ids>({3}, {0, 1, 0});
  const auto position = al::from_values<ids>({3}, {3, 1, 0});
  check_forms(al::paged_attention, q, keys, values, tables, sequence, position, 0.3);
}

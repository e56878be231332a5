// SPDX-License-Identifier: Apache-2.0
// Which operators a chip has that only runs tile programs: all but views, which need no kernel.
#include <utility>

#include "ashlar/ops.hpp"
#include "ashlar/ops/tile.hpp"
#include "support/tile_chip.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using tile_test::tile_chip;

template <class... Op>
constexpr bool all_by_tiles() {
  return ((al::rule<Op, al::keys::backend<tile_chip>>() == al::found::tile) && ...);
}

static_assert(
    all_by_tiles<ops::add, ops::sub, ops::mul, ops::div, ops::neg, ops::abs, ops::sign, ops::square,
                 ops::maximum, ops::minimum, ops::scale, ops::pow, ops::exp, ops::log, ops::sqrt,
                 ops::rsqrt, ops::tanh, ops::sigmoid, ops::relu, ops::gelu, ops::gelu_tanh,
                 ops::silu, ops::tanh_backward, ops::sigmoid_backward, ops::relu_backward,
                 ops::gelu_backward, ops::gelu_tanh_backward, ops::silu_backward, ops::eq, ops::ne,
                 ops::lt, ops::le, ops::gt, ops::ge, ops::logical_not, ops::where>());
static_assert(all_by_tiles<ops::slice_backward, ops::cast<float>, ops::copy, ops::clone, ops::cat,
                           ops::fill, ops::arange, ops::uniform, ops::normal>());
static_assert(
    all_by_tiles<ops::sum, ops::mean, ops::max, ops::min, ops::argmax, ops::sum_to,
                 ops::sum_squares, ops::softmax, ops::softmax_backward, ops::log_softmax,
                 ops::log_softmax_backward, ops::cross_entropy, ops::cross_entropy_backward>());
static_assert(
    all_by_tiles<ops::matmul, ops::linear, ops::linear_bias, ops::embedding,
                 ops::embedding_backward, ops::rms_norm, ops::rms_norm_backward_x,
                 ops::rms_norm_backward_weight, ops::layer_norm, ops::layer_norm_backward_x,
                 ops::layer_norm_backward_weight, ops::rope, ops::scaled_dot_product_attention,
                 ops::scaled_dot_product_attention_backward, ops::paged_attention, ops::cache_write,
                 ops::adamw_step, ops::sgd_step>());

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

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <string>
#include <type_traits>

#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops.hpp"
#include "ops/twins.hpp"

/// Every differentiable operator belongs to a family, and each family's test has a check for each
/// of its operators: one with a derivative and without a check does not compile.
namespace twins {

namespace ops = ashlar::ops;

/// `Checks::of(std::type_identity<Op>)` compares the gradients of one operator with differences.
template <class Checks, class... Op>
void check_family(ops::operators<Op...>) {
  const auto check = []<class One>(std::type_identity<One> op) {
    const int before = second_gradients_checked;
    Checks::of(op);
    CHECK_MESSAGE(second_gradients_checked > before, "call check_second_gradient in the check of ",
                  std::string(One::name));
  };
  (check(std::type_identity<Op>{}), ...);
}

namespace family {
using arithmetic = ops::operators<ops::add, ops::sub, ops::mul, ops::div, ops::maximum,
                                  ops::minimum, ops::scale, ops::pow, ops::where>;
using math =
    ops::operators<ops::neg, ops::abs, ops::sign, ops::square, ops::exp, ops::log, ops::sqrt,
                   ops::rsqrt, ops::erf, ops::cast<float>, ops::copy, ops::clone, ops::fill>;
using activation =
    ops::operators<ops::tanh, ops::sigmoid, ops::relu, ops::gelu, ops::gelu_tanh, ops::silu,
                   ops::swiglu, ops::tanh_backward, ops::sigmoid_backward, ops::relu_backward,
                   ops::gelu_backward, ops::gelu_tanh_backward, ops::silu_backward>;
using shapes =
    ops::operators<ops::slice, ops::narrow, ops::select, ops::transpose, ops::permute, ops::expand,
                   ops::squeeze, ops::unsqueeze, ops::view_as, ops::slice_backward, ops::cat,
                   ops::sum, ops::mean, ops::max, ops::min, ops::sum_to, ops::sum_squares>;
using indexing = ops::operators<ops::unfold, ops::unfold_backward, ops::cumsum, ops::topk,
                                ops::sort, ops::gather, ops::scatter, ops::index_select>;
using softmax = ops::operators<ops::softmax, ops::softmax_backward, ops::log_softmax,
                               ops::log_softmax_backward, ops::cross_entropy>;
using matmul = ops::operators<ops::matmul, ops::linear, ops::linear_bias>;
using layers = ops::operators<ops::rms_norm, ops::layer_norm, ops::embedding,
                              ops::embedding_backward, ops::rope>;
using attention = ops::operators<ops::scaled_dot_product_attention>;
using windows = ops::operators<ops::conv2d, ops::max_pool2d, ops::avg_pool2d, ops::batch_norm,
                               ops::batch_norm_train, ops::dropout>;  // in conv_test.cpp
}  // namespace family

template <class Op, class... In>
consteval int times_in(ops::operators<In...>) {
  return (0 + ... + int{std::is_same_v<Op, In>});
}
template <class... Op>
consteval bool each_in_one_family(ops::operators<Op...>) {
  return ((times_in<Op>(family::arithmetic{}) + times_in<Op>(family::math{}) +
               times_in<Op>(family::activation{}) + times_in<Op>(family::shapes{}) +
               times_in<Op>(family::indexing{}) + times_in<Op>(family::softmax{}) +
               times_in<Op>(family::matmul{}) + times_in<Op>(family::layers{}) +
               times_in<Op>(family::attention{}) + times_in<Op>(family::windows{}) ==
           int{al::Differentiable<Op>}) &&
          ...);
}
static_assert(
    each_in_one_family(ops::all{}),
    "tests/ops/gradients.hpp: an operator has a derivative and no family; put it into one "
    "and write its check");

/// Away from zero, where quotients and the like are steep; of both signs.
inline leaf away(const al::shape& s, int salt) {
  const leaf x = numbers<leaf>(s, salt);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] += x.data()[i] < 0 ? -0.5 : 0.5;
  }
  return x;
}
inline leaf positive(const al::shape& s, int salt = 3) {
  const leaf x = away(s, salt);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = std::abs(x.data()[i]);
  }
  return x;
}

/// Functions of one tensor, whose values come from `make(shape, salt)`.
template <class F, class Make>
void check_unary_gradients(const F& f, const Make& make) {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {2, 3}}) {
    check_gradient(f, make(s, 1));
    check_gradient(f, scattered(make(s, 2)));
  }
  check_second_gradient(f, make({7}, 3));
}
/// Functions of two tensors that broadcast.
template <class F>
void check_binary_gradients(const F& f) {
  const std::vector<std::pair<al::shape, al::shape>> pairs{
      {{}, {}}, {{0}, {0}}, {{1}, {3}}, {{2, 3}, {3}}, {{3, 1}, {1, 2}}, {{2, 0}, {1}}};
  for (const auto& [a, b] : pairs) {
    check_gradient(f, away(a, 1), away(b, 2));
    check_gradient(f, scattered(away(a, 1)), scattered(away(b, 2)));
  }
  check_second_gradient(f, away({2, 3}, 1), away({3}, 2));
}

}  // namespace twins

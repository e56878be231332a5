// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

#include "ashlar/fwd.hpp"
#include "ashlar/ops/fwd.hpp"

/// The operators of decoders, so that `complete<stack, model>` can ask for their kernels.
namespace ashlar::models::detail {

template <class A, class B>
struct joined_operators;
template <class... A, class... B>
struct joined_operators<ops::operators<A...>, ops::operators<B...>> {
  using type = ops::operators<A..., B...>;
};

/// What every decoder calls to make its parameters and to serve.
using decoder_operators =
    ops::operators<ops::add, ops::arange, ops::cache_write, ops::clone, ops::contiguous,
                   ops::embedding, ops::fill, ops::linear, ops::linear_bias, ops::normal,
                   ops::paged_attention, ops::reshape, ops::scaled_dot_product_attention,
                   ops::transpose, ops::view_as>;
/// What it calls besides to train, with a cross entropy as its loss.
template <class Scalar>
using decoder_training_operators =
    ops::operators<ops::cast<Scalar>, ops::copy, ops::cross_entropy, ops::cross_entropy_backward,
                   ops::embedding_backward, ops::expand, ops::matmul, ops::mul, ops::scale,
                   ops::scaled_dot_product_attention_backward, ops::sum_to>;

/// The operators of one architecture, on a stack with or without a tape.
template <class Stack, class Scalar, class Serving, class Training>
using operators_of_model = std::conditional_t<
    Stack::template has<kinds::differentiate>,
    typename joined_operators<
        typename joined_operators<decoder_operators, Serving>::type,
        typename joined_operators<decoder_training_operators<Scalar>, Training>::type>::type,
    typename joined_operators<decoder_operators, Serving>::type>;

}  // namespace ashlar::models::detail

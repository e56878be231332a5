// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/fwd.hpp"

/// Every operator's name, so that derivatives may use operators of other families, and their list.
namespace ashlar::ops {

// Elementwise.
struct add;
struct sub;
struct mul;
struct div;
struct neg;
struct abs;
struct sign;
struct square;
struct maximum;
struct minimum;
struct scale;
struct pow;
struct exp;
struct log;
struct sqrt;
struct rsqrt;
struct tanh;
struct erf;
struct sigmoid;
struct relu;
struct gelu;
struct gelu_tanh;
struct silu;
struct swiglu;
struct tanh_backward;
struct sigmoid_backward;
struct relu_backward;
struct gelu_backward;
struct gelu_tanh_backward;
struct silu_backward;
struct eq;
struct ne;
struct lt;
struct le;
struct gt;
struct ge;
struct logical_not;
struct where;

// Views.
struct slice;
struct narrow;
struct select;
struct transpose;
struct permute;
struct expand;
struct squeeze;
struct unsqueeze;
struct view_as;
struct unfold;
struct reshape;
struct slice_backward;
struct unfold_backward;

// Copies and creation.
template <class T>
struct cast;
struct copy;
struct clone;
struct contiguous;
struct cat;
struct fill;
struct arange;
struct uniform;
struct normal;

// Reductions.
struct sum;
struct mean;
struct max;
struct min;
struct argmax;
struct sum_to;
struct sum_squares;
struct cumsum;
struct argsort;
struct topk;
struct sort;
struct gather;
struct scatter;
struct index_select;
template <class T>
struct one_hot;
struct softmax;
struct softmax_backward;
struct log_softmax;
struct log_softmax_backward;
struct cross_entropy;
struct cross_entropy_backward;

// Layers.
struct matmul;
struct linear;
struct linear_bias;
template <class Activation>
struct dense;
struct conv2d;
struct max_pool2d;
struct avg_pool2d;
struct batch_norm;
struct batch_norm_train;
struct dropout;
struct embedding;
struct embedding_backward;
struct rms_norm;
struct rms_norm_backward_x;
struct rms_norm_backward_weight;
struct layer_norm;
struct layer_norm_backward_x;
struct layer_norm_backward_weight;
struct rope;
struct scaled_dot_product_attention;
struct scaled_dot_product_attention_backward;
struct paged_attention;
struct cache_write;

// Optimizer steps.
struct adamw_step;
struct sgd_step;

template <class... Op>
struct operators {};

/// Every operator, once, in the order above; `cast`, `one_hot` and `dense` stand there with one of
/// their types.
using all = operators<
    add, sub, mul, div, neg, abs, sign, square, maximum, minimum, scale, pow, exp, log, sqrt, rsqrt,
    tanh, erf, sigmoid, relu, gelu, gelu_tanh, silu, swiglu, tanh_backward, sigmoid_backward,
    relu_backward, gelu_backward, gelu_tanh_backward, silu_backward, eq, ne, lt, le, gt, ge,
    logical_not, where, slice, narrow, select, transpose, permute, expand, squeeze, unsqueeze,
    view_as, unfold, reshape, slice_backward, unfold_backward, cast<float>, copy, clone, contiguous,
    cat, fill, arange, uniform, normal, sum, mean, max, min, argmax, sum_to, sum_squares, cumsum,
    argsort, topk, sort, gather, scatter, index_select, one_hot<float>, softmax, softmax_backward,
    log_softmax, log_softmax_backward, cross_entropy, cross_entropy_backward, matmul, linear,
    linear_bias, dense<void>, conv2d, max_pool2d, avg_pool2d, batch_norm, batch_norm_train, dropout,
    embedding, embedding_backward, rms_norm, rms_norm_backward_x, rms_norm_backward_weight,
    layer_norm, layer_norm_backward_x, layer_norm_backward_weight, rope,
    scaled_dot_product_attention, scaled_dot_product_attention_backward, paged_attention,
    cache_write, adamw_step, sgd_step>;

/// The core set: every operator that is not in it is a composite or has a `decomposition` into it,
/// so a chip with kernels for these has all. Views need none on any chip.
using prims = operators<add, sub, mul, div, pow, exp, log, sqrt, tanh, erf, eq, lt, where, maximum,
                        slice, permute, expand, view_as, unfold, cast<float>, copy, cat, fill,
                        arange, uniform, normal, slice_backward, sum, max, cumsum, argsort, gather,
                        scatter, matmul, rope, cache_write>;

}  // namespace ashlar::ops

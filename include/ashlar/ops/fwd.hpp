// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/fwd.hpp"

/// Every operator's name, so that derivatives may use operators of other families.
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
struct sigmoid;
struct relu;
struct gelu;
struct gelu_tanh;
struct silu;
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
struct reshape;
struct slice_backward;

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

}  // namespace ashlar::ops

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/tile/batch_norm.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/embedding.hpp"
#include "ashlar/ops/tile/optimizer.hpp"
#include "ashlar/ops/tile/random.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/rope.hpp"
#include "ashlar/ops/tile/windows.hpp"
#include "ops/shipped_support.hpp"

namespace {
namespace programs = ashlar::ops::programs;
namespace fn = ashlar::tile::fn;
using ashlar::bfloat16;
using ids = std::int64_t;
}  // namespace

TEST_CASE("ops/shipped: kernels of elements, from the compiler and at run time") {
  const auto names = shipped::check_kernels<
      programs::map<64, fn::gelu, float, float, float>,
      programs::map<64, fn::gelu_tanh_grad, float, bfloat16, bfloat16, bfloat16>,
      programs::map<64, fn::where, float, float, bool, float, float>,
      programs::map<64, fn::div, std::int32_t, std::int32_t, std::int32_t, std::int32_t>,
      programs::fill<float>, programs::arange<float>, programs::arange<ids>,
      programs::embedding<float, ids>, programs::embedding_backward<bfloat16, ids>,
      programs::adamw_step<bfloat16, bfloat16, float>,
      programs::sgd_step<float, float, float, true>, programs::rope<float, ids>>();
  shipped::check_complete(names, {"copies", "elementwise", "embedding", "optimizer", "rope"});
}

TEST_CASE("ops/shipped: kernels of chance and of reductions, from the compiler and at run time") {
  const auto names = shipped::check_kernels<
      programs::random_fill<float, false>, programs::random_fill<float, true>,
      programs::random_fill<double, true>, programs::dropout<bfloat16>,
      programs::fold_rows<programs::fold_sum, float>,
      programs::fold_rows<programs::fold_mean, bfloat16>,
      programs::fold_rows<programs::fold_squares, float>,
      programs::fold_rows<programs::fold_max, std::int32_t>,
      programs::fold_columns<programs::fold_sum, bfloat16>,
      programs::fold_columns<programs::fold_min, float>, programs::argmax<float>>();
  shipped::check_complete(names, {"random", "reduction"});
}

TEST_CASE("ops/shipped: kernels of windows and channels, from the compiler and at run time") {
  const auto names =
      shipped::check_kernels<programs::conv2d<float, false>, programs::conv2d<bfloat16, true>,
                             programs::max_pool2d<float>, programs::avg_pool2d<bfloat16>,
                             programs::batch_norm_train<float>>();
  shipped::check_complete(names, {"batch_norm", "windows"});
}

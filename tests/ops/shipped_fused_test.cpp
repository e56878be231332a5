// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include "ashlar/core/dtype.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/attention_backward.hpp"
#include "ashlar/ops/tile/cross_entropy.hpp"
#include "ashlar/ops/tile/epilogue.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/softmax.hpp"
#include "ops/shipped_support.hpp"

namespace {
namespace programs = ashlar::ops::programs;
namespace fn = ashlar::tile::fn;
using ashlar::bfloat16;
using ids = std::int64_t;
}  // namespace

TEST_CASE("ops/shipped: kernels of rows, from the compiler and at run time") {
  const auto names = shipped::check_kernels<
      programs::softmax<float, false>, programs::softmax<bfloat16, true>,
      programs::softmax_backward<float, false>, programs::softmax_backward<float, true>,
      programs::rms_norm<float>, programs::layer_norm<bfloat16>,
      programs::norm_backward_x<float, false>, programs::norm_backward_x<bfloat16, true>,
      programs::note_statistics<float, true>, programs::norm_backward_weight<float, false>,
      programs::norm_backward_weight<float, true>, programs::cross_entropy_rows<float, ids>,
      programs::cross_entropy_mean<float, ids>, programs::cross_entropy_weight<float, ids>,
      programs::cross_entropy_backward<bfloat16, ids>>();
  shipped::check_complete(names, {"cross_entropy", "norm", "softmax"});
}

TEST_CASE("ops/shipped: kernels of matrices, from the compiler and at run time") {
  const auto names = shipped::check_kernels<
      programs::matmul<float, false>, programs::matmul<bfloat16, true>,
      programs::dense<bfloat16, fn::gelu, true, true>, programs::attention<float, 64>,
      programs::attention<bfloat16, 80>, programs::paged_attention<float, 64>,
      programs::paged_prefill<float, 64>, programs::paged_prefill<bfloat16, 128>,
      programs::cache_write<float>, programs::attention_note<float, 64>,
      programs::attention_backward_q<bfloat16, 64>, programs::attention_backward_kv<float, 80>>();
  shipped::check_complete(names, {"attention", "attention_backward", "epilogue", "matmul"});
}

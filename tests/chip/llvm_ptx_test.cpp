// SPDX-License-Identifier: Apache-2.0
#include "chip/llvm_ptx.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/attention_backward.hpp"
#include "ashlar/ops/tile/batch_norm.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/cross_entropy.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/embedding.hpp"
#include "ashlar/ops/tile/epilogue.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/optimizer.hpp"
#include "ashlar/ops/tile/random.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/rope.hpp"
#include "ashlar/ops/tile/softmax.hpp"
#include "ashlar/ops/tile/windows.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"

namespace {

namespace al = ashlar;
namespace chip = ashlar::chip;
namespace code = ashlar::chip::llvm_codegen;
namespace tile = ashlar::tile;
namespace programs = ashlar::ops::programs;

template <class... K>
std::vector<tile::program> traced() {
  return {tile::trace(K{})...};
}

/// The tile program of every operator, some of them for several element types.
std::vector<tile::program> operators() {
  using i64 = std::int64_t;
  using f = float;
  using h = al::bfloat16;
  return traced<
      programs::map<256, tile::fn::gelu, f, f, f>, programs::map<256, tile::fn::silu, f, h, h>,
      programs::map<256, tile::fn::tanh, double, double, double>, programs::fill<f>,
      programs::arange<f>, programs::softmax<f, false>, programs::softmax<h, false>,
      programs::softmax<f, true>, programs::softmax_backward<f, false>,
      programs::softmax_backward<f, true>, programs::rms_norm<f>, programs::rms_norm<h>,
      programs::layer_norm<f>, programs::norm_backward_x<f, false>,
      programs::norm_backward_x<f, true>, programs::note_statistics<f, true>,
      programs::norm_backward_weight<f, false>, programs::norm_backward_weight<f, true>,
      programs::matmul<f, false>, programs::matmul<f, true>, programs::matmul<h, false>,
      programs::matmul<i64, false>, programs::dense<f, tile::fn::gelu, true, true>,
      programs::map<256, tile::fn::swiglu, f, f, f, f>, programs::attention<f, 64>,
      programs::paged_attention<f, 64>, programs::paged_prefill<f, 64>, programs::cache_write<h>,
      programs::attention_note<f, 64>, programs::attention_backward_q<f, 64>,
      programs::attention_backward_kv<f, 64>, programs::cross_entropy_rows<f, i64>,
      programs::cross_entropy_mean<f, i64>, programs::cross_entropy_weight<f, i64>,
      programs::cross_entropy_backward<f, i64>, programs::embedding<f, i64>,
      programs::embedding_backward<f, i64>, programs::adamw_step<f, f, f>,
      programs::sgd_step<f, f, f, true>, programs::random_fill<f, false>,
      programs::random_fill<f, true>, programs::fold_rows<programs::fold_sum, f>,
      programs::fold_columns<programs::fold_max, f>, programs::argmax<f>, programs::rope<f, i64>,
      programs::conv2d<f, false>, programs::conv2d<f, true, 16, 64, 8>, programs::conv2d<h, false>,
      programs::max_pool2d<f>, programs::avg_pool2d<f>, programs::batch_norm_train<f>,
      programs::dropout<f>>();
}

}  // namespace

TEST_CASE("chip/llvm: the program of every operator becomes PTX that ptxas assembles") {
  const chip::llvm_module m = chip::llvm<chip::llvm_nvptx64>::emit(operators());
  const code::temporary_folder folder;
  code::write_file(folder / "module.ll", m.text);
  for (const std::string& llc : llvm_test::nvptx_compilers()) {
    CAPTURE(llc);
    const std::string ptx = llvm_test::compiled_to_ptx(llc, folder);
    for (const chip::llvm_module::function& f : m.functions) {
      CAPTURE(f.symbol);
      CHECK(ptx.find(".visible .entry " + f.symbol + "(") != std::string::npos);
      CHECK(f.shared_bytes <= 48 * 1024);
    }
    CHECK(ptx.find(".extern .func") == std::string::npos);  // nothing to link with
#ifdef ASHLAR_PTXAS
    code::expect_run({ASHLAR_PTXAS, "-arch=sm_80", folder / "module.ptx", "-o", folder / "cubin"});
#else
    MESSAGE("SKIPPED: no ptxas of a CUDA toolkit, PTX is not assembled");
#endif
  }
}

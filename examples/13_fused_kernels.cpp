// SPDX-License-Identifier: Apache-2.0
// What the backend `tiles` makes of a model: fewer calls, and each fused one as a tile program, as
// the accelerator's instructions and as LLVM IR.
#include <ashlar/chip/llvm.hpp>
#include <ashlar/chip/npu.hpp>
#include <ashlar/chip/npu/codegen/print.hpp>
#include <ashlar/chip/npu/disassemble.hpp>
#include <ashlar/graph.hpp>
#include <ashlar/graph/tiles.hpp>
#include <ashlar/ops.hpp>
#include <ashlar/stack.hpp>
#include <cstdio>
#include <string>
#include <vector>
namespace al = ashlar;
namespace chip = ashlar::chip;
namespace graph = ashlar::graph;

using real = al::stack<al::on<chip::host>>::tensor<float>;

int main() {
  const real w1 = al::randn<real>({256, 512}, 1);
  const real w2 = al::randn<real>({512, 256}, 2);
  const real bias = al::randn<real>({256}, 3);
  const auto model = [&](const auto& x) {
    const auto hidden = al::gelu(al::matmul(x, w1));
    return al::add(x, al::add(al::matmul(hidden, w2), bias));
  };
  const real x = al::randn<real>({128, 256}, 4);
  const graph::graph captured =
      graph::capture(model, graph::named_tensors{{"w1", w1}, {"w2", w2}, {"bias", bias}}, x);

  std::printf("== table\n%s", to_table(captured).c_str());

  // As tile programs, as on any chip: otherwise the host's own kernels would take turns.
  auto compiled = graph::tiles<chip::host>{.options = {.host_blocks = false}}.compile(captured);
  std::printf("== fused\n%s", to_text(compiled.source()).c_str());

  // The last kernel: its program for these shapes, and what two chips make of it.
  const auto& kernel = *compiled.kernels().back();
  std::vector<al::tensor_spec> specs;
  for (const graph::value_id v : kernel.calls().body.made_by(graph::node_kind::placeholder)) {
    specs.push_back(kernel.calls().body.spec(v));
  }
  const al::tile::program program = kernel.program(specs).value();
  std::printf("== tile IR\n%s", al::tile::print(program).c_str());
  const auto npu = chip::npu_codegen::compile(chip::npu_description{}, program);
  std::printf("== chip IR\n%s", chip::npu_codegen::print(npu.ir).c_str());
  std::printf("== instructions\n%s", chip::npu_isa::disassemble(npu.code).c_str());
  std::printf("== LLVM IR\n%s", chip::llvm<chip::llvm_x86_64>::emit(program).text.c_str());

  const bool equal = al::to_vector(real(compiled(x)[0])) == al::to_vector(model(x));
  std::printf("== run\n%s\n", equal ? "the same bits" : "OTHER BITS");
  return equal ? 0 : 1;
}

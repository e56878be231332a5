// SPDX-License-Identifier: Apache-2.0
// Graphs before the program runs: one that is a constant, and a model as a source file of its own.
// prints: constant: the same bits
// prints: written: 3 launches of 3 kernels, an arena of 3072 bytes
#include <ashlar/chip/source/portable.hpp>
#include <ashlar/graph.hpp>
#include <ashlar/graph/aot.hpp>
#include <ashlar/graph/fixed_kernel.hpp>
#include <ashlar/ops.hpp>
#include <ashlar/ops/tile.hpp>
#include <ashlar/stack.hpp>
#include <cstdio>
#include <fstream>
namespace al = ashlar;
namespace graph = ashlar::graph;

struct gate {
  constexpr auto operator()(const auto& x, const auto& w) const {
    return al::mul(al::softmax(al::scale(x, 0.125)), w);
  }
};
constexpr graph::fixed_graph gated = graph::capture_fixed(
    gate{}, graph::fixed_argument<float>{6, 37}, graph::fixed_argument<float>{37});
static_assert(graph::to_text(gated) ==
              "%0 = placeholder : float32[6, 37]\n"
              "%1 = placeholder : float32[37]\n"
              "%2 = scale %0, 0.125, 0.0 : float32[6, 37]\n"
              "%3 = softmax %2, -1 : float32[6, 37]\n"
              "%4 = mul %3, %1 : float32[6, 37]\n"
              "return %4\n");

bool constant_graph() {
  using real = al::stack<al::on<al::chip::host>>::tensor<float>;
  const real x = al::randn<real>({6, 37}, 1);
  const real w = al::randn<real>({37}, 2);
  return al::to_vector(graph::fixed_kernel<gated>{}(x, w)) == al::to_vector(gate{}(x, w));
}

graph::written_source source_of_model() {
  using real = al::stack<al::on<al::chip::portable>>::tensor<float>;
  const real w1 = al::randn<real>({32, 64}, 1);
  const real w2 = al::randn<real>({64, 32}, 2);
  const real gain = al::ones<real>({32});
  const auto model = [&](const auto& x) {
    return al::add(x, al::matmul(al::gelu(al::matmul(al::rms_norm(x, gain, 1e-5), w1)), w2));
  };
  return graph::write_source(graph::capture(model, al::ones<real>({8, 32})), {.name = "model"});
}

int main(int count, char** arguments) {
  std::printf("constant: %s\n", constant_graph() ? "the same bits" : "OTHER BITS");
  const graph::written_source s = source_of_model();
  std::printf("written: %zu launches of %zu kernels, an arena of %lld bytes\n", s.launches,
              s.kernels, static_cast<long long>(s.arena_bytes));
  if (count > 1) {
    std::ofstream(arguments[1]) << s.text;  // c++ -std=c++20 -O3 -ffp-contract=off -c model.cpp
  }
}

// SPDX-License-Identifier: Apache-2.0
// Tile programs on an NVIDIA GPU: LLVM writes PTX, the CUDA driver loads and starts it.
//
//   example_06_gpu                     makes the kernels, checks and times them
//   example_06_gpu --write FILE.ptx    makes them only, on a machine that has LLVM and needs no GPU
//   example_06_gpu --ptx FILE.ptx      checks and times what was made there
//   --alignment BYTES                  of all rows, 16 by default: what a thread may take at once
#include <algorithm>
#include <array>
#include <ashlar/chip/llvm.hpp>
#include <ashlar/core/ceil_div.hpp>
#include <ashlar/ops/tile.hpp>
#include <ashlar/tile.hpp>
#include <cstdio>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gpu_driver.hpp"
namespace al = ashlar;
namespace tile = ashlar::tile;

/// y = max(2 x + 1, 0), B elements per program.
template <class T, int B>
struct affine_relu {
  static constexpr auto name = "affine_relu";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> x, tile::out<T, 2> y) const {
    const auto at = k.program_id(0) * B;
    const auto v = tile::cast<float>(tile::load<B>(x, 0, at)) * 2 + 1;
    tile::store(y, tile::cast<T>(max(v, k.zeros<float, B>())), 0, at);
  }
};

/// A row per program, of at most B elements.
template <int B>
struct softmax {
  static constexpr auto name = "softmax";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto a = tile::load<B>(x.outside(-std::numeric_limits<double>::infinity()), row, 0);
    const auto e = exp(a - tile::max<0>(a));
    tile::store(y, e / tile::sum<0>(e), row, 0);
  }
};

template <int B>
struct rms_norm {
  static constexpr auto name = "rms_norm";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto row = k.program_id(0);
    const auto a = tile::load<B>(x, row, 0);
    const auto mean = tile::sum<0>(a * a) / tile::cast<float>(x.extent(1));
    tile::store(y, a * rsqrt(mean + 1e-5F), row, 0);
  }
};

template <class T, int M, int N, int K>
struct matmul {
  static constexpr auto name = "matmul";
  constexpr void operator()(tile::scope& k, tile::in<T, 2> a, tile::in<T, 2> b,
                            tile::out<float, 2> c) const {
    const auto m = k.program_id(0) * M;
    const auto n = k.program_id(1) * N;
    tile::store(c,
                k.loop(
                    0, a.extent(1), K,
                    [&](tile::index i, auto sum) {
                      return tile::dot(tile::load<M, K>(a, m, i), tile::load<K, N>(b, i, n), sum);
                    },
                    k.zeros<float, M, N>()),
                m, n);
  }
};

std::string compile(const std::string& ir) {
  namespace tools = al::chip::llvm_codegen;
  const tools::temporary_folder folder;
  tools::write_file(folder / "kernels.ll", ir);
  const std::string clang = tools::expect_tool("clang");
  std::vector<std::string> command{clang,          "--target=nvptx64-nvidia-cuda",
                                   "-march=sm_80", "-O3",
                                   "-S",           "-x",
                                   "ir",           folder / "kernels.ll",
                                   "-o",           folder / "kernels.ptx"};
  for (const std::string& word : tools::pointer_switch(clang)) {
    command.push_back(word);
  }
  tools::expect_run(command);
  return tools::read_file(folder / "kernels.ptx");
}

// --- what is run ---------------------------------------------------------------------------------

namespace programs = ashlar::ops::programs;
using b16 = ashlar::bfloat16;
using i64 = std::int64_t;
using gpu::driver;
using gpu::launch;
using gpu::launch_maker;

/// Kernels of this file, then some of the library's operators.
enum kernel : std::size_t {
  relu_of,
  relu_bf16,
  softmax_1024,
  softmax_4096,
  rms_1024,
  rms_4096,
  product,
  product_bf16,
  op_softmax,
  op_rms_norm,
  op_layer_norm,
  op_softmax_4096,
  op_rms_norm_4096,
  op_layer_norm_4096,
  op_matmul,
  op_gelu,
  op_tanh,
  op_attention,
  op_cross_entropy,
  op_embedding,
  op_adamw,
  op_argmax,
  op_sum
};
std::vector<tile::program> all_programs() {
  return {tile::trace(affine_relu<float, 1024>{}),
          tile::trace(affine_relu<b16, 2048>{}),
          tile::trace(softmax<1024>{}),
          tile::trace(softmax<4096>{}),
          tile::trace(rms_norm<1024>{}),
          tile::trace(rms_norm<4096>{}),
          tile::trace(matmul<float, 64, 64, 32>{}),
          tile::trace(matmul<b16, 64, 64, 32>{}),
          tile::trace(programs::softmax<float, false, al::chip::team_fold(1024)>{}),
          tile::trace(programs::rms_norm<float, al::chip::team_fold(1024)>{}),
          tile::trace(programs::layer_norm<float, al::chip::team_fold(1024)>{}),
          tile::trace(programs::softmax<float, false, al::chip::team_fold(4096)>{}),
          tile::trace(programs::rms_norm<float, al::chip::team_fold(4096)>{}),
          tile::trace(programs::layer_norm<float, al::chip::team_fold(4096)>{}),
          tile::trace(programs::matmul<float, true, 64, 64, 32>{}),
          tile::trace(programs::map<1024, tile::fn::gelu, float, float, float>{}),
          tile::trace(programs::map<1024, tile::fn::tanh, float, float, float>{}),
          tile::trace(programs::attention<float, 64>{}),
          tile::trace(programs::cross_entropy_rows<float, i64>{}),
          tile::trace(programs::embedding<float, i64>{}),
          tile::trace(programs::adamw_step<float, float, float, 256>{}),
          tile::trace(programs::argmax<float>{}),
          tile::trace(programs::fold_rows<programs::fold_sum, float>{})};
}

/// No elements, one, a prime, one around the blocks: rows of these lengths, and products.
std::vector<launch> checks(std::size_t alignment) {
  std::vector<launch> all;
  const auto make = [&](const char* what, kernel k, i64 n, const tile::grid& grid) {
    return launch_maker(what + (" " + std::to_string(n)), k, grid, alignment, true);
  };
  // exp is within 2 ulp; a sum of such terms and a quotient double that. Others come after it.
  constexpr double exponentials = 6;
  for (const i64 n : {0, 1, 13, 1021, 1023, 1024, 1025, 4093, 4096, 4099}) {
    const auto blocks = [&](i64 b) { return tile::grid{al::ceil_div(n, b), 1, 1}; };
    const auto by_rows = [&](launch_maker m) { return m.views<float>({{3, n}, {3, n}}); };
    const auto row = [](launch_maker m, i64 length) { return m.view<float>({1, 2, 3, length}); };
    all.push_back(
        make("relu(2x+1)", relu_of, n, blocks(1024)).views<float>({{1, n}, {1, n}}).done());
    all.push_back(
        make("relu(2x+1) bf16", relu_bf16, n, blocks(2048)).views<b16>({{1, n}, {1, n}}).done());
    if (n <= 1024) {
      all.push_back(
          by_rows(make("softmax<1024>", softmax_1024, n, {3, 1, 1})).allow(exponentials).done());
      all.push_back(by_rows(make("rms_norm<1024>", rms_1024, n, {3, 1, 1})).done());
    }
    all.push_back(
        by_rows(make("softmax<4096>", softmax_4096, n, {3, 1, 1})).allow(exponentials).done());
    all.push_back(by_rows(make("rms_norm<4096>", rms_4096, n, {3, 1, 1})).done());
    for (const bool is_long : {false, true}) {
      const auto of_rows = [&](const char* what, kernel of_short, kernel of_long) {
        return row(row(make(what, is_long ? of_long : of_short, n, {3, 2, 1}), n), n);
      };
      all.push_back(of_rows("op softmax", op_softmax, op_softmax_4096).allow(exponentials).done());
      all.push_back(of_rows("op rms_norm", op_rms_norm, op_rms_norm_4096)
                        .view<float>({n})
                        .number(1e-5F)
                        .done());
      all.push_back(of_rows("op layer_norm", op_layer_norm, op_layer_norm_4096)
                        .views<float>({{n}, {n}})
                        .number(1e-5F)
                        .done());
    }
    for (const auto& [what, k] : {std::pair{"op gelu", op_gelu}, std::pair{"op tanh", op_tanh}}) {
      // erf and tanh are within 4 ulp; 1 + erf loses what cancels.
      all.push_back(row(row(make(what, k, n, {al::ceil_div(n, i64{1024}), 3, 2}), n), n)
                        .allow(k == op_gelu ? 1e5 : 5)
                        .done());
    }
    all.push_back(row(make("op argmax", op_argmax, n, {3, 2, n == 0 ? 0 : 1}), n)
                      .view<i64>({1, 2, 3, 1})
                      .done());
    all.push_back(row(row(make("op sum", op_sum, n, {3, 2, 1}), n), 1).done());
    const i64 classes = std::max<i64>(n, 7);
    all.push_back(make("op cross_entropy", op_cross_entropy, classes, {5, 1, 1})
                      .views<float>({{5}, {5, classes}})
                      .view<i64>({5})
                      .number(i64{3})
                      .allow(exponentials)
                      .done());
    all.push_back(make("op embedding", op_embedding, n, {al::ceil_div(n, i64{64}), 5, 1})
                      .views<float>({{5, n}, {7, n}})
                      .view<i64>({5})
                      .done());
    launch_maker adamw = make("op adamw", op_adamw, n, {al::ceil_div(n, i64{256}), 1, 1});
    for (int k = 0; k < 4; ++k) {
      adamw.view<float>({1, 1, 1, n});
    }
    for (const float x : {1.0F, 0.1F, 0.999F, 0.001F, 0.9999F, 1.0F, 1e-8F, 1e-3F}) {
      adamw.number(x);
    }
    all.push_back(adamw.done());
  }
  for (const auto& [m, n, depth] :
       {std::array<i64, 3>{1, 1, 0}, std::array<i64, 3>{1, 1, 1}, std::array<i64, 3>{131, 129, 77},
        std::array<i64, 3>{64, 64, 64}, std::array<i64, 3>{13, 65, 33}}) {
    const tile::grid grid{al::ceil_div(m, i64{64}), al::ceil_div(n, i64{64}), 1};
    all.push_back(
        make("matmul", product, n, grid).views<float>({{m, depth}, {depth, n}, {m, n}}).done());
    all.push_back(make("matmul bf16", product_bf16, n, grid)
                      .views<b16>({{m, depth}, {depth, n}})
                      .view<float>({m, n})
                      .done());
    all.push_back(make("op matmul", op_matmul, n, {grid[1], grid[0], 2})
                      .views<float>({{1, 2, m, n}, {1, 2, m, depth}, {1, 2, depth, n}, {n}})
                      .done());
  }
  for (const i64 tokens : {1, 13, 67}) {
    all.push_back(
        make("op attention", op_attention, tokens, {al::ceil_div(tokens, i64{16}), 1, 4})
            .views<float>(
                {{1, 4, tokens, 61}, {1, 4, tokens, 61}, {1, 2, 61, tokens}, {1, 2, tokens, 61}})
            .number(0.125F)
            .number(i64{1})
            .allow(1e4)
            .done());
  }
  return all;
}

std::vector<launch> timed(std::size_t alignment) {
  std::vector<launch> all;
  const auto make = [&](const char* what, kernel k, const tile::grid& grid) {
    return launch_maker(what, k, grid, alignment, false);
  };
  constexpr i64 n = 1 << 28;
  all.push_back(
      make("relu(2x+1) 2^28", relu_of, {n / 1024, 1, 1}).views<float>({{1, n}, {1, n}}).done());
  all.push_back(make("relu(2x+1) bf16 2^28", relu_bf16, {n / 2048, 1, 1})
                    .views<b16>({{1, n}, {1, n}})
                    .done());
  for (const i64 length : {1024, 4096}) {
    const i64 rows = (1 << 26) / length;
    const std::string size = " " + std::to_string(rows) + "x" + std::to_string(length);
    const auto named = [&](const char* what, kernel k) {
      return make((what + size).c_str(), k, {rows, 1, 1});
    };
    const bool is_short = length == 1024;
    for (const auto& [what, k] : {std::pair{"softmax", is_short ? softmax_1024 : softmax_4096},
                                  std::pair{"rms_norm", is_short ? rms_1024 : rms_4096}}) {
      all.push_back(named(what, k).views<float>({{rows, length}, {rows, length}}).done());
    }
    // Each operator takes its rows, and as many weights as follow.
    int weights = 0;
    for (const auto& [what, k] :
         {std::pair{"op softmax", is_short ? op_softmax : op_softmax_4096},
          std::pair{"op rms_norm", is_short ? op_rms_norm : op_rms_norm_4096},
          std::pair{"op layer_norm", is_short ? op_layer_norm : op_layer_norm_4096}}) {
      launch_maker m = named(what, k);
      m.views<float>({{1, 1, rows, length}, {1, 1, rows, length}});
      for (int i = 0; i < weights; ++i) {
        m.view<float>({length});
      }
      all.push_back((weights++ == 0 ? m : m.number(1e-5F)).done());
    }
  }
  all.push_back(make("op gelu 2^26", op_gelu, {(1 << 26) / 1024, 1, 1})
                    .views<float>({{1, 1, 1, 1 << 26}, {1, 1, 1, 1 << 26}})
                    .done());
  const double flops = 2.0 * (1LL << 33);
  all.push_back(make("matmul 2048^3", product, {32, 32, 1})
                    .views<float>({{2048, 2048}, {2048, 2048}, {2048, 2048}})
                    .flops(flops)
                    .done());
  all.push_back(make("matmul bf16 2048^3", product_bf16, {32, 32, 1})
                    .views<b16>({{2048, 2048}, {2048, 2048}})
                    .view<float>({2048, 2048})
                    .flops(flops)
                    .done());
  return all;
}

int run(std::span<char*> words) {
  std::string write, ptx;
  int alignment = 16;
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    const std::string option = words[i];
    option == "--write" ? void(write = words[i + 1])
    : option == "--ptx" ? void(ptx = words[i + 1])
    : option == "--alignment"
        ? void(alignment = std::stoi(words[i + 1]))
        : throw std::runtime_error("what is " + option + "? See the first lines of the source");
  }
  const std::vector<tile::program> programs = all_programs();
  const auto target = al::chip::llvm_nvptx64.with_view_alignment(alignment).with_views_apart();
  std::vector<tile::program> better;
  for (const tile::program& p : programs) {
    better.push_back(al::chip::llvm_codegen::optimised(p, target));
  }
  const auto module = al::chip::llvm_codegen::emit(better, target);
  if (!write.empty()) {
    al::chip::llvm_codegen::write_file(write, compile(module.text));
    return 0;
  }
  if (!driver::is_there()) {
    std::printf("SKIPPED: no CUDA driver on this machine\n");
    return 0;
  }
  driver on(ptx.empty() ? compile(module.text) : al::chip::llvm_codegen::read_file(ptx));
  gpu::runner r(on, module, programs);
  const auto bytes = static_cast<std::size_t>(alignment);

  int wrong = 0;
  const std::vector<launch> all = checks(bytes);
  for (const launch& l : all) {
    const double ulp = r.check(l);
    if (ulp > l.allowed) {
      ++wrong;
      std::printf("WRONG: %-24s differs from the interpreter by %.0f ulp\n", l.what.c_str(), ulp);
    } else if (ulp > 0) {
      std::printf("%-24s differs from the interpreter by %.0f ulp\n", l.what.c_str(), ulp);
    }
  }
  std::printf("%zu launches checked, %d wrong; those not named have the interpreter's bits\n",
              all.size(), wrong);

  const double copy = 2.0 * (1 << 30) / r.time_copy(1 << 30) / 1e9;
  std::printf("%s copies %.0f GB/s\n", on.name(), copy);
  for (const launch& l : timed(bytes)) {
    const double s = r.time(l);
    double moved = 0;
    for (const tile::argument& a : l.arguments) {
      moved += gpu::read_bytes(a);
    }
    if (l.flops > 0) {
      std::printf("%-24s %8.1f us %7.2f TFLOP/s\n", l.what.c_str(), s * 1e6, l.flops / s / 1e12);
    } else {
      std::printf("%-24s %8.1f us %7.0f GB/s, %.2f of the copy\n", l.what.c_str(), s * 1e6,
                  moved / s / 1e9, moved / s / 1e9 / copy);
    }
  }
  return wrong == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  try {
    return run(std::span(argv, static_cast<std::size_t>(argc)));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

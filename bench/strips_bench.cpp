// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "ashlar/chip/executable.hpp"
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/tile/kernel.hpp"

// Fused chains as one tile program, made while this runs: `strips` interprets it, `code` is what
// the compiler makes of the same kernel, `eager` calls one operator after the other and `memcpy`
// copies as much as the chain reads and writes at least. Pin to one core from outside.
namespace {

namespace al = ashlar;
namespace tile = al::tile;
using tensor = al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>;

constexpr std::int64_t large = std::int64_t{1} << 24;
constexpr int row = 4096;

/// Numbers in [-1, 1].
tensor numbers(const al::shape& extents, int salt = 0) {
  tensor x = al::empty<tensor>(extents);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<float>(std::sin(1.37 * static_cast<double>(i % 65536) + salt));
  }
  return x;
}

/// max(2 x + 1, 0)
template <int B>
struct relu_of_line {
  static constexpr auto name = "relu_of_line";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto at = k.program_id(0) * B;
    tile::store(y, tile::max(tile::load<B>(x, at) * 2 + 1, 0), at);
  }
};

/// a gelu(rms_norm(x) w) + b, a row to a program.
struct norm_chain {
  static constexpr auto name = "norm_chain";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::in<float, 1> w,
                            tile::in<float, 2> a, tile::in<float, 2> b,
                            tile::out<float, 2> y) const {
    const auto r = k.program_id(0);
    const auto v = tile::load<row>(x, r, 0);
    const auto mean = tile::sum<0>(v * v) / static_cast<float>(row);
    const auto h = v * (1 / tile::sqrt(mean + 1e-5f)) * tile::load<row>(w, 0);
    const auto g = h * 0.5f * (tile::erf(h * 0.70710678f) + 1);
    tile::store(y, g * tile::load<row>(a, r, 0) + tile::load<row>(b, r, 0), r, 0);
  }
};

/// exp(x - max) / sum, a row to a program.
struct softmax_rows {
  static constexpr auto name = "softmax_rows";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::out<float, 2> y) const {
    const auto r = k.program_id(0);
    const auto v = tile::load<row>(x, r, 0);
    const auto e = tile::exp(v - tile::max<0>(v));
    tile::store(y, e / tile::sum<0>(e), r, 0);
  }
};

using arguments = std::vector<tile::argument>;

/// `bytes`: what is read and written at least. `call(arguments)` computes.
void measure(benchmark::State& state, std::int64_t bytes, const auto& call) {
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}
void add(const std::string& name, std::int64_t bytes, const auto& prepare) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { measure(state, bytes, prepare()); });
}

/// The two ways to run one kernel. `prepare()` gives the arguments, and what they are views of.
template <class K>
void add_kernel(const std::string& name, std::int64_t bytes, std::int64_t programs,
                const auto& prepare) {
  add(name + "/impl:strips", bytes, [=] {
    return [=, run = al::chip::executable<al::chip::host>(tile::trace(K{})), given = prepare()] {
      run({programs, 1, 1}, given.views());
    };
  });
  add(name + "/impl:code", bytes, [=] {
    return [=, given = prepare()] {
      const arguments views = given.views();
      al::chip::host_codegen::run<al::chip::host_codegen::source<K>>({programs, 1, 1}, views);
    };
  });
}

struct tensors {
  std::vector<tensor> in;
  tensor out;
  [[nodiscard]] arguments views() const {
    arguments all;
    for (const tensor& t : in) {
      all.emplace_back(al::view<const float>{t.data(), &t.spec()});
    }
    tensor writable = out;
    all.emplace_back(al::view<float>{writable.data(), &writable.spec()});
    return all;
  }
};

const bool registered = [] {
  const std::int64_t both = large * 8;
  const al::shape line{large};
  const al::shape rows{large / row, row};
  add("relu_of_line/f32/16M/impl:memcpy", both, [=] {
    return [x = numbers(line), y = numbers(line)] {
      tensor to = y;
      std::memcpy(to.data(), x.data(), static_cast<std::size_t>(large) * 4);
    };
  });
  add("relu_of_line/f32/16M/impl:eager", both,
      [=] { return [x = numbers(line)] { al::relu(x * 2.0f + 1.0f); }; });
  add_kernel<relu_of_line<4096>>("relu_of_line/f32/16M", both, large / 4096, [=] {
    return tensors{{numbers(line)}, numbers(line)};
  });
  add("norm_chain/f32/4096x4096/impl:eager", 2 * both, [=] {
    return [x = numbers(rows), w = numbers({row}, 1), a = numbers(rows, 2), b = numbers(rows, 3)] {
      return al::gelu(al::rms_norm(x, w)) * a + b;
    };
  });
  add_kernel<norm_chain>("norm_chain/f32/4096x4096", 2 * both, large / row, [=] {
    return tensors{{numbers(rows), numbers({row}, 1), numbers(rows, 2), numbers(rows, 3)},
                   numbers(rows)};
  });
  const al::shape few{512, row};
  add("softmax/f32/512x4096/impl:eager", both / 8,
      [=] { return [x = numbers(few)] { al::softmax(x); }; });
  add_kernel<softmax_rows>("softmax/f32/512x4096", both / 8, 512, [=] {
    return tensors{{numbers(few)}, numbers(few)};
  });
  return true;
}();

}  // namespace

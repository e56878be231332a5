// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "ashlar/chip/npu/codegen/run.hpp"
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/vec.hpp"
#include "ashlar/tile/interpret.hpp"
#include "support/tile_launch.hpp"

/// The interpreter with the machine's functions, so that both have the same bits.
namespace npu_codegen_test {

namespace chip = ashlar::chip;
namespace isa = ashlar::chip::npu_isa;
namespace codegen = ashlar::chip::npu_codegen;
namespace tile = ashlar::tile;
namespace simd = ashlar::simd;

struct machine_math {
  template <class T>
  static T first(const simd::vec<T>& v) {
    std::array<T, simd::lanes> all;
    simd::store(all.data(), v);
    return all[0];
  }
  template <std::floating_point T>
  static T exp(T x) {
    return first(simd::exp(simd::broadcast(x)));
  }
  template <std::floating_point T>
  static T log(T x) {
    return first(simd::log(simd::broadcast(x)));
  }
  template <std::floating_point T>
  static T sqrt(T x) {
    return first(simd::sqrt(simd::broadcast(x)));
  }
  template <std::floating_point T>
  static T tanh(T x) {
    return first(simd::tanh(simd::broadcast(x)));
  }
  template <std::floating_point T>
  static T erf(T x) {
    return first(simd::erf(simd::broadcast(x)));
  }
  template <std::floating_point T>
  static T madd(T a, T b, T c) {
    return first(simd::madd(simd::broadcast(a), simd::broadcast(b), simd::broadcast(c)));
  }
};

/// What running a program shows: memory, and what it prints.
struct outcome {
  std::vector<std::vector<std::byte>> memory;
  std::string said;
};

/// What the interpreter makes of the launch of a seed.
inline outcome interpreted(const tile::program& p, std::uint64_t seed) {
  tile_test::random_launch launch(p, seed);
  std::ostringstream out;
  tile::interpret<machine_math>(p, launch.size, launch.arguments(), {.out = &out});
  return {launch.buffers, out.str()};
}

/// Simulates a program on the launch of a seed. Returns: where its outcome is another.
inline std::string differing_from(const outcome& wanted, const chip::npu_description& d,
                                  const tile::program& p, std::uint64_t seed,
                                  codegen::compile_options options = {}) {
  tile_test::random_launch launch(p, seed);
  options.one_dma = ashlar::tile::reads_what_it_writes(p);
  const codegen::compiled c = codegen::compile(d, p, options);
  std::ostringstream out;
  codegen::launch(c, launch.size, launch.arguments(), {.timeline = false}, &out);
  return out.str() == wanted.said
             ? tile_test::difference(p, wanted.memory, launch.buffers)
             : std::string("it prints\n") + out.str() + "and not\n" + wanted.said;
}

/// Interprets and simulates a program from the same memory. Returns: where they differ.
inline std::string compare(const chip::npu_description& d, const tile::program& p,
                           std::uint64_t seed, const codegen::compile_options& options = {}) {
  return differing_from(interpreted(p, seed), d, p, seed, options);
}

}  // namespace npu_codegen_test

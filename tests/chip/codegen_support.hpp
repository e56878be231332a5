// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/tile/interpret.hpp"
#include "chip/host_support.hpp"

/// Generated kernels against the interpreter of the same program: bit for bit, since both keep the
/// IR's order and take the same functions.
namespace codegen_test {

namespace al = ashlar;
namespace tile = ashlar::tile;
using host_test::array;

template <class T>
array<T> random_array(const al::shape& extents, unsigned seed) {
  array<T> a(extents);
  std::mt19937 random(seed);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if constexpr (std::is_integral_v<T>) {
      a[i] = static_cast<T>(static_cast<int>(random() % 200) - 100);
    } else {
      a[i] = T(std::uniform_real_distribution<float>(-4, 4)(random));
    }
  }
  return a;
}

/// Runs kernel `K` both ways on copies of `out`.
template <class K, class T, class... A>
bool agrees(const tile::grid& grid, array<T> out, const A&... given) {
  array<T> expected = out;
  const std::vector<tile::argument> in{tile::argument(given)...};
  // The output stands where the kernel's first written parameter does.
  const auto with = [&](array<T>& to) {
    std::vector<tile::argument> all = in;
    int written = 0;
    while (!tile::program_of<K>.parameter_at(written).written) {
      ++written;
    }
    all.insert(all.begin() + written, tile::argument(to.out()));
    return all;
  };
  tile::interpret<al::chip::host_codegen::host_math>(tile::program_of<K>, grid, with(expected));
  al::chip::host_codegen::run<al::chip::host_codegen::source<K, al::chip::product_order::chain>>(
      grid, with(out));
  return host_test::same_bits(out, expected);
}

}  // namespace codegen_test

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/language.hpp"
#include "chip/random_programs.hpp"
#include "support/tile_kernels.hpp"
#include "support/tile_random.hpp"

/// Tile programs with memory to run on, and what they are compared with.
namespace llvm_test {

namespace al = ashlar;
namespace tile = ashlar::tile;

/// One launch. Arguments point nowhere; `arguments()` makes them point into some memory.
struct launch {
  std::string name{};
  tile::program code{};
  tile::grid size{};
  std::vector<tile::argument> given{};
  std::vector<std::vector<std::byte>> memory{};  ///< one per parameter; of scalars, empty

  [[nodiscard]] std::vector<tile::argument> arguments(
      std::vector<std::vector<std::byte>>& in) const {
    std::vector<tile::argument> all = given;
    for (std::size_t k = 0; k < all.size(); ++k) {
      all[k].data = all[k].rank < 0 ? nullptr : in[k].data();
    }
    return all;
  }

  /// What the interpreter makes of the memory.
  template <class Math = tile::eval::std_math>
  [[nodiscard]] std::vector<std::vector<std::byte>> expected() const {
    std::vector<std::vector<std::byte>> all = memory;
    tile::interpret<Math>(code, size, arguments(all));
    return all;
  }
};

inline launch random_launch(std::uint64_t seed, const tile_test::random_options& options) {
  launch l;
  l.name = "seed " + std::to_string(seed);
  l.code = tile_test::random_program(seed, options);
  tile_test::random_launch made(l.code, seed);
  l.size = made.size;
  l.given = made.arguments();
  l.memory = made.buffers;
  return l;
}

/// A view of random elements for a launch that is put together by hand.
template <class T>
struct random_view {
  std::vector<std::int64_t> extents;
  std::vector<std::int64_t> strides{};  ///< row-major where empty
  double low = -4, high = 4;
  std::vector<double> first{};  ///< these instead of the first random ones
};

class launch_maker {
 public:
  launch_maker(std::string name, const tile::program& p, const tile::grid& size) {
    made_.name = std::move(name);
    made_.code = p;
    made_.size = size;
  }

  template <class T>
  launch_maker& add(const random_view<T>& v) {
    std::vector<std::int64_t> strides = v.strides;
    std::int64_t room = 1;
    if (strides.empty()) {
      strides.resize(v.extents.size());
      for (std::size_t a = strides.size(); a-- > 0;) {
        strides[a] = room;
        room *= v.extents[a];
      }
    } else {
      for (std::size_t a = 0; a < strides.size(); ++a) {
        room += strides[a] * std::max<std::int64_t>(v.extents[a] - 1, 0);
      }
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(room + 1) * sizeof(T));
    for (std::int64_t i = 0; i < room; ++i) {
      const auto u = static_cast<std::size_t>(i);
      const double x = u < v.first.size()
                           ? v.first[u]
                           : std::uniform_real_distribution<double>(v.low, v.high)(random_);
      if constexpr (std::is_integral_v<T>) {
        tile::detail::set_element(bytes.data(), i, static_cast<T>(static_cast<std::int64_t>(x)));
      } else {
        tile::detail::set_element(bytes.data(), i, T(static_cast<float>(x)));
      }
    }
    const std::size_t k = made_.given.size();
    if (made_.code.parameter_at(static_cast<int>(k)).written) {
      made_.given.push_back(tile::argument(reinterpret_cast<T*>(bytes.data()), v.extents, strides));
    } else {
      made_.given.push_back(
          tile::argument(reinterpret_cast<const T*>(bytes.data()), v.extents, strides));
    }
    made_.memory.push_back(std::move(bytes));
    return *this;
  }
  template <al::Scalar T>
  launch_maker& add(T scalar) {
    made_.given.push_back(tile::argument(scalar));
    made_.memory.emplace_back();
    return *this;
  }
  [[nodiscard]] launch done() const { return made_; }

 private:
  launch made_{};
  std::mt19937 random_{1234};
};

/// The same launch on views that are dense along their last axis, with every other stride a
/// multiple of `bytes`.
inline launch aligned(launch l, std::int64_t bytes) {
  for (std::size_t k = 0; k < l.given.size(); ++k) {
    tile::argument& a = l.given[k];
    if (a.rank <= 0) {
      continue;
    }
    const auto size = static_cast<std::int64_t>(al::size_of(a.element));
    const auto before = a.strides;
    std::int64_t step = 1;
    std::int64_t elements = 1;
    for (int axis = a.rank - 1; axis >= 0; --axis) {
      const auto u = static_cast<std::size_t>(axis);
      a.strides[u] = step;
      step = (std::max<std::int64_t>(a.extents[u], 1) * step * size + bytes - 1) / bytes * bytes /
             size;
      elements *= a.extents[u];
    }
    std::vector<std::byte> memory(static_cast<std::size_t>((step + 1) * size));
    for (std::int64_t n = 0; n < elements; ++n) {
      std::int64_t from = 0;
      std::int64_t to = 0;
      std::int64_t left = n;
      for (int axis = a.rank - 1; axis >= 0; --axis) {
        const auto u = static_cast<std::size_t>(axis);
        from += left % a.extents[u] * before[u];
        to += left % a.extents[u] * a.strides[u];
        left /= a.extents[u];
      }
      std::memcpy(memory.data() + to * size, l.memory[k].data() + from * size,
                  static_cast<std::size_t>(size));
    }
    l.memory[k] = std::move(memory);
  }
  return l;
}

/// The programs of some launches, each once; where `passes` says so, every other one after the
/// passes.
struct programs {
  std::vector<tile::program> code{};
  std::vector<std::size_t> of{};  ///< of each launch: its program

  explicit programs(const std::vector<launch>& all, bool passes = false) {
    for (const launch& l : all) {
      const auto at = std::find(code.begin(), code.end(), l.code);
      of.push_back(static_cast<std::size_t>(at - code.begin()));
      if (at == code.end()) {
        code.push_back(l.code);
      }
    }
    for (std::size_t i = 0; passes && i < code.size(); i += 2) {
      code[i] = al::chip::llvm_codegen::optimised(code[i]);
    }
  }
};

/// How many floating-point numbers lie between two, at most; of other types, whether they differ.
/// NaN is equal to NaN: machines do not agree on its bits.
template <class T>
double distance(const T& a, const T& b) {
  const auto x = static_cast<al::compute_type<T>>(a);
  const auto y = static_cast<al::compute_type<T>>(b);
  if (std::memcmp(&a, &b, sizeof(T)) == 0 || (x != x && y != y)) {
    return 0;
  }
  if constexpr (al::Floating<T>) {
    const auto ordered = [](T v) {
      const auto bits = static_cast<std::int64_t>(tile::eval::detail::raw_bits(v));
      const std::int64_t sign = std::int64_t{1} << (sizeof(T) * 8 - 1);
      return (bits & sign) != 0 ? -(bits & ~sign) : bits;
    };
    const std::int64_t p = ordered(a);
    const std::int64_t q = ordered(b);
    const auto apart =
        static_cast<std::uint64_t>(std::max(p, q)) - static_cast<std::uint64_t>(std::min(p, q));
    return x != x || y != y ? std::numeric_limits<double>::infinity()
                            : std::max(1.0, static_cast<double>(apart));
  } else {
    return std::numeric_limits<double>::infinity();
  }
}

/// The largest `distance` of two memories of a launch.
inline double distance(const launch& l, const std::vector<std::vector<std::byte>>& a,
                       const std::vector<std::vector<std::byte>>& b) {
  double most = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    if (a[k] == b[k]) {
      continue;
    }
    tile::eval::with_scalar(l.given[k].element, [&]<class T>(std::type_identity<T>) {
      for (std::size_t i = 0; i < a[k].size() / sizeof(T); ++i) {
        const auto n = static_cast<std::int64_t>(i);
        most = std::max(most, distance(tile::detail::element_at<T>(a[k].data(), n),
                                       tile::detail::element_at<T>(b[k].data(), n)));
      }
    });
  }
  return most;
}

// --- launches ------------------------------------------------------------------------------------

using namespace tile_kernels;

/// Launches of kernels that need nothing but the machine: sizes of 0, 1, primes, one over and one
/// under the blocks.
inline std::vector<launch> kernel_launches() {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  std::vector<launch> all;
  const auto floats = [&]<class T>(std::type_identity<T>, const char* name) {
    random_view<T> a{{79}};
    random_view<T> b{{79}};
    const double nasty[] = {0.0, -0.0, 1.0, infinity, -infinity, 1e-30};
    for (int i = 0; i < 36; ++i) {
      a.first.push_back(nasty[i / 6]);
      b.first.push_back(nasty[i % 6]);
    }
    using kernel = exact_functions<T, 40>;
    all.push_back(launch_maker(name, tile::program_of<kernel>, {2, 1, 1})
                      .add(a)
                      .add(b)
                      .add(random_view<T>{{kernel::rows, 79}})
                      .done());
  };
  floats(std::type_identity<float>(), "exact float");
  floats(std::type_identity<double>(), "exact double");
  floats(std::type_identity<al::bfloat16>(), "exact bfloat16");
  floats(std::type_identity<al::float16>(), "exact float16");

  const auto whole = [&]<class T>(std::type_identity<T>, const char* name) {
    using kernel = integers<T, 24>;
    const double least = static_cast<double>(std::numeric_limits<T>::min());
    all.push_back(launch_maker(name, tile::program_of<kernel>, {2, 1, 1})
                      .add(random_view<T>{{47}, {}, 0, 100, {least, 7, least, 1, 1}})
                      .add(random_view<T>{{47}, {}, 0, 70, {-1, 0, 63, 64, -1}})
                      .add(random_view<T>{{kernel::rows, 47}, {}, 0, 1})
                      .done());
  };
  whole(std::type_identity<std::int32_t>(), "int32");
  whole(std::type_identity<std::int64_t>(), "int64");
  whole(std::type_identity<std::int8_t>(), "int8");
  whole(std::type_identity<std::uint8_t>(), "uint8");

  all.push_back(launch_maker("microscaled", tile::program_of<microscaled_product<4, 16>>, {2, 2, 1})
                    .add(random_view<al::float8_e4m3>{{5, 128}})
                    .add(random_view<std::uint8_t>{{5, 4}, {}, 120, 133})
                    .add(random_view<al::float8_e4m3>{{128, 17}})
                    .add(random_view<std::uint8_t>{{4, 17}, {}, 120, 133})
                    .add(random_view<float>{{5, 17}})
                    .done());
  using small = float8_values<40>;
  all.push_back(launch_maker("float8", tile::program_of<small>, {2, 1, 1})
                    .add(random_view<al::float8_e4m3>{
                        {75}, {}, -20, 20, {448, -448, 0x1p-9, -0x3p-9, 0x1p-6, 0, -0.0, infinity}})
                    .add(random_view<float>{
                        {79},
                        {},
                        -700,
                        700,
                        {448, 464, -465, 480, 1e9, 573.44, 614, 1e30, 1e-3, 0x1p-10, 0x3p-10,
                         0x1p-16, 0x1.8p-17, 1e-30, infinity, -infinity, -0.0, 1.0625, 1.1875}})
                    .add(random_view<float>{{small::rows, 79}})
                    .add(random_view<al::float8_e5m2>{{79}})
                    .done());

  const auto products = [&]<class T, class C>(std::type_identity<T>, std::type_identity<C>,
                                              const char* name) {
    for (const std::int64_t m : {1, 7, 9}) {
      for (const std::int64_t depth : {0, 1, 33}) {
        const std::int64_t n = m * 7 + depth % 2;
        all.push_back(launch_maker(name, tile::program_of<matmul<T, C, 8, 40, 16>>, {2, 2, 1})
                          .add(random_view<T>{{m, depth}})
                          .add(random_view<T>{{depth, n}, {1, std::max<std::int64_t>(depth, 1)}})
                          .add(random_view<C>{{m, n}})
                          .done());
      }
    }
  };
  products(std::type_identity<float>(), std::type_identity<float>(), "matmul float");
  products(std::type_identity<double>(), std::type_identity<double>(), "matmul double");
  products(std::type_identity<al::bfloat16>(), std::type_identity<float>(), "matmul bfloat16");
  products(std::type_identity<al::float16>(), std::type_identity<float>(), "matmul float16");
  products(std::type_identity<std::int8_t>(), std::type_identity<std::int32_t>(), "matmul int8");

  for (const std::int64_t n : {1, 16, 23}) {
    all.push_back(launch_maker("moments", tile::program_of<moments<float, 4, 24>>, {2, 1, 1})
                      .add(random_view<float>{{5, n}})
                      .add(random_view<float>{{moments<float, 4, 24>::planes, 24, 5}})
                      .done());
  }
  all.push_back(launch_maker("pieces", tile::program_of<pieces>, {2, 1, 1})
                    .add(random_view<std::int8_t>{{11}, {}, -128, 127})
                    .add(random_view<std::uint8_t>{{12}, {}, 0, 255})
                    .add(random_view<float>{{2, 23}})
                    .add(random_view<float>{{8, 24}})
                    .done());
  return all;
}

/// Launches of kernels that call the C library.
inline std::vector<launch> library_launches() {
  std::vector<launch> all;
  const auto functions = [&]<class T>(std::type_identity<T>, const char* name) {
    using kernel = library_functions<T, 40>;
    all.push_back(launch_maker(name, tile::program_of<kernel>, {2, 1, 1})
                      .add(random_view<T>{{79}, {}, -6, 6, {0, -0.0, 88, -90, 1e-20, 1}})
                      .add(random_view<T>{{kernel::rows, 79}})
                      .done());
  };
  functions(std::type_identity<float>(), "functions of float");
  functions(std::type_identity<double>(), "functions of double");
  functions(std::type_identity<al::bfloat16>(), "functions of bfloat16");
  for (const std::int64_t n : {1, 15, 17, 64, 131}) {
    all.push_back(launch_maker("softmax", tile::program_of<softmax<64>>, {3, 1, 1})
                      .add(random_view<float>{{3, n}})
                      .add(random_view<float>{{3, n}})
                      .done());
    all.push_back(launch_maker("softmax of columns", tile::program_of<softmax<7>>, {3, 1, 1})
                      .add(random_view<float>{{3, n}, {1, 3}})
                      .add(random_view<float>{{3, n}})
                      .done());
  }
  return all;
}

/// A pack of the random programs that every chip gets.
inline std::vector<launch> random_launches(int pack) {
  std::vector<launch> all;
  for (std::uint64_t k = 0; k < random_programs::pack_size; ++k) {
    all.push_back(random_launch(random_programs::first_seed(pack) + k, tile_test::short_options));
  }
  return all;
}

/// Some random programs that between them have every operation of the IR.
inline std::vector<launch> long_random_launches(int count, bool functions) {
  const tile_test::random_options options =
      tile_test::everything({.functions = functions, .speech = true});
  std::vector<launch> all;
  for (std::uint64_t s = 0; s < static_cast<std::uint64_t>(count); ++s) {
    all.push_back(random_launch(s + 1000, options));
  }
  MESSAGE("seeds 1000 to " << 999 + count);
  return all;
}

}  // namespace llvm_test

// SPDX-License-Identifier: Apache-2.0
#include "chip/llvm_team.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/language.hpp"
#include "ashlar/tile/opcode.hpp"
#include "chip/llvm_native.hpp"
#include "chip/llvm_support.hpp"
#include "support/tile_kernels.hpp"

namespace {

namespace chip = ashlar::chip;
namespace tile = ashlar::tile;
using llvm_test::launch;
using llvm_test::launch_maker;
using llvm_test::random_view;

/// The functions of `T` at `n` places from `-most` to `most`, and at places where they turn.
template <class T>
launch functions(const char* name, double most, std::int64_t n) {
  using kernel = tile_kernels::library_functions<T, 256>;
  constexpr double infinity = std::numeric_limits<double>::infinity();
  random_view<T> x{{n}, {}, -most, most, {0, -0.0, infinity, -infinity, infinity - infinity}};
  for (const double edge :
       {0.55, 0.9, 1.0, 0.7071067, 1.4142136, 2.5, 4.0, 5.9, 7.0, 20.0, 88.7, 104.0}) {
    for (const double y : {edge, edge * (1 + 1e-7), edge * (1 - 1e-7)}) {
      x.first.insert(x.first.end(), {y, -y});
    }
  }
  for (double y = 1e-3; y > 1e-46; y *= 1e-3) {
    x.first.insert(x.first.end(), {y, -y});
  }
  return launch_maker(name, tile::program_of<kernel>, {ashlar::ceil_div(n, 256), 1, 1})
      .add(x)
      .add(random_view<T>{{kernel::rows, n}})
      .done();
}

/// Each function where its value is exact.
template <class T>
struct edges {
  static constexpr auto name = "edges";
  constexpr void operator()(tile::scope&, tile::in<T, 1> x, tile::out<T, 2> y) const {
    const auto a = tile::load<8>(x, 0);
    tile::store(y, exp(a), 0, 0);
    tile::store(y, log(a), 1, 0);
    tile::store(y, tanh(a), 2, 0);
    tile::store(y, erf(a), 3, 0);
  }
};

/// Stops where an element is 0.
struct picky {
  static constexpr auto name = "picky";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    const auto a = tile::load<100>(x.outside(1), 0);
    k.require(7, a != 0);
    tile::store(y, 1 / a, 0);
  }
};

std::vector<launch> exact_launches() {
  std::vector<launch> all = llvm_test::long_random_launches(24, false);
  for (launch& l : llvm_test::kernel_launches()) {
    all.push_back(std::move(l));
  }
  return all;
}

}  // namespace

TEST_CASE("chip/llvm: what nvptx64 makes of any program gives the interpreter's bits on fibers") {
  if (!llvm_test::can_compile()) {
    return;
  }
  llvm_test::check_teams(exact_launches());
}

TEST_CASE("chip/llvm: threads that take several aligned elements at once change no bit") {
  if (!llvm_test::can_compile()) {
    return;
  }
  std::vector<launch> all;
  for (launch& l : exact_launches()) {
    all.push_back(llvm_test::aligned(std::move(l), 16));
  }
  // Whole blocks, a row less than one, and rows that end inside of what one access takes.
  for (const std::int64_t n : {1024, 1020, 1023, 4099}) {
    using kernel = tile_kernels::integers<std::int32_t, 1024>;
    all.push_back(llvm_test::aligned(launch_maker("long int32", tile::program_of<kernel>, {5, 1, 1})
                                         .add(random_view<std::int32_t>{{n}, {}, -99, 99})
                                         .add(random_view<std::int32_t>{{n}, {}, -9, 70})
                                         .add(random_view<std::int32_t>{{kernel::rows, n}})
                                         .done(),
                                     16));
  }
  llvm_test::check_teams(all, 0, chip::llvm_nvptx64.with_view_alignment(16));
}

TEST_CASE("chip/llvm: a team stops where what the kernel requires does not hold, and says where") {
  if (!llvm_test::can_compile()) {
    return;
  }
  const tile::program program = tile::trace<picky>();
  const llvm_test::team_library code(std::array{program});
  std::vector<float> x(77, 2.0F);
  std::vector<float> y(77, 0.0F);
  const auto run = [&] {
    const std::array<std::int64_t, 1> extents{77}, strides{1};
    return code.run(0, {1, 1, 1},
                    {tile::argument(static_cast<const float*>(x.data()), extents, strides),
                     tile::argument(y.data(), extents, strides)});
  };
  CHECK(run() == 0);
  CHECK(y == std::vector<float>(77, 0.5F));
  x[70] = 0;
  y.assign(77, 0.0F);
  const std::int32_t status = run();
  REQUIRE(status > 0);
  CHECK(program.at(status - 1).op == tile::opcode::require);
  CHECK(program.at(status - 1).index == 7);
  CHECK(y == std::vector<float>(77, 0.0F));
}

TEST_CASE("chip/llvm: exp, log, tanh and erf of nvptx64 are near the C library's") {
  if (!llvm_test::can_compile()) {
    return;
  }
  // The C library is within 1 ulp (2 for tanh and erf); softmax adds that of a sum and a quotient.
  std::vector<launch> all = llvm_test::library_launches();
  for (const double most : {1.0, 8.0, 110.0}) {
    all.push_back(functions<float>("functions of float", most, 20011));
  }
  llvm_test::check_teams(all, 4);
  // erf of double is a sum of 44 terms.
  llvm_test::check_teams({functions<double>("functions of double", 1, 20011),
                          functions<double>("functions of double", 8, 20011),
                          functions<double>("functions of double", 760, 20011)},
                         16);
}

TEST_CASE("chip/llvm: exp, log, tanh and erf of nvptx64 keep zeros, their signs, and infinities") {
  if (!llvm_test::can_compile()) {
    return;
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto at_edges = [&]<class T>(std::type_identity<T>, const char* name) {
    return launch_maker(name, tile::program_of<edges<T>>, {1, 1, 1})
        .add(random_view<T>{
            {6}, {}, 0, 1, {0, -0.0, infinity, -infinity, infinity - infinity, -1e30}})
        .add(random_view<T>{{4, 6}})
        .done();
  };
  llvm_test::check_teams({at_edges(std::type_identity<float>(), "edges of float"),
                          at_edges(std::type_identity<double>(), "edges of double")});
}

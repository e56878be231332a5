// SPDX-License-Identifier: Apache-2.0
#include "chip/llvm_team.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/language.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"
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

/// Terms of a row wait in `y`, and are read again.
template <int B>
struct shares {
  static constexpr auto name = "shares";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x) const {
    const auto row = k.program_id(0);
    const auto n = x.extent(1);
    const auto largest = tile::max<0>(k.loop(
        0, n, B,
        [&](tile::index c, auto best) { return tile::max(best, tile::load<B>(x, row, c)); },
        k.full<float, B>(-9)));
    const auto total = tile::sum<0>(k.loop(
        0, n, B,
        [&](tile::index c, auto sum) {
          const auto term = 1 / (1 + largest - tile::load<B>(x.outside(-8), row, c));
          tile::store(y, term, row, c);
          return sum + term;
        },
        k.zeros<float, B>()));
    k.loop(0, n, B,
           [&](tile::index c) { tile::store(y, tile::load<B>(y, row, c) / total, row, c); });
  }
};

/// The last block of a row has a loop of its own.
template <int B>
struct centred {
  static constexpr auto name = "centred";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x,
                            tile::in<float, 1> w) const {
    const auto row = k.program_id(0);
    const auto n = x.extent(1);
    const auto read = [&](tile::index c) { return tile::load<B>(x, row, c); };
    const auto mean =
        tile::sum<0>(k.loop(
            0, n, B, [&](tile::index c, auto sum) { return sum + read(c); }, k.zeros<float, B>())) /
        tile::cast<float>(n);
    const auto whole = n - n % B;
    const auto most = k.loop(
        0, whole, B, [&](tile::index c, auto sum) { return sum + abs(read(c) - mean); },
        k.zeros<float, B>());
    const auto all = k.loop(
        whole, n, B,
        [&](tile::index c, auto sum) {
          const auto inside = k.iota<std::int32_t, 0, B>() < tile::cast<std::int32_t>(n - c);
          return sum + tile::select(inside, abs(read(c) - mean), 0);
        },
        most);
    const auto size = tile::sum<0>(all);
    k.loop(0, n, B, [&](tile::index c) {
      tile::store(y, (read(c) - mean) / (size + 1) * tile::load<B>(w, c), row, c);
    });
  }
};

/// What is stored in a block is added up with what lies beyond the row's end; and each block is
/// read where the one before it was stored.
template <int B>
struct read_again {
  static constexpr auto name = "read_again";
  constexpr void operator()(tile::scope& k, tile::out<float, 2> y, tile::in<float, 2> x) const {
    const auto row = k.program_id(0);
    const auto n = x.extent(1);
    k.loop(0, n, B, [&](tile::index c) { tile::store(y, tile::load<B>(x, row, c) + 1, row, c); });
    const auto sum = k.loop(
        0, n, B, [&](tile::index c, auto acc) { return acc + (tile::load<B>(y, row, c) + 1); },
        k.zeros<float, B>());
    k.loop(0, n, B, [&](tile::index c) {
      const auto before = tile::load<B>(y, row, c - B / 2);
      tile::store(y, before + tile::sum<0>(sum), row, c);
    });
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

TEST_CASE(
    "chip/llvm: rows of a few blocks stay in a team's registers and keep every bit, in place") {
  constexpr int block = 64;
  const std::array programs{tile::trace<shares<block>>(), tile::trace<centred<block>>(),
                            tile::trace<read_again<block>>()};
  const auto target = chip::llvm_nvptx64.with_view_alignment(16).with_views_apart();
  std::vector<tile::program> better;
  for (const tile::program& p : programs) {
    better.push_back(llvm_test::code::optimised(p, target));
    CHECK(tile::verify(better.back()));
    CHECK(std::count_if(better.back().code.begin(), better.back().code.end(),
                        [](const auto& i) { return i.op == tile::opcode::branch; }) > 1);
  }
  std::optional<llvm_test::team_library> teams;
  if (llvm_test::can_compile()) {
    teams.emplace(better, target);
  }
  for (const std::int64_t n : {0, 1, 63, 64, 65, 127, 128, 200, 255, 256, 257, 331}) {
    for (const bool in_place : {false, true}) {
      for (std::size_t k = 0; k < programs.size(); ++k) {
        CAPTURE(n);
        CAPTURE(in_place);
        CAPTURE(programs[k].name());
        const std::int64_t step = n / 4 * 4 + 8;
        const auto run = [&](const auto& how) {
          std::vector<float> memory(static_cast<std::size_t>(9 * step));
          for (std::size_t i = 0; i < memory.size(); ++i) {
            memory[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 16;
          }
          // std::vector's memory is aligned to 16 bytes.
          float* const begin = memory.data();
          const std::array<std::int64_t, 2> extents{3, n}, strides{step, 1};
          const float* x = in_place ? begin : begin + 3 * step;
          const std::array<std::int64_t, 1> length{n}, dense{1};
          std::vector<tile::argument> given{tile::argument(begin, extents, strides),
                                            tile::argument(x, extents, strides)};
          if (programs[k].parameter_count == 3) {
            given.push_back(
                tile::argument(const_cast<const float*>(begin) + 6 * step, length, dense));
          }
          how(given);
          return memory;
        };
        const auto expected = run([&](auto& given) {
          tile::interpret(programs[k], tile::grid{3, 1, 1}, given);
        });
        CHECK(expected == run([&](auto& given) {
                tile::interpret(better[k], tile::grid{3, 1, 1}, given);
              }));
        if (teams) {
          CHECK(expected == run([&](auto& given) { CHECK(teams->run(k, {3, 1, 1}, given) == 0); }));
        }
      }
    }
  }
}

TEST_CASE("chip/llvm: views that share memory against the promise are found") {
  const tile::program program = tile::trace<shares<64>>();
  const auto target = chip::llvm_nvptx64.with_views_apart();
  std::vector<float> memory(64);
  const auto check = [&](const float* x, std::int64_t n, std::int64_t step,
                         const chip::llvm_target& promise) {
    const std::array<std::int64_t, 2> extents{3, n}, strides{8, 1}, others{step, 1};
    llvm_test::code::expect_apart(promise, program,
                                  std::array{tile::argument(memory.data(), extents, strides),
                                             tile::argument(x, extents, others)});
  };
  CHECK_NOTHROW(check(memory.data(), 8, 8, target));
  CHECK_NOTHROW(check(memory.data() + 24, 8, 8, target));
  CHECK_NOTHROW(check(memory.data() + 8, 0, 8, target));
  CHECK_NOTHROW(check(memory.data() + 8, 8, 8, chip::llvm_nvptx64));
  CHECK_THROWS_AS(check(memory.data() + 23, 8, 8, target), tile::launch_error);
  CHECK_THROWS_AS(check(memory.data() + 8, 8, 8, target), tile::launch_error);
  CHECK_THROWS_AS(check(memory.data(), 8, 9, target), tile::launch_error);
}

TEST_CASE("chip/llvm: a row is two blocks of the fold that a team takes") {
  for (const std::int64_t n : {1, 255, 512, 513, 1024, 1025, 2048, 4096}) {
    const int fold = chip::team_fold(n);
    CHECK((fold & (fold - 1)) == 0);
    CHECK(2 * fold >= n);
    CHECK((fold == 256 || fold < n));
  }
  CHECK(chip::team_fold(std::int64_t{1} << 40) == 2048);
}

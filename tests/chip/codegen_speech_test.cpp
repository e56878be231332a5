// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>

#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/interpret.hpp"
#include "chip/codegen_support.hpp"
#include "support/tile_kernels.hpp"

namespace al = ashlar;
namespace tile = ashlar::tile;
using host_test::array;

namespace {

/// What `f` writes to the standard error stream.
std::string heard(const std::function<void()>& f) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int before = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  f();
  std::fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
  std::rewind(file);
  std::string text;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    text += static_cast<char>(c);
  }
  std::fclose(file);
  return text;
}

/// Runs a kernel both ways, which must end in the same error.
template <class K, class... A>
void check_failure(int number, const tile::grid& place, const A&... arguments) {
  const auto failure = [](const auto& run) -> std::optional<tile::execution_error> {
    try {
      run();
    } catch (const tile::execution_error& e) {
      return e;
    }
    return std::nullopt;
  };
  const auto expected = failure([&] {
    tile::interpret(tile::program_of<K>, {2, 1, 1}, {tile::argument(arguments)...});
  });
  const auto got = failure([&] { al::chip::launch<K>({2, 1, 1}, arguments...); });
  REQUIRE(expected.has_value());
  REQUIRE(got.has_value());
  CHECK(got->number == number);
  CHECK(got->place == place);
  CHECK(got->reason == expected->reason);
  CHECK(got->instruction == expected->instruction);
  CHECK(std::string(got->what()) == expected->what());
}

/// A loop whose step is an argument, behind things that the passes take away.
struct stepping {
  static constexpr auto name = "stepping";
  constexpr void operator()(tile::scope& k, tile::arg<std::int64_t> step,
                            tile::out<std::int64_t, 1> y) const {
    const auto nothing = k.constant<std::int64_t>(0) + 0 * step;
    k.loop(nothing, 6, step, [&](tile::index i) {
      k.require(1, i < 5);
      tile::store(y, i, i);
    });
  }
};

/// The same requirement in each round of a loop that the passes unroll.
struct unrolled {
  static constexpr auto name = "unrolled";
  constexpr void operator()(tile::scope& k, tile::in<float, 1> x, tile::out<float, 1> y) const {
    k.loop(0, 3, 1, [&](tile::index i) {
      const auto v = tile::load(x, i);
      k.require(2, v < 1);
      tile::store(y, v, i);
    });
  }
};

}  // namespace

TEST_CASE("chip/codegen: print says on the standard error stream what the interpreter says") {
  using kernel = tile_kernels::speaking;
  array<float> x({6});
  const float values[] = {0.1f, -1.5f, 1e30f, -0.0f, 2.0f, 1e-30f};
  std::copy(std::begin(values), std::end(values), x.data());
  array<float> y({6});
  const float limit = 1e35f;
  std::ostringstream expected;
  tile::interpret(tile::program_of<kernel>, {2, 1, 1},
                  {tile::argument(x.in()), tile::argument(limit), tile::argument(y.out())},
                  {.out = &expected});
  const al::chip::thread_limit one(1);  // lines of several threads come in any order
  const std::string said = heard([&] {
    al::chip::launch<kernel>({2, 1, 1}, x.in(), limit, y.out());
  });
  CHECK(said == expected.str());
  CHECK(said.starts_with("print 3 (0, 0, 0): i64 {0}\nprint 4 (0, 0, 0): f32[4] {0.1"));
  CHECK(host_test::same_bits(x, y));
}

TEST_CASE("chip/codegen: a requirement that does not hold is the kernel's own, with its number") {
  array<float> x({6});
  array<float> y({6});
  const al::chip::thread_limit one(1);
  x[5] = 7;
  check_failure<tile_kernels::speaking>(9, {1, 0, 0}, x.in(), 7.0f, y.out());
  x[2] = 2000;
  check_failure<tile_kernels::speaking>(8, {0, 0, 0}, x.in(), 7.0f, y.out());
  x[0] = 0.5;
  x[1] = 2;
  check_failure<unrolled>(2, {0, 0, 0}, x.in(), y.out());
}

TEST_CASE("chip/codegen: a loop without a step is the kernel's own, too") {
  array<std::int64_t> y({6});
  const al::chip::thread_limit one(1);
  check_failure<stepping>(0, {0, 0, 0}, std::int64_t{0}, y.out());
  check_failure<stepping>(0, {0, 0, 0}, std::int64_t{-3}, y.out());
  check_failure<stepping>(1, {0, 0, 0}, std::int64_t{1}, y.out());
  CHECK(y[4] == 4);
  CHECK(y[5] == 0);
}

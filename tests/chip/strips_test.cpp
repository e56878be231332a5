// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/host/strips.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/kernel.hpp"
#include "support/tile_random.hpp"

namespace al = ashlar;
namespace tile = al::tile;
using al::chip::host_codegen::host_math;
using tile::opcode;
using tile::tile_type;
using tile::value_id;

namespace {

/// Runs random programs against the interpreter, bit for bit. Returns: which operations were met.
std::array<bool, tile::opcode_count> check_random(std::uint64_t first, std::uint64_t count,
                                                  const tile_test::random_options& options,
                                                  std::int64_t strip) {
  std::array<bool, tile::opcode_count> seen{};
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    CAPTURE(seed);
    const tile::program p = tile_test::random_program(seed, options);
    tile_test::random_launch launch(p, seed);
    const auto expected = tile_test::interpreted<host_math>(p, seed);
    const al::chip::strip_program run(p, {.strip = strip});
    run(launch.size, launch.arguments());
    CHECK(tile_test::difference(p, expected, launch.buffers) == "");
    for (int i = 0; i < p.size; ++i) {
      seen[static_cast<std::size_t>(p.at(i).op)] = true;
    }
  }
  return seen;
}

/// A view of `n` floats, `step` apart.
tile::argument line(std::vector<float>& memory, std::int64_t n, std::int64_t step = 1) {
  const std::array<std::int64_t, 1> shape{n};
  const std::array<std::int64_t, 1> strides{step};
  return {memory.data(), shape, strides};
}

std::vector<float> numbers(std::int64_t n, std::uint64_t seed) {
  tile_test::dice d(seed);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) {
    v = static_cast<float>(d.between(-4000, 4000)) / 1000.0f;
  }
  return x;
}

/// y = gelu-like chain of x and w over blocks of `block`, so that a program has several groups,
/// values that outlive one, and two outputs.
tile::program chain(std::int32_t block) {
  tile::builder b("chain");
  const int x = b.add_parameter({al::dtype::float32, 1, false});
  const int w = b.add_parameter({al::dtype::float32, 1, false});
  const int y = b.add_parameter({al::dtype::float32, 1, true});
  const int z = b.add_parameter({al::dtype::float32, 1, true});
  const tile_type t{al::dtype::float32, {block}};
  const value_id id = b.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
  const value_id at = b.binary(opcode::mul, id, b.index(block));
  const auto load = [&](int p) {
    return b.emit({.op = opcode::load, .index = p, .type = t}, {at});
  };
  const auto full = [&](double c) { return b.broadcast(b.constant(al::dtype::float32, c), t); };
  const value_id u = load(x);
  const value_id s = b.unary(opcode::erf, b.binary(opcode::mul, u, full(0.70710678)));
  const value_id g =
      b.binary(opcode::mul, b.binary(opcode::mul, full(0.5), u), b.binary(opcode::add, full(1), s));
  const value_id scaled = b.binary(opcode::mul, g, load(w));
  b.emit({.op = opcode::store, .index = y}, {scaled, at});
  // The block's largest element, taken off: the chain is read again behind a reduction.
  const value_id owner = b.emit({.op = opcode::reduce, .index = 0}, {scaled});
  const std::array<tile_type, 2> inputs{tile::scalar_type(al::dtype::float32),
                                        tile::scalar_type(al::dtype::float32)};
  const value_id first = b.begin_region(inputs);
  const std::array<value_id, 1> larger{
      b.binary(opcode::max, first, static_cast<value_id>(first + 1))};
  b.yield(larger);
  const value_id most = b.result(owner, 0, tile::scalar_type(al::dtype::float32));
  const value_id far = b.binary(opcode::sub, scaled, b.broadcast(most, t));
  b.emit({.op = opcode::store, .index = z}, {b.unary(opcode::exp, far), at});
  return b.finish();
}

/// A reduction whose region reads memory: element by element.
struct weighted {
  static constexpr auto name = "weighted";
  constexpr void operator()(tile::scope& k, tile::in<float, 2> x, tile::in<float, 1> w,
                            tile::out<float, 1> y) const {
    const auto v = tile::load<3, 40>(x, 0, 0);
    const auto total =
        tile::reduce<1>([&](auto a, auto b) { return a + b * tile::load<>(w, 0); }, v);
    tile::store(y, total, k.program_id(0) * 3);
  }
};

}  // namespace

TEST_CASE("chip/strips: random programs give the interpreter's bits") {
  check_random(0, 300, {}, 256);
  // Strips so short that most groups have several, with a last one that is shorter.
  check_random(2000, 300, tile_test::everything(), 16);
  const auto seen = check_random(5000, 300, tile_test::everything(), 7);
  for (int op = 0; op < tile::opcode_count; ++op) {
    const auto o = static_cast<opcode>(op);
    CAPTURE(tile::info(o).name);
    CHECK(seen[static_cast<std::size_t>(op)] == (o != opcode::print && o != opcode::require));
  }
}

TEST_CASE("chip/strips: chains over blocks of any size and views of any strides") {
  for (const std::int32_t block : {1, 13, 512, 1024, 1031}) {
    const tile::program p = chain(block);
    const al::chip::strip_program run(p);
    for (const std::int64_t n : {0, 1, 7, 512, 1009, 4096, 4099}) {
      for (const std::int64_t step : {1, 3, -1}) {
        CAPTURE(block);
        CAPTURE(n);
        CAPTURE(step);
        const std::int64_t reach = n * 3 + 1;
        auto x = numbers(reach, 1);
        auto w = numbers(reach, 2);
        std::vector<float> y(static_cast<std::size_t>(reach), -9), z(y);
        std::vector<float> expected_y(y), expected_z(y);
        const auto arguments = [&](std::vector<float>& to, std::vector<float>& too) {
          tile::argument from = line(x, n, step);
          from.data += step < 0 && n > 0 ? (n - 1) * 4 : 0;
          return std::vector<tile::argument>{from, line(w, n), line(to, n), line(too, n, 2)};
        };
        const tile::grid size{(n + block - 1) / block, 1, 1};
        tile::interpret<host_math>(p, size, arguments(expected_y, expected_z));
        run(size, arguments(y, z));
        CHECK(std::memcmp(y.data(), expected_y.data(), y.size() * 4) == 0);
        CHECK(std::memcmp(z.data(), expected_z.data(), z.size() * 4) == 0);
      }
    }
  }
}

TEST_CASE("chip/strips: views that share memory are read before they are written") {
  constexpr std::int64_t n = 4096;
  const tile::program p = chain(4096);
  for (const std::int64_t shift : {0, 1, 100}) {
    CAPTURE(shift);
    auto memory = numbers(2 * n, 3);
    auto expected = memory;
    auto w = numbers(n, 4);
    std::vector<float> z(n), expected_z(n);
    const auto arguments = [&](std::vector<float>& all, std::vector<float>& too) {
      tile::argument to = line(all, n);
      to.data += shift * 4;
      return std::vector<tile::argument>{line(all, n), line(w, n), to, line(too, n)};
    };
    tile::interpret<host_math>(p, {1, 1, 1}, arguments(expected, expected_z));
    const al::chip::strip_program run(p);
    run({1, 1, 1}, arguments(memory, z));
    CHECK(memory == expected);
    CHECK(z == expected_z);
  }
}

TEST_CASE("chip/strips: a region that reads memory runs element by element") {
  const tile::program p = tile::trace<weighted>();
  auto x = numbers(120, 5);
  std::vector<float> w{0.75f}, y(3), expected(3);
  const std::array<std::int64_t, 2> shape{3, 40};
  const std::array<std::int64_t, 2> strides{40, 1};
  const auto arguments = [&](std::vector<float>& to) {
    return std::vector<tile::argument>{{x.data(), shape, strides}, line(w, 1), line(to, 3)};
  };
  tile::interpret<host_math>(p, {1, 1, 1}, arguments(expected));
  const al::chip::strip_program run(p);
  run({1, 1, 1}, arguments(y));
  CHECK(y == expected);
}

TEST_CASE("chip/strips: errors name the instruction of the program as it was written") {
  tile::builder b("stops");
  const int x = b.add_parameter({al::dtype::float32, 1, false});
  const value_id unused = b.index(41);
  static_cast<void>(b.binary(opcode::add, unused, unused));
  const value_id v =
      b.emit({.op = opcode::load, .index = x, .type = {al::dtype::float32, {4}}}, {b.index(0)});
  const value_id limit =
      b.broadcast(b.constant(al::dtype::float32, 2.0), {al::dtype::float32, {4}});
  const int at = b.so_far().size + 1;
  b.emit({.op = opcode::require, .index = 5}, {b.binary(opcode::less, v, limit)});
  const tile::program p = b.finish();
  const al::chip::strip_program run(p);
  std::vector<float> good{0, 1, 1, 1}, bad{0, 1, 3, 1};
  run({1, 1, 1}, std::vector<tile::argument>{line(good, 4)});
  try {
    run({1, 1, 1}, std::vector<tile::argument>{line(bad, 4)});
    FAIL("the requirement holds");
  } catch (const tile::execution_error& e) {
    CHECK(e.instruction == at);
    CHECK(e.number == 5);
  }
  CHECK_THROWS_AS(run({-1, 1, 1}, std::vector<tile::argument>{line(good, 4)}), tile::launch_error);
  CHECK_THROWS_AS(run({1, 1, 1}, std::vector<tile::argument>{}), tile::launch_error);
  tile::program broken = p;
  broken.at(at).type = tile::index_type;
  CHECK_THROWS_AS(al::chip::strip_program{broken}, tile::program_error);
}

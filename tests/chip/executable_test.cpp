// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/executable.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/llvm.hpp"
#include "ashlar/chip/npu.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/builder.hpp"

namespace al = ashlar;
namespace chip = al::chip;
namespace tile = al::tile;
using tile::opcode;
using tile::value_id;

namespace {

using npu = chip::npu<chip::npu_description{}>;
using native = chip::llvm<chip::llvm_x86_64>;

static_assert(chip::CompilesTiles<npu>);
static_assert(!al::RunsTiles<chip::host>, "its operators have kernels of their own");

/// y = max(a x + 1, 0), 64 elements to a program, written while the test runs.
tile::program relu_of_line() {
  tile::builder b("relu_of_line");
  const int x = b.add_parameter({al::dtype::float32, 1, false});
  const int a = b.add_parameter({al::dtype::float32, -1, false});
  const int y = b.add_parameter({al::dtype::float32, 1, true});
  const tile::tile_type t{al::dtype::float32, {64}};
  const value_id id = b.emit({.op = opcode::program_id, .index = 0, .type = tile::index_type});
  const value_id at = b.binary(opcode::mul, id, b.index(64));
  const value_id v = b.emit({.op = opcode::load, .index = x, .type = t}, {at});
  const value_id slope = b.broadcast(
      b.emit({.op = opcode::argument, .index = a, .type = tile::scalar_type(al::dtype::float32)}),
      t);
  const auto full = [&](double c) { return b.broadcast(b.constant(al::dtype::float32, c), t); };
  const value_id line = b.binary(opcode::add, b.binary(opcode::mul, v, slope), full(1));
  b.emit({.op = opcode::store, .index = y}, {b.binary(opcode::max, line, full(0)), at});
  return b.finish();
}

template <class C>
void check() {
  const chip::executable<C> run(relu_of_line());
  CHECK(run.program() == relu_of_line());
  for (const std::int64_t n : {0, 1, 61, 64, 1000}) {
    CAPTURE(n);
    std::vector<float> x(static_cast<std::size_t>(n) + 1);
    std::vector<float> y(x.size(), -5.0f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i % 17) - 8.0f;
    }
    const std::array<std::int64_t, 1> shape{n};
    const std::array<std::int64_t, 1> stride{1};
    run({(n + 63) / 64, 1, 1}, tile::argument(static_cast<const float*>(x.data()), shape, stride),
        0.5f, tile::argument(y.data(), shape, stride));
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      const float line = x[i] * 0.5f + 1.0f;  // exact, in any order of rounding
      CHECK(y[i] == (line > 0 ? line : 0.0f));
    }
    CHECK(y.back() == -5.0f);
  }
}

}  // namespace

TEST_CASE("chip/executable: one program on the host, on the NPU and by LLVM") {
  check<chip::host>();
  check<npu>();
  if constexpr (al::RunsTiles<native>) {
    static_assert(chip::CompilesTiles<native>);
    if (chip::can_compile<native>()) {
      check<native>();
    } else {
      CHECK_THROWS_AS(chip::executable<native>{relu_of_line()}, chip::llvm_tool_error);
    }
  }
  CHECK(chip::can_compile<chip::host>());
}

TEST_CASE("chip/executable: arguments are checked on every chip") {
  const chip::executable<chip::host> host(relu_of_line());
  const chip::executable<npu> other(relu_of_line());
  CHECK_THROWS_AS(host({1, 1, 1}, 0.5f), tile::launch_error);
  CHECK_THROWS_AS(other({1, 1, 1}, 0.5f), tile::launch_error);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "ashlar/core/error.hpp"
#include "chip/npu_codegen_support.hpp"
#include "support/tile_random.hpp"

namespace {

using namespace npu_codegen_test;

/// Another machine in everything that the code generator looks at.
constexpr chip::npu_description small{.name = "small",
                                      .scratchpad_bytes = 96 * 1024,
                                      .scratchpad_banks = 8,
                                      .scratchpad_alignment = 64,
                                      .vector_bytes = 32,
                                      .matrix_unit = {4, 8, 8},
                                      .dma_engines = 1,
                                      .queue_depth = 3};

int differing(const chip::npu_description& d, std::uint64_t from, std::uint64_t to,
              const codegen::compile_options& options) {
  int wrong = 0;
  for (std::uint64_t seed = from; seed < to; ++seed) {
    std::string what;
    try {
      what = compare(d, tile_test::random_program(seed), seed, options);
    } catch (const ashlar::error& e) {
      what = e.what();
    }
    if (!what.empty()) {
      MESSAGE("seed ", seed, ": ", what);
      ++wrong;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("chip/npu_codegen: random programs give the interpreter's bits on the machine") {
  MESSAGE("seeds 0 to 7999");
  CHECK(differing({}, 0, 8000, {}) == 0);
}

TEST_CASE("chip/npu_codegen: on a small machine with one DMA engine, too") {
  MESSAGE("seeds 8000 to 8999");
  CHECK(differing(small, 8000, 9000, {}) == 0);
}

TEST_CASE("chip/npu_codegen: where buffers share bytes and engines meet at each border, too") {
  MESSAGE("seeds 9000 to 9999");
  CHECK(differing({}, 9000, 10000, {.compact = true}) == 0);
}

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/softmax.hpp"
#include "graph/tiles_support.hpp"

using namespace tiles_support;

namespace {

/// The reference accelerator, which adds up the bytes that its programs move.
struct counting : ashlar::chip::npu<ashlar::chip::npu_description{}> {
  static inline std::int64_t moved = 0;

  struct codegen {
    template <class Context>
    static void run(Context&, const ashlar::tile::program& program, const ashlar::tile::grid& grid,
                    std::span<const ashlar::tile::argument> arguments) {
      static ashlar::chip::npu_codegen::program_cache all(machine);
      const auto report = ashlar::chip::npu_codegen::run(all, program, grid, arguments);
      moved += report.bytes_loaded + report.bytes_stored;
    }
  };
};

constexpr std::array<std::pair<std::int64_t, std::int64_t>, 4> sizes{
    {{0, 3}, {1, 1}, {7, 61}, {3, 301}}};

template <class F>
void check_all(const F& f, const expectations& e = {}) {
  for (const auto& [rows, columns] : sizes) {
    check_size<counting, float>(f, {}, e, rows, columns);
  }
}

/// Rows are added up sixteen at a time, and by the operators 64: a sum of n numbers of about one
/// may differ by a rounding for each of n / 16 + 4 additions.
constexpr expectations up_to_rounding{.bound = 4.0 * (301.0 / 16 + 8) * 1.2e-7};

}  // namespace

TEST_CASE("graph/tiles: elementwise calls are one kernel of an accelerator, with their bits") {
  check_all(chain{});
}
TEST_CASE("graph/tiles: rows are one kernel of an accelerator, up to the order of sums") {
  check_all(softmaxes{}, up_to_rounding);
  check_all(norms{}, up_to_rounding);
  const graph::fusion_options same{.reorder_sums = false};
  check_size<counting, float>(softmaxes{}, same, {}, 5, 64);
  check_size<counting, float>(reductions{}, same, {}, 5, 37);
}
TEST_CASE("graph/tiles: norms and GELU chains move less than 0.6 of the calls' bytes") {
  using X = on<float, counting>;
  const auto make = [](const al::shape& s, std::uint64_t seed) {
    return al::to<counting>(al::randn<on<float, al::chip::host>>(s, seed));
  };
  const X w = make({512}, 1);
  const X v = make({512}, 2);
  const auto f = [&](const auto& x, const auto& r) {
    const auto h = al::add(x, r);
    const auto y = al::add(h, al::mul(al::gelu_tanh(al::rms_norm(h, w, 1e-5)), v));
    const auto m = al::gelu_tanh(al::add(al::layer_norm(y, v, w, 1e-5), w));
    return al::add(y, al::scale(m, 0.5));
  };
  const X x = make({8, 512}, 3);
  const X r = make({8, 512}, 4);
  auto compiled = graph::tiles<counting>{}.compile(graph::capture(f, x, r));
  CHECK(compiled.kernels().size() == 1);
  counting::moved = 0;
  const X wanted = f(x, r);
  const std::int64_t eager = counting::moved;
  counting::moved = 0;
  const X got(compiled(x, r)[0]);
  const std::int64_t fused = counting::moved;
  check_equal(got, wanted, 4.0 * (512.0 / 16 + 8) * 1.2e-7);
  MESSAGE(fused << " bytes, and " << eager << " by the calls");
  CHECK(10 * fused <= 6 * eager);
}

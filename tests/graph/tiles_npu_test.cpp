// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/graph/passes/pack_weights.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/rope.hpp"
#include "ashlar/ops/tile/attention.hpp"
#include "ashlar/ops/tile/copies.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/ops/tile/norm.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/tile/rope.hpp"
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

using X = on<float, counting>;
X numbers(const al::shape& s, std::uint64_t seed, double scale = 1) {
  return al::to<counting>(al::scale(al::randn<on<float, al::chip::host>>(s, seed), scale));
}

/// A block of Llama.
struct block {
  std::int64_t tokens, width, hidden, head = 64;
  X first = numbers({width}, 1), second = numbers({width}, 2);
  X q = numbers({width, width}, 3, 0.03), k = numbers({width, width}, 4, 0.03),
    v = numbers({width, width}, 5, 0.03), o = numbers({width, width}, 6, 0.03),
    gate = numbers({hidden, width}, 7, 0.03), up = numbers({hidden, width}, 8, 0.03),
    down = numbers({width, hidden}, 9, 0.03);
  on<std::int64_t, counting> positions =
      al::to<counting>(al::arange<on<std::int64_t, al::chip::host>>(tokens));

  auto operator()(const auto& x) const {
    const auto n = al::rms_norm(x, first, 1e-5);
    const auto split = [&](const auto& y) {
      return al::reshape(y, al::shape{1, tokens, width / head, head});
    };
    const auto turned = [&](const auto& y) {
      return al::transpose(al::rope(split(y), positions, 10000.0, false), 1, 2);
    };
    const auto mixed =
        al::scaled_dot_product_attention(turned(al::linear(n, q)), turned(al::linear(n, k)),
                                         al::transpose(split(al::linear(n, v)), 1, 2), true);
    const auto merged = al::reshape(al::transpose(mixed, 1, 2), al::shape{tokens, width});
    const auto y = al::add(x, al::linear(merged, o));
    const auto m = al::rms_norm(y, second, 1e-5);
    return al::add(y, al::linear(al::swiglu(al::linear(m, gate), al::linear(m, up)), down));
  }
};

/// The bytes that `f` moves.
template <class F>
std::int64_t bytes_of(const F& f) {
  counting::moved = 0;
  f();
  return counting::moved;
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
  const X w = numbers({512}, 1);
  const X v = numbers({512}, 2);
  const auto f = [&](const auto& x, const auto& r) {
    const auto h = al::add(x, r);
    const auto y = al::add(h, al::mul(al::gelu_tanh(al::rms_norm(h, w, 1e-5)), v));
    const auto m = al::gelu_tanh(al::add(al::layer_norm(y, v, w, 1e-5), w));
    return al::add(y, al::scale(m, 0.5));
  };
  const X x = numbers({8, 512}, 3);
  const X r = numbers({8, 512}, 4);
  auto compiled = graph::tiles<counting>{}.compile(graph::capture(f, x, r));
  CHECK(compiled.kernels().size() == 1);
  X wanted, got;
  const std::int64_t eager = bytes_of([&] { wanted = f(x, r); });
  const std::int64_t fused = bytes_of([&] { got = X(compiled(x, r)[0]); });
  check_equal(got, wanted, 4.0 * (512.0 / 16 + 8) * 1.2e-7);
  MESSAGE(fused << " bytes, and " << eager << " by the calls");
  CHECK(10 * fused <= 6 * eager);
}
TEST_CASE("graph/tiles: products and what follows them are one program, with the calls' bits") {
  const auto gated = [](const auto& a, const auto& w, const auto& u, const auto& bias,
                        const auto& r) {
    const auto y = al::swiglu(al::linear(a, w), al::linear(a, u, bias));
    return std::tuple(al::add(r, y), al::scale(y, 0.5));
  };
  // 0, 1, primes, tails of the matrix unit; the last one is several tiles.
  constexpr std::array<std::array<std::int64_t, 3>, 6> extents{
      {{0, 3, 5}, {5, 3, 0}, {1, 1, 1}, {7, 61, 37}, {17, 33, 64}, {131, 521, 67}}};
  for (const auto& e : extents) {
    const std::int64_t rows = e[0];
    const std::int64_t columns = e[1];
    const std::int64_t depth = e[2];
    CAPTURE(rows);
    const X w = numbers({columns, depth}, 2);
    const X u = numbers({columns, depth}, 3);
    const X bias = numbers({columns}, 4);
    check_group<counting>(gated, {}, {}, numbers({rows, depth}, 1), w, u, bias,
                          numbers({rows, columns}, 5));
    check_group<counting>(gated, {}, {}, numbers({3, rows, depth}, 1), w, u, bias,
                          numbers({columns}, 5));
    const auto alone = [](const auto& a, const auto& b) { return std::tuple(al::matmul(a, b)); };
    check_group<counting>(alone, {}, {}, numbers({rows, depth}, 1), X(al::transpose(w, 0, 1)));
  }
}
TEST_CASE("graph/tiles: products that cannot be one program are several, or calls") {
  // A matrix and a factor at once; a product of a product; two of other depths; rows that do not
  // lie evenly; rows by themselves.
  const auto f = [](const auto& a, const auto& w, const auto& t) {
    const auto both = al::mul(al::matmul(a, w), w);
    const auto chain = al::matmul(al::matmul(a, w), w);
    const auto odd = al::add(al::matmul(al::transpose(t, 0, 1), w),
                             al::matmul(al::narrow(a, 1, 0, 5), al::narrow(w, 0, 0, 5)));
    return std::tuple(both, al::add(chain, w), odd, al::linear(a, a), al::matmul(w, w));
  };
  const X a = numbers({19, 19}, 1);
  const X w = numbers({19, 19}, 2);
  const X t = numbers({19, 7, 19}, 3);
  auto compiled = graph::tiles<counting>{}.compile(graph::capture(f, a, w, t));
  const auto got = compiled(a, w, t);
  const auto [both, chain, odd, gram, square] = f(a, w, t);
  check_equal(X(got[0]), both, 0);
  check_equal(X(got[1]), chain, 0);
  check_equal(X(got[2]), odd, 0);
  check_equal(X(got[3]), gram, 0);
  check_equal(X(got[4]), square, 0);
}
TEST_CASE(
    "graph/tiles: a Llama block moves less than three quarters of its bytes on an accelerator") {
  const block f{.tokens = 128, .width = 768, .hidden = 2048};
  const X x = numbers({128, 768}, 10);
  auto compiled = graph::tiles<counting>{}.compile(graph::capture(f, x));
  X wanted, got;
  const std::int64_t eager = bytes_of([&] { wanted = f(x); });
  const std::int64_t fused = bytes_of([&] { got = X(compiled(x)[0]); });
  // The norms' sums have another order; products of 0.03 keep their size.
  check_equal(got, wanted, 4.0 * (768.0 / 16 + 8) * 1.2e-7);
  MESSAGE(fused << " bytes, and " << eager << " by the calls");
  CHECK(compiled.unfused() ==
        std::vector<std::string>{"rope", "rope", "scaled_dot_product_attention"});
  CHECK(4 * fused <= 3 * eager);
}
TEST_CASE("graph/pack_weights: products read constant weights as they lie, with the same bits") {
  const X w = numbers({96, 160}, 1);
  const X u = numbers({40, 96}, 2);
  const auto f = [&](const auto& x, const auto& other) {
    return al::linear(al::linear(al::gelu_tanh(al::linear(x, w)), u), other);
  };
  const X x = numbers({33, 160}, 3);
  const X other = numbers({7, 40}, 4);
  const graph::graph before = graph::freeze(graph::capture(f, x, other));
  const graph::graph after = graph::pack_weights<X>(before);
  verify(after);
  // Weights that are arguments stay.
  const auto count = [](const graph::graph& g, const void* id) {
    return std::ranges::count_if(g.nodes,
                                 [&](const graph::node& n) { return n.op && n.op->id == id; });
  };
  CHECK(count(after, &graph::op_id<al::ops::linear>) == 1);
  CHECK(count(after, &graph::op_id<al::ops::matmul>) == 2);
  CHECK(count(after, &graph::op_id<al::ops::clone>) == 0);
  const auto run = [&](const graph::graph& g) {
    return X(graph::tiles<counting>{}.compile(g)(x, other)[0]);
  };
  check_equal(run(after), run(before), 0);
  // A vector of features is no matrix: its product stays.
  const auto g = [&](const auto& v) { return al::linear(v, w); };
  const X v = numbers({160}, 5);
  const graph::graph same = graph::pack_weights<X>(graph::freeze(graph::capture(g, v)));
  CHECK(count(same, &graph::op_id<al::ops::linear>) == 1);
}

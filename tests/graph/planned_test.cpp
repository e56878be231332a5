// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/planned.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"
#include "graph/arena_check.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;
using real = al::tensor<float, al::make_key_set<al::keys::backend<host>>>;

namespace {

using arena_test::busy;

/// Counts what it passes on.
struct counting final : al::memory::resource {
  al::memory::resource& from;
  int allocations = 0;
  std::size_t live = 0;

  explicit counting(al::memory::resource& r) : from(r) {}
  std::byte* allocate(std::size_t bytes) override {
    allocations += bytes != 0 ? 1 : 0;
    live += bytes;
    return from.allocate(bytes);
  }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    live -= bytes;
    from.deallocate(p, bytes);
  }
};

bool same(std::span<const al::tensor_handle> a, std::span<const al::tensor_handle> b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i) {
    all = al::to_vector(real(a[i])) == al::to_vector(real(b[i]));
  }
  return all;
}

}  // namespace

TEST_CASE("graph/planned: an arena gives the bits of the interpreter and allocates only results") {
  counting memory(al::context<host>::current().allocator());
  {
    const al::context<host>::use_allocator here(memory);
    const real x = al::randn<real>({16, 20}, 1);
    const graph::graph g = graph::capture(busy, x);
    auto interpreted = graph::eager{}.compile(g);
    auto arranged = graph::planned<host>{}.compile(g);
    CHECK(arranged.plan().layout.bytes > 0);
    for (std::uint64_t seed = 2; seed < 6; ++seed) {
      const real y = al::randn<real>({16, 20}, seed);
      const auto expected = interpreted(y);
      const int before = memory.allocations;
      const auto got = arranged(y);
      CHECK(memory.allocations - before == 2);  // the third one lies in its own body
      CHECK(same(got, expected));
    }
    // Results do not lie in the arena: they outlive the next call and the graph.
    const real y = al::randn<real>({16, 20}, 9);
    const auto kept = arranged(y);
    static_cast<void>(arranged(x));
    CHECK(same(kept, interpreted(y)));
  }
  CHECK(memory.live == 0);
}

TEST_CASE("graph/planned: arguments that the graph was not captured for are refused") {
  const real x = al::randn<real>({16, 20}, 1);
  auto f = graph::planned<host>{}.compile(graph::capture(busy, x));
  CHECK_THROWS_AS(static_cast<void>(f(al::randn<real>({16, 21}, 1))), graph::guard_error);
  CHECK_THROWS_AS(static_cast<void>(f(x, x)), graph::guard_error);
  CHECK_THROWS_AS(static_cast<void>(f(al::transpose(al::randn<real>({20, 16}, 1), 0, 1))),
                  graph::guard_error);
  CHECK(same(f(x), graph::eager{}.compile(f.source())(x)));
}

TEST_CASE("graph/planned: a replay is launches on fixed tensors and allocates nothing") {
  counting memory(al::context<host>::current().allocator());
  {
    const al::context<host>::use_allocator here(memory);
    real w = al::randn<real>({16, 20}, 7);
    const auto f = [&](const auto& x) { return busy(al::mul(x, w)); };
    const real x = al::randn<real>({16, 20}, 1);
    const graph::graph g = graph::capture(f, x);
    auto interpreted = graph::eager{}.compile(g);
    graph::replayed<host> recorded(g);
    static_cast<void>(recorded(x));
    for (std::uint64_t seed = 2; seed < 5; ++seed) {
      const real y = al::randn<real>({16, 20}, seed);
      const auto expected = interpreted(y);
      const int before = memory.allocations;
      const auto results = recorded(y);
      CHECK(memory.allocations == before);
      CHECK(same(results, expected));
      // Written to its place, an argument needs no copy.
      al::copy.in_place(w, al::randn<real>({16, 20}, seed + 10));
      recorded.replay();
      CHECK(same(recorded.results(), interpreted(y)));
    }
    CHECK(recorded.launches() < g.nodes.size() - 2);  // views are not launched
  }
  CHECK(memory.live == 0);
}

// SPDX-License-Identifier: Apache-2.0
// Calls on several queues give what calls on one give, and what forgets a wait is caught.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/npu/queues.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/tile/elementwise.hpp"
#include "ashlar/ops/tile/reduction.hpp"
#include "ashlar/ops/views.hpp"
#include "laws/queues.hpp"

namespace al = ashlar;

namespace {

using npu = al::chip::queued_npu<al::chip::npu_description{}>;
using real = al::tensor<float, al::make_key_set<al::keys::backend<npu>>>;
using on_queue = al::context<npu>::use_queue;
using al::chip::npu_queues::unfinished_launch;
using al::chip::npu_queues::unordered_launches;

static_assert(al::HasQueues<npu> && al::RunsTiles<npu>);
static_assert(!al::memory::HostAddressable<npu::memory>);

using numbers = std::vector<float>;

/// The same bytes without asking whether they are there yet: the simulated memory is the host's.
float peek(const real& x) { return *x.data(); }

/// Calls on a queue whose owner forgot what waiting is for.
struct forgetful : npu {
  class queue {
   public:
    static queue open() {
      queue q;
      q.real_ = npu::queue::open();
      return q;
    }
    [[nodiscard]] al::memory::queue_id id() const { return real_.id(); }
    void wait() { real_.wait(); }
    void wait_for(const npu::memory::event&) {}

   private:
    npu::queue real_;
  };
};

/// An allocator that knows nothing of queues.
struct deaf final : al::memory::resource {
  al::memory::caching_allocator<npu::memory> inner;
  std::byte* allocate(std::size_t bytes) override { return inner.allocate(bytes); }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override { inner.deallocate(p, bytes); }
};

constexpr int pool_size = 4;
constexpr std::int64_t rows = 3, columns = 5;

/// One random program: the values that the host reads, in their order.
///
/// With an empty `queues` the same happens to plain numbers. Values are sums, differences and
/// maxima of small whole numbers, so that every result is exact.
struct random_program {
  std::uint64_t seed;
  std::vector<npu::queue> queues;

  [[nodiscard]] std::vector<numbers> run() const {
    std::mt19937_64 draw(seed);
    const auto below = [&](std::uint64_t n) { return static_cast<std::size_t>(draw() % n); };
    const auto fresh = [&] {
      numbers x(static_cast<std::size_t>(rows * columns));
      std::generate(x.begin(), x.end(), [&] { return static_cast<float>(below(9)) - 4.0f; });
      return x;
    };
    const bool real_ones = !queues.empty();
    std::array<real, pool_size> there;
    std::array<numbers, pool_size> here;
    std::vector<numbers> seen;
    const auto set = [&](std::size_t i) {
      here[i] = fresh();
      if (real_ones) {
        there[i] = al::from_values<real>({rows, columns}, here[i]);
      }
    };
    for (std::size_t i = 0; i < pool_size; ++i) {
      set(i);
    }
    for (int step = 0; step < 24; ++step) {
      const std::size_t which = below(3), i = below(pool_size), j = below(pool_size),
                        k = below(pool_size), what = below(12);
      const on_queue now(real_ones ? queues[which % queues.size()] : npu::queue());
      if (what < 4) {  // what was there is given back, while launches still want it
        if (real_ones) {
          there[i] = al::sub(there[j], there[k]);
        }
        here[i] = combined(here[j], here[k], [](float a, float b) { return a - b; });
      } else if (what < 6) {
        if (real_ones) {
          al::maximum.out(there[i], there[j], there[k]);
        }
        here[i] = combined(here[j], here[k], [](float a, float b) { return std::max(a, b); });
      } else if (what < 8) {
        if (real_ones) {
          al::add.in_place(there[i], there[j]);
        }
        here[i] = combined(here[i], here[j], [](float a, float b) { return a + b; });
      } else if (what < 10) {  // one row onto another, through views
        if (real_ones) {
          real to = al::narrow(there[i], 0, 1, 1);
          al::copy.in_place(to, al::narrow(there[j], 0, 2, 1));
        }
        std::copy_n(here[j].begin() + 2 * columns, columns, here[i].begin() + columns);
      } else if (what == 10) {
        set(i);
      } else {
        seen.push_back(real_ones ? al::to_vector(there[i]) : here[i]);
      }
    }
    for (std::size_t i = 0; i < pool_size; ++i) {
      seen.push_back(real_ones ? al::to_vector(there[i]) : here[i]);
    }
    return seen;
  }

 private:
  template <class F>
  static numbers combined(const numbers& a, const numbers& b, F f) {
    numbers y(a.size());
    std::transform(a.begin(), a.end(), b.begin(), y.begin(), f);
    return y;
  }
};

}  // namespace

TEST_CASE("chip/npu/queues: a call returns before it happens, and readers wait for it") {
  const real x = al::from_values<real>({2}, {3, 4});
  real y = al::from_values<real>({2}, {7, 7});
  al::add.out(y, x, x);
  CHECK(peek(y) == 7.0f);
  CHECK(al::to_vector(y) == numbers{6, 8});
  CHECK(al::item(al::narrow(y, 0, 1, 1)) == 8.0f);
  const real z = al::add(y, x);
  const auto host = al::to<al::chip::host>(z);
  CHECK(host.data()[1] == 12.0f);
}

TEST_CASE("chip/npu/queues: a call on another queue waits for what it uses") {
  const auto x = al::from_values<real>({2}, {3, 4});
  const auto y = al::add(x, x);  // enqueued; returns at once
  const auto z = [&] {
    const al::context<npu>::use_queue other(npu::queue::open());
    return al::add(y, x);  // its queue waits for an event of the first one
  }();
  CHECK(al::to_vector(z) == std::vector<float>{9, 12});  // waits
}

TEST_CASE("chip/npu/queues: random programs on two and three queues are those on one") {
  const npu::queue a = npu::queue::open(), b = npu::queue::open(), c = npu::queue::open();
  CHECK(a.id() != b.id());
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    const auto plain = random_program{seed, {}}.run();
    REQUIRE(random_program{seed, {a}}.run() == plain);
    REQUIRE(random_program{seed, {a, b}}.run() == plain);
    REQUIRE(random_program{seed, {a, b, c}}.run() == plain);
  }
}

TEST_CASE("chip/npu/queues: a backward pass on another queue than the forward one") {
  using recorded = al::tensor<float, al::make_key_set<al::keys::backend<npu>, al::keys::autograd>>;
  const auto x = al::require_grad(al::from_values<recorded>({2}, {3, 4}));
  const auto w = al::require_grad(al::from_values<recorded>({2}, {5, 6}));
  const auto seed = al::from_values<recorded>({2}, {1, 10});
  const auto y = al::mul(al::mul(x, w), x);
  {
    const on_queue now(npu::queue::open());
    al::backward(y, seed);
  }
  CHECK(al::to_vector(al::gradient(x)) == numbers{30, 480});  // 2 x w
  CHECK(al::to_vector(al::gradient(w)) == numbers{9, 160});   // x x
}

TEST_CASE("chip/npu/queues: two queues read one tensor without waiting for each other") {
  const npu::queue a = npu::queue::open(), b = npu::queue::open();
  const real w = al::from_values<real>({2}, {1, 2});
  real x = al::from_values<real>({2}, {7, 7}), y = al::from_values<real>({2}, {7, 7});
  {
    const on_queue now(a);
    al::add.out(x, w, w);
  }
  {
    const on_queue now(b);
    al::sub.out(y, w, w);
    CHECK(al::to_vector(y) == numbers{0, 0});
  }
  CHECK(peek(x) == 7.0f);  // nothing needed it
  {
    const on_queue now(b);  // a writer comes after the reader on the other queue
    real same = w;
    al::add.in_place(same, w);
    CHECK(al::to_vector(w) == numbers{2, 4});
  }
  CHECK(peek(x) == 2.0f);
}

namespace {
struct doubled {
  static constexpr std::string_view name = "doubled";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr al::tensor_spec meta(const al::tensor_spec& self) {
    return al::contiguous_like(self, self.type);
  }
};
}  // namespace

template <>
struct al::decomposition<doubled> {
  template <class Key>
  static constexpr bool answers = true;
  auto operator()(const auto& x) const { return al::add(x, x); }
};

TEST_CASE("chip/npu/queues: the parts of a decomposition wait for nothing on another queue") {
  real idle = al::from_values<real>({2}, {7, 7});
  const on_queue now(npu::queue::open());
  const real x = al::from_values<real>({2}, {3, 4});
  {
    const on_queue first{npu::queue()};
    al::add.in_place(idle, idle);
  }
  CHECK(al::to_vector(al::call<doubled>(x)) == numbers{6, 8});
  CHECK(peek(idle) == 7.0f);  // nothing needed it
  CHECK(al::to_vector(idle) == numbers{14, 14});
}

TEST_CASE("chip/npu/queues: a block that another queue uses waits for it before its next use") {
  const npu::queue other = npu::queue::open();
  al::memory::caching_allocator<npu::memory> mine;
  const al::context<npu>::use_allocator from(mine);
  const float* place = nullptr;
  real sum;
  {
    const real x = al::from_values<real>({2}, {3, 4});
    place = x.data();
    const on_queue now(other);
    sum = al::add(x, x);
  }
  {
    const real next = al::from_values<real>({2}, {0, 0});
    CHECK(next.data() != place);
  }
  {
    const on_queue now(other);
    CHECK(al::to_vector(sum) == numbers{6, 8});
  }
  const std::array<real, 2> later{al::from_values<real>({2}, {0, 0}),
                                  al::from_values<real>({2}, {0, 0})};
  CHECK((later[0].data() == place || later[1].data() == place));
  sum = {};
}

TEST_CASE("chip/npu/queues: a forgotten wait is an error with both launches and their operators") {
  using lost = al::tensor<float, al::make_key_set<al::keys::backend<forgetful>>>;
  const auto a = forgetful::queue::open(), b = forgetful::queue::open();
  const al::context<forgetful>::use_queue first(a);
  const auto x = al::from_values<lost>({2}, {3, 4});
  const auto y = al::add(x, x);
  {
    const al::context<forgetful>::use_queue second(b);
    try {
      static_cast<void>(al::mul(y, y));
      FAIL("must throw");
    } catch (const unordered_launches& e) {
      CHECK(e.later.queue == b.id());
      CHECK(e.later.op == "mul");
      CHECK(e.earlier == al::chip::npu_queues::launch_name{a.id(), e.earlier.number, "add"});
      CHECK(std::string(e.what()).find("(mul) and launch ") != std::string::npos);
    }
  }
  CHECK(al::to_vector(al::mul(y, y)) == numbers{36, 64});  // nothing is broken
}

TEST_CASE("chip/npu/queues: an allocator that knows nothing of queues is caught") {
  deaf unaware;
  const al::context<npu>::use_allocator from(unaware);
  const npu::queue other = npu::queue::open();
  real sum;
  {
    const real x = al::from_values<real>({2}, {3, 4});
    const on_queue now(other);
    sum = al::add(x, x);
  }
  const real y = al::empty<real>({2});  // where x was
  const auto overwrite = [&] {
    real same = y;
    al::fill.in_place(same, 0.0);
  };
  CHECK_THROWS_AS(overwrite(), unordered_launches);
  {
    const on_queue now(other);
    CHECK(al::to_vector(sum) == numbers{6, 8});
  }
  overwrite();
  CHECK(al::to_vector(y) == numbers{0, 0});
}

TEST_CASE("chip/npu/queues: a copy by the host of what is not there yet is refused by name") {
  const real x = al::from_values<real>({2}, {3, 4});
  const real y = al::add(x, x);
  numbers out(2);
  const auto read = [&] { npu::memory::copy_out(out.data(), y.bytes(), 8); };
  try {
    read();
    FAIL("must throw");
  } catch (const unfinished_launch& e) {
    CHECK(e.launch.op == "add");
    CHECK(e.copy == "copy_out");
  }
  CHECK_THROWS_AS(npu::memory::copy_in(x.bytes(), out.data(), 8), unfinished_launch);
  npu::memory::copy_out(out.data(), x.bytes(), 8);  // both only read
  CHECK(out == numbers{3, 4});
  al::settle(y);
  read();
  CHECK(out == numbers{6, 8});
}

TEST_CASE("chip/npu/queues: the laws of several queues hold, also on a minimal chip") {
  const npu::queue a = npu::queue::open(), b = npu::queue::open();
  std::array<real, 3> made;
  std::size_t count = 0;
  const auto launch = [&](const npu::queue& q) {
    made[count] = al::from_values<real>({2}, {0, 0});
    const on_queue now(q);
    al::fill.in_place(made[count++], 1.0);
  };
  const auto over = [&] {
    return static_cast<int>(std::count_if(made.begin(), made.end(),
                                          [](const real& x) { return x && peek(x) == 1.0f; }));
  };
  al::laws::check_queues<npu>(a, b, launch, over);
  using instant = al::laws::instant_chip;
  int happened = 0;
  al::laws::check_queues<instant>(
      {1}, {2}, [&](const auto&) { ++happened; }, [&] { return happened; });
}

TEST_CASE("chip/npu/queues: an event happens when it is waited for, and not before") {
  npu::queue a = npu::queue::open(), b = npu::queue::open();
  const real x = al::from_values<real>({2}, {3, 4});
  const on_queue now(a);
  const auto before = npu::memory::record(a.id());
  const real y = al::add(x, x);
  const auto after = npu::memory::record(a.id());
  CHECK(npu::memory::happened(before));
  CHECK(!npu::memory::happened(after));
  b.wait_for(after);
  CHECK(!npu::memory::happened(after));
  b.wait();
  CHECK(npu::memory::happened(after));
  CHECK(peek(y) == 6.0f);
}

namespace {

/// A loop with the step that the caller gives.
struct stepping {
  static constexpr auto name = "stepping";
  constexpr void operator()(al::tile::scope& k, al::tile::out<float, 1> y,
                            al::tile::scalar<std::int64_t> step) const {
    const auto sum = k.loop(
        0, 4, step, [&](al::tile::index, auto acc) { return acc + k.full<float, 4>(1.0f); },
        k.zeros<float, 4>());
    al::tile::store(y, sum, 0);
  }
};

}  // namespace

TEST_CASE("chip/npu/queues: what a launch does wrong is thrown by the wait, and then it is over") {
  auto& ctx = al::context<npu>::current();
  const real y = al::empty<real>({4});
  const auto launch = [&](std::int64_t step) {
    al::settle(y);
    const std::array<al::tile::argument, 2> arguments{y.view(), step};
    npu::codegen::run(ctx, al::tile::program_of<stepping>, {1, 1, 1}, arguments);
  };
  launch(0);
  CHECK_THROWS_AS(ctx.queue.wait(), al::tile::execution_error);
  ctx.queue.wait();
  launch(0);
  npu::memory::wait(
      npu::memory::record(ctx.queue.id()));  // as an allocator does, which cannot throw
  CHECK_THROWS_AS(ctx.queue.wait(), al::tile::execution_error);
  ctx.queue.wait();
  launch(2);
  CHECK(al::to_vector(y) == numbers{2, 2, 2, 2});
}

TEST_CASE("chip/npu/queues: threads on queues of their own share what they read") {
  const real w = al::from_values<real>({2}, {1, 2});
  std::array<numbers, 3> results;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      const on_queue now(npu::queue::open());
      real x = al::full<real>({2}, static_cast<double>(t));
      for (int i = 0; i < 5; ++i) {
        x = al::add(x, w);
      }
      results[t] = al::to_vector(x);
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  for (std::size_t t = 0; t < results.size(); ++t) {
    const auto start = static_cast<float>(t);
    CHECK(results[t] == numbers{start + 5, start + 10});
  }
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory/policies.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "memory/upstreams.hpp"

using namespace ashlar;

namespace {

using memory::kib, memory::mib;
using upstreams::held, upstreams::give_one, upstreams::give_all;

// What every list of policies is tried with. A `name` for messages.
struct by_default {
  using policies = memory::default_policies;
};
struct as_pytorch {
  using policies = memory::pytorch_policies;
};
struct lowest {
  using policies = memory::policy_list<memory::lowest_address, memory::quick_lists<0>>;
};
struct growing {
  using policies = memory::policy_list<memory::expandable<memory::plain_segments<>, 128 * kib>>;
};
struct whole {
  using policies = memory::whole_block_policies;
};
struct tolerant {
  using policies = memory::tolerant_policies;
};
struct large_aligned {
  using policies = memory::policy_list<memory::aligned_from<mib, 2 * mib>, memory::tail_slack<64>>;
};
struct banks {
  using policies = memory::policy_list<memory::interleaved<16, 512>, memory::lowest_address>;
};

template <class Lists>
using allocator = memory::caching_allocator<upstreams::paper<1>, typename Lists::policies>;

/// Blocks tile their segments, segments are those of the chip, neighbours that are free are one.
template <class A>
int disorder(const A& a) {
  int wrong = 0;
  std::map<std::uintptr_t, std::size_t> covered;
  const std::vector<memory::block_info> all = a.blocks();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const memory::block_info& b = all[i];
    wrong += b.address != b.segment + covered[b.segment];
    covered[b.segment] += b.bytes;
    if (i > 0 && all[i - 1].segment == b.segment) {
      wrong += b.is == memory::block_info::state::free &&
               all[i - 1].is == memory::block_info::state::free;
    }
  }
  std::size_t reserved = 0;
  for (const auto& [address, bytes] : covered) {
    const auto& segments = upstreams::paper<1>::segments;
    std::size_t there = 0;  // as one segment, or in pieces that were mapped
    for (auto at = segments.find(address); at != segments.end() && there < bytes;
         at = segments.find(address + there)) {
      there += at->second;
    }
    wrong += there != bytes;
    reserved += bytes;
  }
  return wrong + (a.stats().reserved != reserved) + (reserved != upstreams::paper<1>::used);
}

[[nodiscard]] std::size_t some_size(std::mt19937& random) {
  const auto magnitude =
      static_cast<unsigned>(random() % 24);  // up to 16 MiB, small ones more often
  return 1 + random() % (std::size_t{1} << magnitude);
}

}  // namespace

TEST_CASE_TEMPLATE("memory/policies: a chip that throws changes nothing", Lists, by_default,
                   as_pytorch, growing, whole, large_aligned) {
  using upstream = upstreams::paper<1>;
  // The same requests, with a failure at each call of the chip in turn.
  for (int fault = 0;; ++fault) {
    upstream::reset(64 * mib);
    upstream::throws_at = fault;
    std::mt19937 random(3);
    std::vector<held> blocks;
    bool threw = false;
    {
      allocator<Lists> a;
      for (int i = 0; i < 300; ++i) {
        if (blocks.empty() || random() % 3 != 0) {
          const std::size_t bytes = some_size(random);
          const memory::statistics before = a.stats();
          try {
            blocks.push_back({a.allocate(bytes), bytes});
          } catch (const upstreams::refused&) {
            threw = true;
            CHECK(a.stats().allocated == before.allocated);
            CHECK(a.stats().requested == before.requested);
            CHECK(disorder(a) == 0);
            blocks.push_back({a.allocate(1), 1});  // still usable
          } catch (const memory::out_of_memory&) {
            CHECK(a.stats().allocated == before.allocated);
            CHECK(disorder(a) == 0);
          }
        } else {
          give_one(a, blocks, blocks.size() - 1);
        }
      }
      give_all(a, blocks);
    }
    CHECK(upstream::used == 0);
    if (!threw) {
      CHECK(fault > 3);
      break;
    }
  }
}

TEST_CASE("memory/policies: large blocks lie at multiples of 2 MiB, also after a split") {
  upstreams::paper<1>::reset();
  allocator<large_aligned> a;
  std::mt19937 random(5);
  std::vector<held> blocks;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t bytes = some_size(random);
    std::byte* p = a.allocate(bytes);
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    CHECK(at % (bytes + 64 > mib ? 2 * mib : 512) == 0);
    blocks.push_back({p, bytes});
    if (random() % 2 == 0) {
      a.deallocate(blocks.front().p, blocks.front().bytes);
      blocks.erase(blocks.begin());
    }
  }
  give_all(a, blocks);
}

TEST_CASE("memory/policies: slack lies behind every block") {
  upstreams::paper<1>::reset();
  memory::caching_allocator<upstreams::paper<1>, memory::tail_slack<64>> a;
  CHECK(a.block_size(512) == 1024);
  CHECK(a.block_size(448) == 512);
}

TEST_CASE("memory/policies: blocks start in the banks in turns") {
  upstreams::paper<1>::reset();
  allocator<banks> a;
  for (std::size_t i = 0; i < 64; ++i) {
    std::byte* p = a.allocate(100 * kib);  // a multiple of all banks: else all would start in one
    CHECK(reinterpret_cast<std::uintptr_t>(p) / 512 % 16 == i % 16);
  }
}

TEST_CASE("memory/policies: the lowest address serves, not the best size") {
  upstreams::paper<1>::reset();
  allocator<lowest> a;
  std::byte* low = a.allocate(8192);
  a.allocate(512);
  std::byte* high = a.allocate(1024);
  a.allocate(512);
  a.deallocate(high, 1024);
  a.deallocate(low, 8192);
  CHECK(a.allocate(1024) == low);
  CHECK(a.allocate(1024) == low + 1024);
}

TEST_CASE("memory/policies: the block that was freed last serves first, in constant time") {
  upstreams::paper<1>::reset();
  memory::caching_allocator<upstreams::paper<1>, memory::first_fit, memory::quick_lists<0>> a;
  std::byte* one = a.allocate(4096);
  a.allocate(512);
  std::byte* two = a.allocate(4096);
  a.allocate(512);
  a.deallocate(one, 4096);
  a.deallocate(two, 4096);
  CHECK(a.allocate(4096) == two);
  CHECK(a.allocate(4096) == one);
}

TEST_CASE("memory/policies: a whole block serves sizes a little below its own") {
  upstreams::paper<1>::reset();
  allocator<tolerant> a;
  std::byte* p = a.allocate(100 * kib);
  a.deallocate(p, 100 * kib);
  CHECK(a.allocate(60 * kib) != p);  // 40 KiB less: more than two pages of 16 KiB
  CHECK(a.allocate(70 * kib) == p);
}

TEST_CASE("memory/policies: the failure says what holds the memory, and what was tried") {
  upstreams::paper<1>::reset(4 * mib);
  memory::caching_allocator<upstreams::paper<1>, memory::quick_lists<0>> a;
  const memory::label_scope outer("weights");
  a.allocate(mib);
  std::byte* gap = a.allocate(mib);
  {
    const memory::label_scope inner("activations");
    a.allocate(mib + 512 * kib);
  }
  a.deallocate(gap, mib);
  int seen = 0;
  a.on_out_of_memory([](const memory::out_of_memory&, void* with) { ++*static_cast<int*>(with); },
                     &seen);
  try {
    a.allocate(mib + 512);
    FAIL("must throw");
  } catch (const memory::out_of_memory& e) {
    CHECK(e.allocated == 2 * mib + 512 * kib);
    CHECK(e.free_in_pool == mib + 512 * kib);
    CHECK(e.largest_free == mib);
    CHECK(e.fragmentation() == doctest::Approx(1.0 / 3));
    CHECK(e.sites.size() == 2);
    CHECK(e.sites.front().label == "activations");
    const std::string text = e.what();
    CHECK(text.find("activations holds 1572864 in 1 blocks") != std::string::npos);
    CHECK(text.find("tried: the chip the whole cache") != std::string::npos);
  }
  CHECK(seen == 1);
  CHECK(a.allocate(mib) == gap);  // nothing was lost
}

TEST_CASE("memory/policies: a limit advises to raise it") {
  upstreams::paper<1>::reset();
  memory::caching_allocator<upstreams::paper<1>> a;
  a.set_limit(4 * mib);
  a.allocate(3 * mib);
  try {
    a.allocate(2 * mib);
    FAIL("must throw");
  } catch (const memory::out_of_memory& e) {
    CHECK(e.limit == 4 * mib);
    CHECK(e.advice().find("raise the limit") != std::string::npos);
  }
  try {
    a.allocate(5 * mib);
    FAIL("must throw");
  } catch (const memory::out_of_memory& e) {
    CHECK(e.advice().find("the request alone") != std::string::npos);
  }
}

TEST_CASE_TEMPLATE("memory/policies: what no address range is long enough for is a failure, too",
                   Lists, by_default, large_aligned) {
  upstreams::paper<1>::reset();
  allocator<Lists> a;
  int seen = 0;
  a.on_out_of_memory([](const memory::out_of_memory&, void* with) { ++*static_cast<int*>(with); },
                     &seen);
  constexpr std::size_t most = ~std::size_t{0};
  for (const std::size_t bytes : {most, most - 511, most / 2, most / 4 + 1, most / 4}) {
    CHECK_THROWS_AS(static_cast<void>(a.allocate(bytes)), memory::out_of_memory);
    CHECK(a.allocate_or_null(bytes) == nullptr);
  }
  CHECK(seen == 5);
  CHECK(a.stats().failures == 10);
  CHECK(a.stats().retries == 0);  // nothing was given up for it
  CHECK_THROWS_AS(static_cast<void>(a.block_size(most)), memory::out_of_memory);
}

TEST_CASE("memory/policies: a share that is none is refused, and so is a device") {
  memory::caching_allocator<upstreams::paper<1>> a;
  for (const double share : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(a.set_limit(4 * mib, share), argument_error);
  }
  CHECK_NOTHROW(a.set_limit(4 * mib, 1));
  using shared = upstreams::paper<9>;
  for (const int device : {-1, 2}) {
    CHECK_THROWS_AS(
        static_cast<void>(memory::shared_allocator<shared, memory::caching<>, 2>(device)),
        argument_error);
  }
  CHECK(&memory::shared_allocator<shared, memory::caching<>, 2>(0) !=
        &memory::shared_allocator<shared, memory::caching<>, 2>(1));
}

TEST_CASE("memory/policies: actions are kept with who asked, the oldest are dropped") {
  upstreams::paper<1>::reset();
  memory::caching_allocator<upstreams::paper<1>, memory::recorded<4>> a;
  const memory::label_scope here("here");
  std::byte* p = a.allocate(100);
  a.deallocate(p, 100);
  a.allocate(100);
  const std::vector<memory::trace_entry> all = a.actions();
  REQUIRE(all.size() == 4);
  CHECK(all[0].what == memory::action::alloc);
  CHECK(all[0].number == 1);  // 0 was the segment
  CHECK(all[0].label == std::string("here"));
  CHECK(all[1].what == memory::action::free_requested);
  CHECK(all[2].what == memory::action::free_completed);
  CHECK(all[3].what == memory::action::alloc);
}

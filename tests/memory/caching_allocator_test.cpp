// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory/caching_allocator.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "laws/memory.hpp"

using namespace ashlar;

namespace {

/// Host memory with a limit, and a count of what is out.
template <int Tag>
struct limited {
  static constexpr std::size_t alignment = 512;
  static inline std::size_t limit = 0, used = 0, calls = 0;
  static std::byte* allocate(std::size_t n) {
    ++calls;
    if (used + n > limit) {
      return nullptr;
    }
    used += n;
    return static_cast<std::byte*>(::operator new(n, std::align_val_t{alignment}));
  }
  static void free(std::byte* p, std::size_t n) noexcept {
    used -= n;
    ::operator delete(p, std::align_val_t{alignment});
  }
  static void copy_in(std::byte*, const void*, std::size_t) {}
  static void copy_out(void*, const std::byte*, std::size_t) {}
};

}  // namespace

TEST_CASE("memory/caching_allocator: a freed block serves the next request of its size") {
  using upstream = limited<0>;
  upstream::limit = 1 << 20;
  {
    memory::caching_allocator<upstream> a;
    std::byte* first = a.allocate(1000);
    a.deallocate(first, 1000);
    const std::size_t calls = upstream::calls;
    CHECK(a.allocate(900) == first);
    CHECK(upstream::calls == calls);
    CHECK(a.stats().allocated == 1024);
    CHECK(a.stats().requested == 900);
    a.deallocate(first, 900);
    CHECK(a.stats().allocated == 0);
    CHECK(a.stats().requested == 0);
    CHECK(a.stats().reserved == 1024);  // the chip has no 2 MiB: what is needed, then
    CHECK(a.allocate(0) == nullptr);
  }
  CHECK(upstream::used == 0);  // the destructor gives everything back
}

TEST_CASE_TEMPLATE("memory/resource: the laws of a memory hold", M, chip::host::memory,
                   laws::far_memory) {
  laws::check_memory<M>();
}

TEST_CASE("memory/resource: a memory without a block left gives none, and goes on") {
  using M = laws::far_memory;
  std::byte* const p = M::allocate(M::size - 1);
  CHECK(M::allocate(2) == nullptr);
  M::free(p, M::size - 1);
  laws::check_memory<M>();
  CHECK(M::used == 0);
}

TEST_CASE_TEMPLATE("memory/caching_allocator: the laws of size classes hold", S, memory::binned,
                   memory::exact<>, memory::exact<64>, memory::pytorch_sizes<>,
                   memory::pytorch_sizes<8>, laws::exact_sizes) {
  laws::check_size_classes<S>();
}

TEST_CASE("memory/caching_allocator: binned classes waste a quarter at most") {
  for (std::size_t n = 2048; n < 100000; n += 37) {
    CHECK(memory::binned::rounded(n) <= n + n / 4 + 1);
  }
}

TEST_CASE_TEMPLATE("memory/caching_allocator: it asks no more of a memory than the concept does",
                   Sizes, memory::binned, laws::exact_sizes) {
  using M = laws::far_memory;
  {
    memory::caching_allocator<M, Sizes> a;
    std::byte* const p = a.allocate(700);
    const int sent = 7;
    M::copy_in(p + 100, &sent, sizeof sent);
    int got = 0;
    M::copy_out(&got, p + 100, sizeof got);
    CHECK(got == 7);
    std::byte* const q = a.allocate(700);
    CHECK(q != p);
    a.deallocate(p, 700);
    CHECK(a.allocate(700) == p);  // from the cache
    CHECK_THROWS_AS(static_cast<void>(a.allocate(2 * M::size)), memory::out_of_memory);
    a.deallocate(p, 700);
    a.deallocate(q, 700);
  }
  CHECK(M::used == 0);
}

TEST_CASE("memory/caching_allocator: when the chip is full the cache is given back first") {
  using upstream = limited<1>;
  upstream::limit = 8192;
  memory::caching_allocator<upstream> a;
  std::byte* p = a.allocate(4096);
  a.deallocate(p, 4096);
  std::byte* q = a.allocate(8000);  // does not fit beside the cached block
  CHECK(q != nullptr);
  try {
    static_cast<void>(a.allocate(4096));
    FAIL("must throw");
  } catch (const memory::out_of_memory& e) {
    CHECK(e.requested == 4096);
    CHECK(e.allocated == 8192);
    CHECK(e.reserved == 8192);
  }
  CHECK_THROWS_AS(static_cast<void>(a.allocate(~std::size_t{0})), memory::out_of_memory);
  a.deallocate(q, 8000);
  CHECK(a.allocate(8000) == q);  // still usable
  a.deallocate(q, 8000);
}

TEST_CASE("memory/caching_allocator: blocks never overlap, from several threads") {
  using upstream = limited<2>;
  upstream::limit = std::size_t{1} << 30;
  memory::caching_allocator<upstream, memory::binned, memory::aligned<512>> a;
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&a, &wrong, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<std::pair<std::byte*, std::size_t>> held;
      for (int i = 0; i < 5000; ++i) {
        if (held.size() < 20 || random() % 2 == 0) {
          const std::size_t n = 1 + random() % 5000;
          std::byte* p = a.allocate(n);
          wrong[static_cast<std::size_t>(t)] += reinterpret_cast<std::uintptr_t>(p) % 512 != 0;
          p[0] = p[n - 1] = static_cast<std::byte>(t);
          held.emplace_back(p, n);
        } else {
          const std::size_t at = random() % held.size();
          const auto [p, n] = held[at];
          wrong[static_cast<std::size_t>(t)] +=
              p[0] != static_cast<std::byte>(t) || p[n - 1] != static_cast<std::byte>(t);
          a.deallocate(p, n);
          held[at] = held.back();
          held.pop_back();
        }
      }
      for (const auto& [p, n] : held) {
        a.deallocate(p, n);
      }
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  CHECK(wrong == std::vector<int>(4, 0));
  CHECK(a.stats().allocated == 0);
  a.release_cached();
  CHECK(a.stats().reserved == 0);
  CHECK(upstream::used == 0);
}

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/resource.hpp"

/// Laws of `memory::Memory` and `memory::SizeClasses`, and types that have no more than those ask.
namespace ashlar::laws {

/// Requires: `M` has room for a mebibyte, and gives bytes back that it was given.
template <memory::Memory M>
void check_memory() {
  struct block {
    std::byte* at;
    std::vector<std::byte> bytes;
  };
  const auto pattern = [](std::size_t n, std::size_t seed) {
    std::vector<std::byte> bytes(n);
    for (std::size_t i = 0; i < n; ++i) {
      bytes[i] = static_cast<std::byte>(i * 31 + seed * 7 + (i >> 8));
    }
    return bytes;
  };
  const auto holds = [](const block& b) {
    std::vector<std::byte> back(b.bytes.size());
    M::copy_out(back.data(), b.at, back.size());
    return back == b.bytes;
  };

  std::vector<block> held;
  for (const std::size_t n : {1u, 2u, 13u, 511u, 512u, 513u, 4099u, 65536u, 1u}) {
    std::byte* const p = M::allocate(n);
    REQUIRE(p != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % M::alignment == 0);
    held.push_back({p, pattern(n, held.size())});
    M::copy_in(p, held.back().bytes.data(), n);
  }
  for (const block& b : held) {  // blocks are apart: the later ones changed nothing
    CHECK(holds(b));
    if constexpr (memory::HostAddressable<M>) {
      CHECK(std::equal(b.bytes.begin(), b.bytes.end(), b.at));
    }
  }
  block& long_one = held[7];  // a part of a block, from anywhere, to anywhere
  const auto part = pattern(999, 77);
  M::copy_in(long_one.at + 1, part.data(), part.size());
  std::copy(part.begin(), part.end(), long_one.bytes.begin() + 1);
  CHECK(holds(long_one));
  std::vector<std::byte> middle(501);
  M::copy_out(middle.data(), long_one.at + 300, middle.size());
  CHECK(std::equal(middle.begin(), middle.end(), long_one.bytes.begin() + 300));
  for (std::size_t i = 0; i < held.size(); i += 2) {  // the others stay
    M::free(held[i].at, held[i].bytes.size());
  }
  for (std::size_t i = 1; i < held.size(); i += 2) {
    CHECK(holds(held[i]));
    M::free(held[i].at, held[i].bytes.size());
  }
}

/// Requires: `M` has a mebibyte of addresses and half of it in bytes.
template <memory::ReservesAddresses M>
void check_reserved_addresses() {
  constexpr std::size_t piece = std::max<std::size_t>(M::page, 64 * 1024), all = 16 * piece;
  std::byte* const start = M::reserve(all + piece);
  REQUIRE(start != nullptr);
  std::byte* const at = start + (piece - reinterpret_cast<std::uintptr_t>(start) % piece) % piece;
  std::vector<std::byte> back(piece);
  const std::vector<std::byte> sent(piece, std::byte{42});
  for (int round = 0; round < 3; ++round) {
    REQUIRE(M::map(at + 3 * piece, 2 * piece));
    REQUIRE(M::map(at, piece));
    M::copy_in(at + 4 * piece, sent.data(), piece);
    M::unmap(at + 3 * piece, piece);  // the other half stays
    M::copy_out(back.data(), at + 4 * piece, piece);
    CHECK(back == sent);
    M::unmap(at + 4 * piece, piece);
    M::unmap(at, piece);
  }
  M::unreserve(start, all + piece);
}

template <memory::SizeClasses S>
void check_size_classes() {
  const auto check = [](std::size_t n, std::size_t before) {
    const std::size_t r = S::rounded(n);
    CHECK(r >= n);
    CHECK(r >= before);
    CHECK(S::rounded(r) == r);
    CHECK(r % S::smallest == 0);
    return r;
  };
  std::size_t before = 0;
  for (std::size_t n = 1; n < 100000; n += n < 3000 ? 1 : 37) {
    before = check(n, before);
  }
  before = 0;
  for (int bit = 1; bit < 40; ++bit) {
    const std::size_t n = std::size_t{1} << bit;
    before = check(n + 1, check(n, check(n - 1, before)));
  }
}

/// Memory with addresses that mean nothing to the host: whoever touches them is found out.
struct far_memory {
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t size = std::size_t{1} << 20;
  static inline std::map<std::uintptr_t, std::vector<std::byte>> blocks;
  static inline std::uintptr_t next = alignment;  // no address is used twice
  static inline std::size_t used = 0;

  static std::byte* allocate(std::size_t n) {
    if (n > size - used) {
      return nullptr;
    }
    const std::uintptr_t at = next;
    blocks[at].resize(n);
    used += n;
    next += (n + alignment) / alignment * alignment;
    return reinterpret_cast<std::byte*>(at);
  }
  static void free(std::byte* p, std::size_t n) noexcept {
    used -= n;
    blocks.erase(reinterpret_cast<std::uintptr_t>(p));
  }
  static void copy_in(std::byte* to, const void* from, std::size_t n) {
    std::copy_n(static_cast<const std::byte*>(from), n, place(to));
  }
  static void copy_out(void* to, const std::byte* from, std::size_t n) {
    std::copy_n(place(from), n, static_cast<std::byte*>(to));
  }

 private:
  static std::byte* place(const std::byte* p) {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    const auto block = std::prev(blocks.upper_bound(at));
    return block->second.data() + (at - block->first);
  }
};

/// Every size is a class of its own.
struct exact_sizes {
  using kind = memory::kinds::size_classes;
  static constexpr std::size_t smallest = 1;
  static std::size_t rounded(std::size_t n) { return n; }
};

}  // namespace ashlar::laws

// EXPECT-ERROR: `expandable` needs a memory that models ReservesAddresses
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/memory.hpp"

struct fixed {
  static constexpr std::size_t alignment = 512;
  static std::byte* allocate(std::size_t);
  static void free(std::byte*, std::size_t) noexcept;
  static void copy_in(std::byte*, const void*, std::size_t);
  static void copy_out(void*, const std::byte*, std::size_t);
};
ashlar::memory::caching_allocator<fixed, ashlar::memory::expandable<>> a;

int main() {}

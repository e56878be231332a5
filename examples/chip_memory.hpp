// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory of a made-up chip: an address is a number that only the chip can turn into a place.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
template <class Queue>
struct chip_memory {
  static constexpr std::size_t alignment = 64, size = std::size_t{16} << 20;
  static std::byte* place(const void* address) {
    static auto* const cells = new std::vector<std::byte>(size);
    return &cells->at(reinterpret_cast<std::uintptr_t>(address));
  }
  static std::byte* allocate(std::size_t bytes) noexcept {
    static std::size_t used = alignment;  // given out once: the library's allocator keeps blocks
    const std::size_t at = used;
    used += (bytes + alignment - 1) / alignment * alignment;
    return used > size ? nullptr : reinterpret_cast<std::byte*>(at);
  }
  static void free(std::byte*, std::size_t) noexcept {}
  static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
    Queue().wait();  // what is pending may still read there
    std::memcpy(place(to), from, bytes);
  }
  static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
    std::memcpy(to, place(from), bytes);
  }
};

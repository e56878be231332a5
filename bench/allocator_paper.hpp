// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

namespace allocator_bench {

/// Addresses without memory behind them: traces need more than a machine may have.
struct paper {
  static constexpr std::size_t alignment = 512;
  static inline std::uintptr_t next = std::uintptr_t{1} << 40U;
  static std::byte* allocate(std::size_t n) {
    const std::uintptr_t at = next;
    next += (n + (2U << 20U) - 1) >> 21U << 21U;
    return reinterpret_cast<std::byte*>(at);
  }
  static void free(std::byte*, std::size_t) noexcept {}
  static constexpr std::size_t page = 64 * 1024;
  static std::byte* reserve(std::size_t n) { return allocate(n); }
  static void unreserve(std::byte*, std::size_t) noexcept {}
  static bool map(std::byte*, std::size_t) { return true; }
  static void unmap(std::byte*, std::size_t) noexcept {}
  static void copy_in(std::byte*, const void*, std::size_t) {}
  static void copy_out(void*, const std::byte*, std::size_t) {}
};

}  // namespace allocator_bench

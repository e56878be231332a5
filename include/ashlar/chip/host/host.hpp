// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstring>
#include <new>

#include "ashlar/chip/concept.hpp"
#include "ashlar/memory/host_pages.hpp"

namespace ashlar::chip {

/// The machine that the program runs on: kernels are native code, calls return when they are done.
struct host {
#ifdef __AVX512F__
  static constexpr std::size_t register_bytes = 32 * 64;
  static constexpr int product_cycles = 1;
#else
  static constexpr std::size_t register_bytes = 16 * 32;
  static constexpr int product_cycles = 2;
#endif
  /// The scratchpad is the first cache; the second one stands for memory.
  static constexpr chip_description description{
      .name = "host",
      .vector_bytes = 64,
      .matrix_unit = {1, 16, 1},
      .scratchpad_bytes = 32 * 1024,
      .alignment = 64,
      .register_bytes = register_bytes,
      .cache_bytes = 1024 * 1024,
      .matrix_cycles = {product_cycles, product_cycles, product_cycles},
      .memory_bytes_per_cycle = 32,
      .memory_latency = 14,
      .memory_burst_bytes = 64,
      .memory_outstanding = 16};
  struct memory : ashlar::memory::host_pages {
    static constexpr std::size_t alignment = 512;
    static constexpr bool host_addressable = true;
    static std::byte* allocate(std::size_t bytes) noexcept {
      return static_cast<std::byte*>(
          ::operator new(bytes, std::align_val_t{alignment}, std::nothrow));
    }
    static void free(std::byte* p, std::size_t) noexcept {
      ::operator delete(p, std::align_val_t{alignment});
    }
    static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
      std::memcpy(to, from, bytes);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
      std::memcpy(to, from, bytes);
    }
  };
  /// Calls happen at once; there is nothing to wait for.
  struct queue {
    void wait() noexcept {}
  };
};

}  // namespace ashlar::chip

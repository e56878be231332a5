// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstring>
#include <new>

#include "ashlar/chip/concept.hpp"

namespace ashlar::chip {

/// The machine that the program runs on: kernels are native code, calls return when they are done.
struct host {
  static constexpr chip_description description{.name = "host",
                                                .vector_bytes = 64,
                                                .matrix_unit = {1, 16, 1},
                                                .scratchpad_bytes = 32 * 1024,
                                                .alignment = 64};
  struct memory {
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

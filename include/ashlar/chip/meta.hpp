// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include "ashlar/chip/concept.hpp"

namespace ashlar::chip {

/// A chip without memory: its calls compute geometry, by the same code as any other chip's.
struct meta {
  static constexpr chip_description description{.name = "meta"};
  struct memory {
    static constexpr std::size_t alignment = 1;
    static constexpr bool allocates_nothing = true;
    static std::byte* allocate(std::size_t) noexcept { return nullptr; }
    static void free(std::byte*, std::size_t) noexcept {}
    static void copy_in(std::byte*, const void*, std::size_t) noexcept {}
    static void copy_out(void*, const std::byte*, std::size_t) noexcept {}
  };
  struct queue {
    void wait() noexcept {}
  };
};

}  // namespace ashlar::chip

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <string>

#include "ashlar/core/error.hpp"

namespace ashlar::memory {

/// The memory of a chip, as its driver gives it: what a chip's `memory` must model.
///
/// `allocate` returns a multiple of `alignment`, nullptr where there is none left; sizes are
/// positive. Addresses belong to the chip. `copy_in` and `copy_out` move bytes between the host and
/// the chip and return when done. Laws: tests/laws/memory.hpp.
template <class M>
concept Memory =
    requires(std::byte* p, const std::byte* q, void* to, const void* from, std::size_t n) {
      { M::alignment } -> std::convertible_to<std::size_t>;
      { M::allocate(n) } -> std::same_as<std::byte*>;
      { M::free(p, n) } noexcept;
      M::copy_in(p, from, n);
      M::copy_out(to, q, n);
    };

/// A memory whose addresses the host may read and write.
template <class M>
concept HostAddressable = Memory<M> && M::host_addressable;

/// Where tensors get their elements from: what a context points to.
///
/// An allocator behind one indirect call, so that a tensor can give its elements back to the
/// allocator that it got them from, whatever its type. Safe to use from several threads.
struct resource {
  /// Returns: at least `bytes` bytes; nullptr for 0.
  /// Throws: `out_of_memory`, and leaves everything as it was.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void deallocate(std::byte* p, std::size_t bytes) noexcept = 0;

 protected:
  resource() = default;
  resource(const resource&) = delete;
  resource& operator=(const resource&) = delete;
  ~resource() = default;
};

/// Neither the cache nor the chip has that much.
struct out_of_memory final : error {
  std::size_t requested;  ///< bytes
  std::size_t allocated;  ///< bytes in use by callers
  std::size_t reserved;   ///< bytes held from the chip, in use or cached

  out_of_memory(std::size_t wanted, std::size_t in_use, std::size_t held,
                std::source_location at = std::source_location::current())
      : error(at), requested(wanted), allocated(in_use), reserved(held) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::memory: out of memory: " + std::to_string(requested) + " bytes requested, " +
           std::to_string(allocated) + " in use, " + std::to_string(reserved) +
           " held from the chip";
  }
};

}  // namespace ashlar::memory

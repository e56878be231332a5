// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace ashlar::memory {

/// Addresses of this process, and memory for a part of them: what makes a chip's memory model
/// `ReservesAddresses` where the host's memory is the chip's. Who touches an address without
/// memory is stopped by the processor.
struct host_pages {
#if __has_include(<sys/mman.h>)
  static constexpr std::size_t page = 64 * 1024;  // a multiple of every processor's

  static std::byte* reserve(std::size_t bytes) noexcept {
    void* const p = ::mmap(nullptr, bytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS
#ifdef MAP_NORESERVE
                               | MAP_NORESERVE
#endif
                           ,
                           -1, 0);
    return p == MAP_FAILED ? nullptr : static_cast<std::byte*>(p);
  }
  static void unreserve(std::byte* p, std::size_t bytes) noexcept { ::munmap(p, bytes); }
  static bool map(std::byte* p, std::size_t bytes) noexcept {
    return ::mprotect(p, bytes, PROT_READ | PROT_WRITE) == 0;
  }
  static void unmap(std::byte* p, std::size_t bytes) noexcept {
    ::madvise(p, bytes, MADV_DONTNEED);  // else the pages stay, out of reach
    ::mprotect(p, bytes, PROT_NONE);
  }
#endif
};

}  // namespace ashlar::memory

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>

#include "ashlar/core/shape.hpp"

namespace ashlar::chip::host_kernels::detail {

/// One block of memory that grows and is never given back before its owner ends.
class scratch_buffer {
 public:
  static constexpr std::align_val_t alignment{64};

  scratch_buffer() = default;
  scratch_buffer(const scratch_buffer&) = delete;
  scratch_buffer& operator=(const scratch_buffer&) = delete;
  ~scratch_buffer() { ::operator delete(data_, alignment); }

  /// Returns: at least `bytes` bytes with any contents, valid until the next call.
  /// Throws:  `std::bad_alloc`; the old block is gone then.
  void* take(std::size_t bytes) {
    if (bytes > size_) {
      ::operator delete(data_, alignment);
      data_ = nullptr;
      size_ = 0;
      const std::size_t rounded = bytes + bytes / 4;  // few steps while a context grows
      data_ = ::operator new(rounded, alignment);
      size_ = rounded;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The calling thread's working memory for kernels that are marked by `Tag`.
template <class Tag>
void* thread_scratch(std::size_t bytes) {
  thread_local scratch_buffer buffer;
  return buffer.take(bytes);
}

/// Hands out parts of one block, each aligned to 64 bytes; a first pass only counts.
class scratch_layout {
 public:
  explicit scratch_layout(void* block = nullptr) : block_(static_cast<std::byte*>(block)) {}

  /// Throws: `size_error` where `extents` have more elements than memory has bytes.
  template <class T>
  T* take(std::initializer_list<std::int64_t> extents) {
    const auto count = static_cast<std::size_t>(element_count({extents.begin(), extents.size()}));
    std::byte* const part = block_ == nullptr ? nullptr : block_ + bytes_;
    bytes_ += (count * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(part);
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::byte* block_;
  std::size_t bytes_ = 0;
};

/// Calls `place(layout)` so that it takes its parts from the calling thread's memory for `Tag`.
template <class Tag>
void place_in_scratch(const auto& place) {
  scratch_layout count;
  place(count);
  scratch_layout parts(thread_scratch<Tag>(count.bytes()));
  place(parts);
}

}  // namespace ashlar::chip::host_kernels::detail

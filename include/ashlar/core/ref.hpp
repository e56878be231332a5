// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace ashlar {

/// Counted pointer to something with `references` and `dispose()`.
///
/// Cost: one word; a copy is one atomic add. The last owner skips the atomic subtraction, since
/// nobody is left who could add a reference.
template <class T>
class ref {
 public:
  ref() = default;
  /// Takes over one reference that is already counted.
  explicit ref(T* adopted) noexcept : p_(adopted) {}
  ref(const ref& other) noexcept : p_(other.p_) {
    if (p_ != nullptr) {
      p_->references.fetch_add(1, std::memory_order_relaxed);
    }
  }
  ref(ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  template <class Derived>
    requires std::is_convertible_v<Derived*, T*>
  ref(ref<Derived> other) noexcept : p_(other.detach()) {}
  ref& operator=(ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~ref() {
    if (p_ != nullptr && (p_->references.load(std::memory_order_acquire) == 1 ||
                          p_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)) {
      p_->dispose();
    }
  }

  /// One more owner of what somebody else owns already.
  static ref share(T* p) noexcept {
    p->references.fetch_add(1, std::memory_order_relaxed);
    return ref(p);
  }
  [[nodiscard]] T* detach() noexcept { return std::exchange(p_, nullptr); }
  [[nodiscard]] T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }

 private:
  T* p_ = nullptr;
};

/// Base of what is shared by count and destroyed through its own type.
struct counted {
  std::atomic<std::uint32_t> references{1};
  virtual void dispose() noexcept = 0;

 protected:
  counted() = default;
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() = default;
};

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

/// What the tape keeps per thread: whether it records, and which pass is under way.
namespace ashlar {

namespace autograd {

class backward_pass;
struct saved_hooks;

/// One value, so that a thread that goes on for another one can take all of it over.
struct thread_state {
  bool enabled = true;                   ///< calls are recorded
  bool anomaly = false;                  ///< nodes note where they were made
  bool check_nan = false;                ///< passes look for NaN
  unsigned threads = 1;                  ///< of a backward pass
  std::uint32_t number = 0;              ///< of this thread, from 1; 0: it made no node yet
  std::uint32_t depth = 0;               ///< passes under way, one inside the other
  std::uint64_t clock = 0;               ///< the last sequence number
  std::uint64_t passes = 0;              ///< begun so far
  std::uint64_t oldest = 0;              ///< the outermost pass that is under way
  backward_pass* pass = nullptr;         ///< the innermost one
  const saved_hooks* packing = nullptr;  ///< what becomes of tensors that are saved
};

namespace detail {

inline constinit thread_local thread_state here;

/// The number of this thread among those that make nodes.
inline std::uint32_t thread_number() {
  static constinit std::atomic<std::uint32_t> last = 0;
  if (here.number == 0) [[unlikely]] {
    here.number = last.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  return here.number;
}

/// A member of the thread's state has another value for as long as it lives.
template <auto Member>
class with_state {
 public:
  using value = std::remove_reference_t<decltype(here.*Member)>;
  explicit with_state(value v) noexcept : before_(std::exchange(here.*Member, v)) {}
  ~with_state() { here.*Member = before_; }
  with_state(const with_state&) = delete;
  with_state& operator=(const with_state&) = delete;

 private:
  value before_;
};

}  // namespace detail

/// Backward passes that begin on this thread run independent branches on `n` threads.
///
/// Gradients have the bits of one thread: what arrives at a node is added up in the order in which
/// one thread would have sent it. Hooks of one pass never run at the same time.
/// Requires: chips, keys and allocators that may be called from several threads.
struct threads_scope : detail::with_state<&thread_state::threads> {
  explicit threads_scope(unsigned n) noexcept : with_state(n == 0 ? 1 : n) {}
};

}  // namespace autograd

/// Whether calls are recorded on this thread. The type says what may be recorded, this says when.
[[nodiscard]] inline bool grad_enabled() noexcept { return autograd::detail::here.enabled; }

/// Switches recording on or off on this thread for as long as it lives.
struct grad_mode : autograd::detail::with_state<&autograd::thread_state::enabled> {
  explicit grad_mode(bool on) noexcept : with_state(on) {}
};
struct no_grad : grad_mode {
  no_grad() noexcept : grad_mode(false) {}
};

}  // namespace ashlar

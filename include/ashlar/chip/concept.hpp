// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ashlar/chip/description.hpp"
#include "ashlar/memory/caching_allocator.hpp"

namespace ashlar {

/// An ordered list of launches on one device: what a chip's `queue` must model.
template <class Q>
concept Queue = std::default_initializable<Q> && requires(Q q) {
  q.wait();  // returns when everything that was enqueued has happened
};

/// A chip: described, with memory and a queue. Optional: `kernels`, a list of its own kernels.
template <class C>
concept Chip = requires {
  { C::description } -> std::convertible_to<chip_description>;
} && memory::Memory<typename C::memory> && Queue<typename C::queue>;

/// A chip with several queues: `id()` is what its memory's events know a queue by, and
/// `wait_for(event)` lets what is enqueued from then on happen after the event. Queues are handles:
/// copies are the same queue, and a default one is queue 0. Calls on different queues that share a
/// tensor are ordered by dispatch (dispatch/queues.hpp).
template <class C>
concept HasQueues = Chip<C> && memory::HasEvents<typename C::memory> &&
                    requires(typename C::queue q, const typename C::memory::event& e) {
                      { q.id() } -> std::same_as<memory::queue_id>;
                      q.wait_for(e);
                    };

/// What a kernel runs in: one device of a chip, its queue and its allocator.
template <class C>
class context {
  static_assert(Chip<C>,
                "ashlar::context<C>: C must model ashlar::Chip (`description`, `memory`, `queue`)");

 public:
  int ordinal = 0;  ///< which device of this chip
  typename C::queue queue{};
  std::string_view running{};  ///< the operator whose kernel is called, on a chip with queues

  /// Where results get their elements from.
  [[nodiscard]] memory::resource& allocator() {
    if (allocator_ == nullptr) [[unlikely]] {
      allocator_ = &memory::shared_allocator<typename C::memory>();
    }
    return *allocator_;
  }

  /// The context that this thread's calls run in.
  static context& current() {
    static thread_local context on_this_thread;
    return on_this_thread;
  }

  /// This thread's calls are enqueued on `q` for as long as it lives.
  class use_queue {
   public:
    explicit use_queue(typename C::queue q)
        : before_(std::exchange(current().queue, std::move(q))) {}
    ~use_queue() { current().queue = std::move(before_); }
    use_queue(const use_queue&) = delete;
    use_queue& operator=(const use_queue&) = delete;

   private:
    typename C::queue before_;
  };

  /// Sends this thread's allocations of the chip somewhere else for as long as it lives.
  class use_allocator {
   public:
    explicit use_allocator(memory::resource& r)
        : before_(std::exchange(current().allocator_, &r)) {}
    ~use_allocator() { current().allocator_ = before_; }
    use_allocator(const use_allocator&) = delete;
    use_allocator& operator=(const use_allocator&) = delete;

   private:
    memory::resource* before_;
  };

 private:
  memory::resource* allocator_ = nullptr;
};

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ashlar/chip/description.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/memory/caching_allocator.hpp"

namespace ashlar {

/// An ordered list of launches on one device: what a chip's `queue` must model.
template <class Q>
concept Queue = std::default_initializable<Q> && requires(Q q) {
  q.wait();  // returns when everything that was enqueued has happened
};

/// A chip: described, with memory and a queue. Optional: `kernels`, a list of its own kernels;
/// `devices`, how many of it one process may use.
template <class C>
concept Chip = requires {
  { C::description } -> std::convertible_to<chip_description>;
} && memory::Memory<typename C::memory> && Queue<typename C::queue>;

/// How many devices of a chip there may be: ordinals 0 to one less.
template <class C>
inline constexpr int device_count = 1;
template <class C>
  requires requires { C::devices; }
inline constexpr int device_count<C> = C::devices;

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
      allocator_ =
          &memory::shared_allocator<typename C::memory, memory::caching<>, device_count<C>>(
              ordinal);
    }
    return *allocator_;
  }

  /// The context that this thread's calls run in: that of device 0, or of the innermost
  /// `on_device<C>`.
  static context& current() {
    if constexpr (device_count<C> == 1) {
      static thread_local context on_this_thread;
      return on_this_thread;
    } else {
      return of(active_);
    }
  }
  /// This thread's context of one device. Requires: there is such a device.
  static context& of(int device) {
    if constexpr (device_count<C> == 1) {
      return current();
    } else {
      static thread_local numbered all;
      return all.each[static_cast<std::size_t>(device)];
    }
  }

  /// This thread's calls are enqueued on `q` for as long as it lives.
  class use_queue {
   public:
    explicit use_queue(typename C::queue q) : before_(std::exchange(of_.queue, std::move(q))) {}
    ~use_queue() { of_.queue = std::move(before_); }
    use_queue(const use_queue&) = delete;
    use_queue& operator=(const use_queue&) = delete;

   private:
    context& of_ = current();  // also where another device has become the current one
    typename C::queue before_;
  };

  /// Sends this thread's allocations of the chip somewhere else for as long as it lives.
  class use_allocator {
   public:
    explicit use_allocator(memory::resource& r) : use_allocator(r, current().ordinal) {}
    use_allocator(memory::resource& r, int device)
        : device_(device), before_(std::exchange(of(device).allocator_, &r)) {}
    ~use_allocator() { of(device_).allocator_ = before_; }
    use_allocator(const use_allocator&) = delete;
    use_allocator& operator=(const use_allocator&) = delete;

   private:
    int device_;
    memory::resource* before_;
  };

 private:
  template <class Chip>
  friend class on_device;
  struct numbered {
    std::array<context, static_cast<std::size_t>(device_count<C>)> each{};
    numbered() {
      for (std::size_t i = 0; i < each.size(); ++i) {
        each[i].ordinal = static_cast<int>(i);
      }
    }
  };
  static inline constinit thread_local int active_ = 0;

  memory::resource* allocator_ = nullptr;
};

/// A device that a chip does not have.
struct no_such_device final : error {
  std::string chip;
  int ordinal, devices;

  no_such_device(std::string_view name, int given, int count,
                 std::source_location at = std::source_location::current())
      : error(at), chip(name), ordinal(given), devices(count) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::on_device: " + chip + ':' + std::to_string(ordinal) + " where " + chip +
           " has " + std::to_string(devices) + "; count from 0, or raise the chip's `devices`";
  }
};

/// New tensors of this thread on `C` go to one of its devices for as long as it lives. Calls on
/// tensors go where those are.
///
/// Throws: `no_such_device`.
template <class C>
class on_device {
 public:
  explicit on_device(int ordinal) {
    if (ordinal < 0 || ordinal >= device_count<C>) [[unlikely]] {
      throw no_such_device(C::description.name, ordinal, device_count<C>);
    }
    before_ = std::exchange(context<C>::active_, ordinal);
  }
  ~on_device() { context<C>::active_ = before_; }
  on_device(const on_device&) = delete;
  on_device& operator=(const on_device&) = delete;

 private:
  int before_;
};

}  // namespace ashlar

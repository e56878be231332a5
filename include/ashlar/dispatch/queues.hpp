// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/concept.hpp"
#include "ashlar/dispatch/keys.hpp"

/// What calls on several queues of a chip owe each other.
///
/// A call on one queue that uses a tensor of another waits for an event of the other: a reader for
/// the last write, a writer for the last write and for all who read it. Each pair waits once per
/// write, so two queues may read the same weights side by side. The allocator is told, and gives
/// the block to somebody else only when all of them are done with it. On a chip with one queue
/// nothing of this exists.
namespace ashlar {

namespace detail {

inline void give_back(void* owner, std::byte* p, std::size_t bytes) noexcept {
  static_cast<memory::resource*>(owner)->deallocate(p, bytes);
}

/// Threads may share tensors, each on its own queue.
template <class Chip>
inline std::mutex queue_uses_mutex;

inline bool add_queue(std::vector<memory::queue_id>& all, memory::queue_id q) {
  if (std::find(all.begin(), all.end(), q) != all.end()) {
    return false;
  }
  all.push_back(q);
  return true;
}

/// What is enqueued on the context's queue from now on may use `x`.
template <bool Writes, class Chip>
void order_use(context<Chip>& ctx, const tensor_handle& x) {
  using key = keys::backend<Chip>;
  if (!x) {
    return;
  }
  tensor_body& root = x.body()->root();
  auto& uses = *static_cast<key_state<key>*>(root.type->state(root, &key_id<key>));
  const memory::queue_id here = ctx.queue.id();
  const auto follow = [&](memory::queue_id other) {
    if (other != here) {
      ctx.queue.wait_for(Chip::memory::record(other));
    }
  };
  const std::lock_guard hold(queue_uses_mutex<Chip>);
  if (here != uses.home && root.release == &give_back && add_queue(uses.told, here)) {
    static_cast<memory::resource*>(root.owner)->used_by(root.data, here);
  }
  if constexpr (Writes) {
    follow(uses.writer);
    for (const memory::queue_id reader : uses.readers) {
      follow(reader);
    }
    uses.writer = here;
    uses.behind.clear();
    uses.readers.clear();
  } else if (here != uses.writer) {
    if (add_queue(uses.behind, here)) {
      follow(uses.writer);
    }
    add_queue(uses.readers, here);
  }
}

template <bool Writes, class Chip, class... A>
void order_uses(context<Chip>& ctx, const A&... args) {
  const auto one = [&](const auto& a) {
    if constexpr (Tensor<std::remove_cvref_t<decltype(a)>>) {
      order_use<Writes>(ctx, a);
    }
  };
  (one(args), ...);
}

/// What is enqueued from now on reads these tensors, or writes them.
template <class Chip, class... A>
void will_read([[maybe_unused]] context<Chip>& ctx, [[maybe_unused]] const A&... args) {
  if constexpr (HasQueues<Chip>) {
    order_uses<false>(ctx, args...);
  }
}
template <class Chip, class... A>
void will_write([[maybe_unused]] context<Chip>& ctx, [[maybe_unused]] const A&... args) {
  if constexpr (HasQueues<Chip>) {
    order_uses<true>(ctx, args...);
  }
}

/// While it lives, launches are those of `op`.
template <class Chip>
struct launching {
  launching(context<Chip>&, std::string_view) {}
};
template <class Chip>
  requires HasQueues<Chip>
struct launching<Chip> {
  launching(context<Chip>& ctx, std::string_view op)
      : ctx_(ctx), before_(std::exchange(ctx.running, op)) {}
  ~launching() { ctx_.running = before_; }
  launching(const launching&) = delete;
  launching& operator=(const launching&) = delete;

 private:
  context<Chip>& ctx_;
  std::string_view before_;
};

}  // namespace detail

/// Waits until the host may read and write the elements of `x`: until every call that uses them has
/// happened.
///
/// `item`, `to_vector`, `to<Chip>` and `from_values` do so on their own.
/// Throws: what went wrong in a call that was still to happen.
template <Tensor X>
void settle(const X& x) {
  using chip = chip_of<typename X::keys>;
  context<chip>& ctx = x ? context<chip>::of(x.ordinal()) : context<chip>::current();
  if constexpr (HasQueues<chip>) {
    detail::order_use<true>(ctx, x);
  }
  ctx.queue.wait();
}

}  // namespace ashlar

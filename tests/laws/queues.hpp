// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"

/// Laws of `HasQueues`, and a chip that has no more than it asks.
namespace ashlar::laws {

/// For two new queues of a chip. `launch(q)` enqueues something on `q`; `over()` says how many of
/// those have happened.
template <HasQueues C, class Launch, class Over>
void check_queues(typename C::queue a, typename C::queue b, const Launch& launch,
                  const Over& over) {
  using memory = typename C::memory;
  CHECK(typename C::queue().id() == 0);
  CHECK(a.id() != b.id());
  const typename C::queue same = a;  // a handle
  CHECK(same.id() == a.id());
  const int before = over();

  const auto idle = memory::record(b.id());
  CHECK(memory::happened(idle));
  launch(a);
  const auto first = memory::record(a.id());
  launch(a);
  const auto second = memory::record(a.id());
  memory::wait(first);
  CHECK(over() >= before + 1);
  CHECK(memory::happened(first));

  b.wait_for(second);  // and then what b does comes behind it
  launch(b);
  const auto third = memory::record(b.id());
  b.wait();
  CHECK(over() == before + 3);
  CHECK(memory::happened(second));
  CHECK(memory::happened(third));
  a.wait();
  b.wait_for(third);  // what has happened, and its own event, cost nothing
  b.wait_for(second);
  b.wait();
  CHECK(over() == before + 3);
}

/// Everything happens when it is enqueued, so every event has.
struct instant_chip {
  static constexpr chip_description description{.name = "instant_chip"};
  struct memory : chip::host::memory {
    struct event {};
    static event record(ashlar::memory::queue_id) noexcept { return {}; }
    static bool happened(const event&) noexcept { return true; }
    static void wait(const event&) noexcept {}
  };
  struct queue {
    ashlar::memory::queue_id number = 0;
    [[nodiscard]] ashlar::memory::queue_id id() const { return number; }
    void wait() {}
    void wait_for(const memory::event&) {}
  };
};

}  // namespace ashlar::laws

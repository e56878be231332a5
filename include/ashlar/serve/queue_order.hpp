// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "ashlar/serve/detail/indexed_heap.hpp"
#include "ashlar/serve/scheduled.hpp"

/// Who of those who wait is next, and who of those who run gives way first.
namespace ashlar::serve {

namespace detail {

/// Those who wait, by a key that does not change meanwhile.
template <class Order, class Group>
class keyed_line {
 public:
  void push(Group& g) { heap_.push(Order::key(g), g.number, g); }
  void erase(Group& g) { heap_.erase(g); }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const { return heap_.size(); }
  [[nodiscard]] Group& top() { return *heap_.top().item; }
  [[nodiscard]] bool valid() const { return heap_.valid(); }

 private:
  indexed_heap<Group> heap_;
};

/// An order by a key; who would be last in line gives way.
template <class Order>
struct by_key {
  template <class Group>
  using line = keyed_line<Order, Group>;
  template <class Group>
  static std::size_t victim(std::span<Group* const> running) {
    const auto last = std::ranges::max_element(running, [](const Group* a, const Group* b) {
      const std::int64_t x = Order::key(*a);
      const std::int64_t y = Order::key(*b);
      return x != y ? x < y : a->number < b->number;
    });
    return static_cast<std::size_t>(last - running.begin());
  }
};

}  // namespace detail

/// First come, first served; the newest gives way.
struct fcfs {
  template <class Group>
  static std::int64_t key(const Group& /*g*/) {
    return 0;
  }
  template <class Group>
  using line = detail::keyed_line<fcfs, Group>;

  /// Those who run are in order of their arrival here, as nobody overtakes.
  template <class Group>
  static std::size_t victim(std::span<Group* const> running) {
    return running.size() - 1;
  }
};

/// Lower `scheduling::priority` first, then first come.
struct by_priority : detail::by_key<by_priority> {
  template <class Group>
  static std::int64_t key(const Group& g) {
    return g.first().priority;
  }
};

/// The one with the fewest tokens left to compute and to generate first, if all generate as many
/// as they may.
struct shortest_remaining : detail::by_key<shortest_remaining> {
  template <class Group>
  static std::int64_t key(const Group& g) {
    return std::int64_t{g.first().most_tokens} - g.first().computed;
  }
};

/// The tenant for whom the fewest tokens were computed first; among one's own, first come. A tenant
/// who asks again after a pause is not given what others would have had meanwhile.
///
/// Source: the virtual token counter (Sheng et al., "Fairness in Serving Large Language Models",
///         2024), from memory.
struct fair_by_tenant {
  template <class Group>
  class line {
   public:
    void push(Group& g) {
      auto& own = accounts_[g.first().tenant];
      if (!own) {
        own = std::make_unique<account>();
        own->number = accounts_.size();
      }
      account& a = *own;
      g.account = &a.served;
      if (a.waiting.empty()) {
        if (g.state == request_state::waiting) {
          a.served = std::max(a.served, active_.empty() ? last_served_ : least());
        }
        a.waiting.push(0, g.number, g);
        active_.push(a.served, a.number, a);
      } else {
        a.waiting.push(0, g.number, g);
      }
      ++size_;
    }
    void erase(Group& g) {
      account& a = *accounts_.at(g.first().tenant);
      a.waiting.erase(g);
      --size_;
      if (a.waiting.empty()) {
        active_.erase(a);
        last_served_ = a.served;
      }
    }
    /// The account of `g` went down: it gave way in a step that it had a share of.
    void refunded(const Group& g) {
      account& a = *accounts_.at(g.first().tenant);
      if (!a.waiting.empty()) {
        active_.set_key(a, a.served);
      }
    }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] Group& top() {
      static_cast<void>(least());
      return *active_.top().item->waiting.top().item;
    }
    [[nodiscard]] bool valid() const {
      std::size_t listed = 0;
      for (const auto& e : active_.entries()) {
        listed += e.item->waiting.size();
        if (e.item->waiting.empty() || !e.item->waiting.valid() || e.key > e.item->served) {
          return false;
        }
      }
      return active_.valid() && listed == size_;
    }

   private:
    struct account {
      std::int64_t served = 0;  // tokens
      std::uint64_t number = 0;
      std::size_t place = 0;
      detail::indexed_heap<Group> waiting;
    };

    /// Accounts grow while their owners wait; keys catch up when they come to the top.
    std::int64_t least() {
      while (active_.top().key != active_.top().item->served) {
        account& a = *active_.top().item;
        active_.set_key(a, a.served);
      }
      return active_.top().key;
    }

    std::unordered_map<std::uint32_t, std::unique_ptr<account>> accounts_;
    detail::indexed_heap<account> active_;  // whose owners wait
    std::int64_t last_served_ = 0;
    std::size_t size_ = 0;
  };

  /// The newest of the tenant who had most, but for who came in first: computing again counts, so
  /// that tenants could take each other's blocks away in turn, and nobody would come to an end.
  template <class Group>
  static std::size_t victim(std::span<Group* const> running) {
    const auto rest = running.size() > 1 ? running.subspan(1) : running;
    const auto last = std::ranges::max_element(rest, [](const Group* a, const Group* b) {
      return *a->account != *b->account ? *a->account < *b->account : a->number < b->number;
    });
    return static_cast<std::size_t>(last - rest.begin()) + (running.size() - rest.size());
  }
};

/// A policy that says who is next and who gives way. Models: `fcfs`, `by_priority`,
/// `shortest_remaining`, `fair_by_tenant`.
template <class P, class Group>
concept OrderFor =
    requires(typename P::template line<Group>& line, Group& g, std::span<Group* const> running) {
      line.push(g);
      line.erase(g);
      { line.top() } -> std::same_as<Group&>;
      { line.empty() } -> std::convertible_to<bool>;
      { line.size() } -> std::convertible_to<std::size_t>;
      { line.valid() } -> std::convertible_to<bool>;
      { P::victim(running) } -> std::convertible_to<std::size_t>;
    };

}  // namespace ashlar::serve

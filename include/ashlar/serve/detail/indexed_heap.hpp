// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace ashlar::serve::detail {

/// A priority queue that knows where its items are (`Item::place`), so that any can be taken out.
///
/// Smaller keys first, then smaller numbers; no two items have the same number.
/// Cost: O(log items) for every change.
template <class Item>
class indexed_heap {
 public:
  struct entry {
    std::int64_t key;
    std::uint64_t number;
    Item* item;
    [[nodiscard]] bool before(const entry& other) const {
      return std::tie(key, number) < std::tie(other.key, other.number);
    }
  };

  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const entry& top() const { return entries_.front(); }
  [[nodiscard]] const std::vector<entry>& entries() const { return entries_; }

  void push(std::int64_t key, std::uint64_t number, Item& item) {
    entries_.push_back({key, number, &item});
    rise(entries_.size() - 1);
  }
  void erase(Item& item) {
    const std::size_t at = item.place;
    const entry last = entries_.back();
    entries_.pop_back();
    if (at < entries_.size()) {
      put(at, last);
      settle(at);
    }
  }
  void set_key(Item& item, std::int64_t key) {
    entries_[item.place].key = key;
    settle(item.place);
  }

  [[nodiscard]] bool valid() const {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].item->place != i || (i > 0 && entries_[i].before(entries_[(i - 1) / 2]))) {
        return false;
      }
    }
    return true;
  }

 private:
  void put(std::size_t at, const entry& e) {
    entries_[at] = e;
    e.item->place = at;
  }
  void settle(std::size_t at) {
    if (at > 0 && entries_[at].before(entries_[(at - 1) / 2])) {
      rise(at);
    } else {
      sink(at);
    }
  }
  void rise(std::size_t at) {
    const entry e = entries_[at];
    for (; at > 0 && e.before(entries_[(at - 1) / 2]); at = (at - 1) / 2) {
      put(at, entries_[(at - 1) / 2]);
    }
    put(at, e);
  }
  void sink(std::size_t at) {
    const entry e = entries_[at];
    for (std::size_t child = 2 * at + 1; child < entries_.size(); child = 2 * at + 1) {
      if (child + 1 < entries_.size() && entries_[child + 1].before(entries_[child])) {
        ++child;
      }
      if (!entries_[child].before(e)) {
        break;
      }
      put(at, entries_[child]);
      at = child;
    }
    put(at, e);
  }

  std::vector<entry> entries_;
};

}  // namespace ashlar::serve::detail

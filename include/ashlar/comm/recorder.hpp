// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "ashlar/comm/operation.hpp"

namespace ashlar::comm {

/// The last operations that one rank has joined. Several threads may use it at once.
class flight_recorder {
 public:
  static constexpr std::size_t kept = 32;

  struct entry {
    operation what;
    std::size_t number = 0;  ///< among those with its tag, from 1
    bool ended = false;
  };

  /// Returns: the operation's number among those with its tag.
  std::size_t enter(const operation& o) {
    const std::lock_guard lock(mutex_);
    const std::size_t number = ++joined_[o.tag];
    entries_[total_++ % kept] = {o, number, false};
    mark_at(o.tag, number) = mark_of(o, number);
    return number;
  }
  /// Returns: false only where the rank has joined another operation as number `number` of that
  /// tag.
  ///
  /// Cost: one read of memory that the other rank writes, where they agree.
  [[nodiscard]] bool agrees(const operation& o, std::size_t number, operation& other) const {
    const std::uint64_t mark = mark_of(o, number);
    const std::uint64_t theirs = const_cast<flight_recorder*>(this)->mark_at(o.tag, number);
    return theirs == mark || !look_up(o.tag, number, other) || other == o;
  }
  void exit(const operation& o, std::size_t number) {
    const std::lock_guard lock(mutex_);
    if (entry* const e = find(o.tag, number)) {
      e->ended = true;
    }
  }
  /// How many operations with this tag the rank has joined.
  [[nodiscard]] std::size_t joined(int tag) const {
    const std::lock_guard lock(mutex_);
    const auto at = joined_.find(tag);
    return at == joined_.end() ? 0 : at->second;
  }
  /// Returns: whether the operation is still kept; then it is in `into`.
  bool look_up(int tag, std::size_t number, operation& into) const {
    const std::lock_guard lock(mutex_);
    const entry* const e = const_cast<flight_recorder*>(this)->find(tag, number);
    if (e != nullptr) {
      into = e->what;
    }
    return e != nullptr;
  }
  /// Returns: what is kept, the oldest first.
  [[nodiscard]] std::vector<entry> last() const {
    const std::lock_guard lock(mutex_);
    std::vector<entry> all;
    for (std::size_t i = total_ < kept ? 0 : total_ - kept; i < total_; ++i) {
      all.push_back(entries_[i % kept]);
    }
    return all;
  }

 private:
  entry* find(int tag, std::size_t number) {
    for (std::size_t i = total_; i-- > (total_ < kept ? 0 : total_ - kept);) {
      entry& e = entries_[i % kept];
      if (e.what.tag == tag && e.number == number) {
        return &e;
      }
    }
    return nullptr;
  }

  /// Differs where operations differ, up to chance.
  static std::uint64_t mark_of(const operation& o, std::size_t number) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    const auto mix = [&hash](std::uint64_t word) {
      hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    };
    mix(static_cast<std::uint64_t>(o.what) | static_cast<std::uint64_t>(o.type) << 8);
    mix(o.count);
    mix(static_cast<std::uint64_t>(o.root) << 32 | static_cast<std::uint32_t>(o.tag));
    mix(number);
    for (const char* c = o.op; *c != 0; ++c) {
      mix(static_cast<unsigned char>(*c));
    }
    return hash;
  }
  std::atomic<std::uint64_t>& mark_at(int tag, std::size_t number) {
    return marks_[(static_cast<std::size_t>(tag) + number) % kept];
  }

  mutable std::mutex mutex_;
  std::array<entry, kept> entries_ = {};
  std::array<std::atomic<std::uint64_t>, kept> marks_ = {};
  std::size_t total_ = 0;
  std::map<int, std::size_t> joined_;
};

}  // namespace ashlar::comm

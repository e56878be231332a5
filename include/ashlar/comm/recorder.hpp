// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
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
    return number;
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

  mutable std::mutex mutex_;
  std::array<entry, kept> entries_ = {};
  std::size_t total_ = 0;
  std::map<int, std::size_t> joined_;
};

}  // namespace ashlar::comm

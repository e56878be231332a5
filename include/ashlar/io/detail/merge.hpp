// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/io/detail/pair_table.hpp"

namespace ashlar::io::detail {

/// What two neighbouring tokens become, and how early.
struct merged_pair {
  std::uint32_t rank;  ///< lower goes first
  std::int32_t result;
};

/// Applies merges to a sequence: always the one of lowest rank, of equal ones the leftmost.
///
/// Keeps its buffers, so that one merger serves many words.
class merger {
 public:
  /// Effects: replaces `ids` by the merged sequence.
  /// Cost:    O(n log n) for n ids.
  void operator()(std::vector<std::int32_t>& ids, const pair_table<merged_pair>& merges) {
    const std::size_t count = ids.size();
    if (count < 2) {
      return;
    }
    next_.resize(count);
    previous_.resize(count);
    heap_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      next_[i] = i + 1;
      previous_[i] = i - 1;  // wraps to `none` at the front
    }
    for (std::size_t i = 0; i + 1 < count; ++i) {
      propose(ids, i, merges);
    }
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const candidate best = heap_.back();
      heap_.pop_back();
      const std::size_t left = best.at;
      const std::size_t right = next_[left];
      if (ids[left] != best.left || right >= count || ids[right] != best.right) {
        continue;  // a neighbour was merged since
      }
      ids[left] = best.result;
      ids[right] = gone;
      next_[left] = next_[right];
      if (next_[left] < count) {
        previous_[next_[left]] = left;
        propose(ids, left, merges);
      }
      if (previous_[left] != none) {
        propose(ids, previous_[left], merges);
      }
    }
    ids.erase(std::remove(ids.begin(), ids.end(), gone), ids.end());
  }

 private:
  static constexpr std::int32_t gone = -1;
  static constexpr std::size_t none = ~std::size_t{0};

  struct candidate {
    std::uint32_t rank;
    std::size_t at;
    std::int32_t left, right, result;

    friend bool operator>(const candidate& a, const candidate& b) {
      return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
    }
  };

  void propose(const std::vector<std::int32_t>& ids, std::size_t at,
               const pair_table<merged_pair>& merges) {
    const std::int32_t left = ids[at];
    const std::int32_t right = ids[next_[at]];
    if (const merged_pair* m = merges.find(pair_key(left, right))) {
      heap_.push_back({m->rank, at, left, right, m->result});
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }

  std::vector<std::size_t> next_;
  std::vector<std::size_t> previous_;
  std::vector<candidate> heap_;
};

}  // namespace ashlar::io::detail

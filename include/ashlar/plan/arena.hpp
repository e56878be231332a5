// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/plan/gaps.hpp"

/// One piece of memory for buffers whose lifetimes are known.
namespace ashlar::plan {

/// A buffer, and the steps from the first to the last at which it holds something, both included.
struct lifetime {
  std::int64_t first, last;
  std::int64_t bytes;
  friend bool operator==(const lifetime&, const lifetime&) = default;
};

[[nodiscard]] constexpr bool meet(const lifetime& a, const lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

/// The most bytes that are alive at one step: no arena is smaller.
///
/// Throws: `argument_error` where `bytes` is negative, `last` is before `first`, or all bytes come
///         to more than 2^63 - 1.
/// Cost: O(n log n).
[[nodiscard]] inline std::int64_t peak_live(std::span<const lifetime> all) {
  std::vector<std::tuple<std::int64_t, bool, std::int64_t>> changes;  // step, after it, live bytes
  changes.reserve(2 * all.size());
  detail::stacked sum(0, 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [first, last, bytes] = all[i];
    if (first > last) {
      throw argument_error("ashlar::plan", "buffer " + std::to_string(i) + " lives from step " +
                                               std::to_string(first) + " to " +
                                               std::to_string(last) + "; swap them");
    }
    sum.add(i, bytes);
    changes.emplace_back(first, false, bytes);
    changes.emplace_back(last, true, -bytes);
  }
  std::sort(changes.begin(), changes.end());
  std::int64_t live = 0, most = 0;
  for (const auto& [step, after, bytes] : changes) {
    live += bytes;
    most = std::max(most, live);
  }
  return most;
}

/// Where each buffer lies.
struct arena {
  std::vector<std::int64_t> offsets;
  std::int64_t bytes = 0;  ///< from 0 to the end of the last one
  std::int64_t bound = 0;  ///< `peak_live`
  bool proven = false;     ///< no arena is smaller

  /// How much larger than the bound: 1 cannot be beaten.
  [[nodiscard]] double ratio() const {
    return bound == 0 ? 1 : static_cast<double>(bytes) / static_cast<double>(bound);
  }
};

namespace detail {

/// All orders in which each buffer lies at the lowest offset beside those before it, none lower
/// than the last one: one of them is as small as any arrangement, because moving buffers down in
/// the order of their offsets, again and again, never makes it larger.
class search {
 public:
  search(std::span<const lifetime> all, std::int64_t alignment, arena& best, std::int64_t steps)
      : all_(all), how_{alignment, 0, gap::lowest}, best_(best), steps_(steps) {
    at_.resize(all.size());
    placed_.resize(all.size());
  }
  /// Returns: whether it saw everything.
  bool run() {
    place(0, 0, 0);
    return steps_ > 0;
  }

 private:
  void place(std::size_t count, std::int64_t lowest, std::int64_t top) {
    if (count == all_.size()) {
      best_.bytes = top;
      best_.offsets = at_;
      return;
    }
    for (std::size_t i = 0; i < all_.size(); ++i) {
      if (placed_[i] || repeats(i)) {
        continue;
      }
      if (best_.bytes == best_.bound || --steps_ <= 0) {
        return;
      }
      std::vector<span_of_bytes> taken;
      for (std::size_t k = 0; k < all_.size(); ++k) {
        if (placed_[k] && meet(all_[i], all_[k])) {
          taken.push_back({at_[k], at_[k] + all_[k].bytes});
        }
      }
      std::sort(taken.begin(), taken.end(),
                [](const auto& a, const auto& b) { return a.begin < b.begin; });
      const std::int64_t at = offset_beside(taken, all_[i].bytes, how_);
      const std::int64_t reached = std::max(top, at + all_[i].bytes);
      if (at < lowest || reached >= best_.bytes) {
        continue;
      }
      at_[i] = at;
      placed_[i] = true;
      place(count + 1, at, reached);
      placed_[i] = false;
    }
  }
  /// Of equal buffers the first is placed first.
  [[nodiscard]] bool repeats(std::size_t i) const {
    for (std::size_t k = 0; k < i; ++k) {
      if (!placed_[k] && all_[k] == all_[i]) {
        return true;
      }
    }
    return false;
  }

  std::span<const lifetime> all_;
  placement how_;
  arena& best_;
  std::int64_t steps_;
  std::vector<std::int64_t> at_;
  std::vector<bool> placed_;
};

}  // namespace detail

/// Offsets for buffers so that no two that meet overlap: the largest first, each into the tightest
/// gap.
///
/// Throws: as `peak_live` and `offsets`.
/// Cost: O(n^2 log n).
/// Source: greedy by size (Pisarchyk and Lee, 2020).
[[nodiscard]] inline arena plan_arena(std::span<const lifetime> all, std::int64_t alignment = 1) {
  arena a;
  a.bound = peak_live(all);
  std::vector<std::int64_t> bytes(all.size());
  std::transform(all.begin(), all.end(), bytes.begin(), [](const lifetime& l) { return l.bytes; });
  a.offsets = offsets(bytes, [&](std::size_t i, std::size_t j) { return meet(all[i], all[j]); },
                      {alignment, 0, gap::tightest});
  for (std::size_t i = 0; i < all.size(); ++i) {
    a.bytes = std::max(a.bytes, a.offsets[i] + bytes[i]);
  }
  a.proven = a.bytes == a.bound;
  return a;
}

/// The smallest arena, by search from `plan_arena` on; `proven` says whether it came to an end
/// within `steps` placements.
///
/// Throws: as `plan_arena`; `argument_error` where `steps` is negative.
/// Cost: exponential: about ten buffers where the bound cannot be reached.
[[nodiscard]] inline arena plan_arena_exactly(std::span<const lifetime> all,
                                              std::int64_t alignment = 1,
                                              std::int64_t steps = 10'000'000) {
  if (steps < 0) {
    throw argument_error("ashlar::plan::plan_arena_exactly",
                         "there are " + std::to_string(steps) + " steps to take; give 0 or more");
  }
  arena best = plan_arena(all, alignment);
  if (!best.proven) {
    best.proven = detail::search(all, alignment, best, steps).run();
  }
  return best;
}

}  // namespace ashlar::plan

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::plan {

/// Which gap between what is placed already takes a buffer.
enum class gap {
  lowest,   ///< the one at the lowest offset
  tightest  ///< the one that leaves least
};

/// Where the planner starts, and what offsets are multiples of.
struct placement {
  std::int64_t alignment = 1;  ///< positive
  std::int64_t base = 0;       ///< not negative; no offset is below it
  gap into = gap::tightest;
};

namespace detail {

struct span_of_bytes {
  std::int64_t begin, end;
};

inline constexpr std::int64_t most_bytes = std::numeric_limits<std::int64_t>::max();

/// What buffers come to one behind the other, each with `padding` bytes: no end lies higher.
class stacked {
 public:
  /// Requires: neither is negative.
  stacked(std::int64_t from, std::int64_t padding) : end_(from), padding_(padding) {}

  /// Throws: `argument_error` where `bytes` is negative or the end is not an `int64_t`.
  void add(std::size_t buffer, std::int64_t bytes) {
    if (bytes < 0) {
      throw argument_error("ashlar::plan", "buffer " + std::to_string(buffer) + " has " +
                                               std::to_string(bytes) + " bytes; give 0 or more");
    }
    if (padding_ > most_bytes - end_ || bytes > most_bytes - end_ - padding_) {
      throw argument_error(
          "ashlar::plan", "with buffer " + std::to_string(buffer) + " of " + std::to_string(bytes) +
                              " bytes, sizes, base and alignment come to more than 2^63 - 1");
    }
    end_ += bytes + padding_;
  }

 private:
  std::int64_t end_, padding_;
};

constexpr std::int64_t aligned(std::int64_t n, std::int64_t alignment) {
  return ceil_div(n, alignment) * alignment;
}

/// The offset of `bytes` bytes beside `taken`, which is sorted by `begin` and may overlap.
/// Requires: what is taken, `bytes` and `how` could be `stacked`.
inline std::int64_t offset_beside(std::span<const span_of_bytes> taken, std::int64_t bytes,
                                  const placement& how) {
  std::int64_t at = aligned(how.base, how.alignment), best = -1, least = 0;
  for (const span_of_bytes& t : taken) {
    const std::int64_t left = t.begin - at - bytes;
    if (left >= 0 && (best < 0 || left < least)) {
      best = at;
      least = left;
      if (how.into == gap::lowest) {
        return best;
      }
    }
    at = std::max(at, aligned(t.end, how.alignment));
  }
  return best < 0 ? at : best;
}

}  // namespace detail

/// Offsets for buffers of `bytes[i]` bytes, so that no two that conflict overlap: the largest
/// first, each into a gap between those it conflicts with. `conflict(i, j)`: they must lie apart.
///
/// Throws: `argument_error` where a size or the base is negative, the alignment is not positive, or
///         they come, together, to more than 2^63 - 1.
/// Cost: O(n^2 log n), of which n^2 / 2 calls of `conflict`.
/// Source: greedy by size (Pisarchyk and Lee, 2020).
template <class Conflict>
  requires std::predicate<Conflict&, std::size_t, std::size_t>
[[nodiscard]] std::vector<std::int64_t> offsets(std::span<const std::int64_t> bytes,
                                                Conflict&& conflict, const placement& how = {}) {
  if (how.alignment <= 0 || how.base < 0 || how.base > detail::most_bytes - (how.alignment - 1)) {
    throw argument_error("ashlar::plan::offsets",
                         "the alignment is " + std::to_string(how.alignment) + " and the base " +
                             std::to_string(how.base) +
                             "; the one must be positive, the other not negative");
  }
  detail::stacked highest(how.base + (how.alignment - 1), how.alignment - 1);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    highest.add(i, bytes[i]);
  }
  std::vector<std::size_t> order(bytes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return bytes[a] > bytes[b]; });
  std::vector<std::int64_t> at(bytes.size());
  std::vector<detail::span_of_bytes> taken;
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::size_t here = order[k];
    taken.clear();
    for (std::size_t before = 0; before < k; ++before) {
      const std::size_t other = order[before];
      if (conflict(here, other)) {
        taken.push_back({at[other], at[other] + bytes[other]});
      }
    }
    std::sort(taken.begin(), taken.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    at[here] = detail::offset_beside(taken, bytes[here], how);
  }
  return at;
}

}  // namespace ashlar::plan

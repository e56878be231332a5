// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "ashlar/core/spec.hpp"

/// Whether indices meet in one element: of one look at a tensor, or of two looks at one base.
namespace ashlar::geometry {

namespace detail {

/// The question whether numbers `low <= k_i <= high` exist with `sum k_i * stride_i = target`.
///
/// Large strides come first; each leaves few choices for its number, as those after it reach only
/// so far. After `budget` choices the answer is yes: it may be wrong, and nothing takes long.
class bounded_sum {
 public:
  constexpr void push(std::int64_t stride, std::int64_t low, std::int64_t high) {
    if (low == high && low == 0) {
      return;
    }
    std::size_t at = count_++;
    for (; at > 0 && terms_[at - 1].stride < stride; --at) {
      terms_[at] = terms_[at - 1];
    }
    terms_[at] = {stride, low, high};
  }
  [[nodiscard]] constexpr bool reaches(std::int64_t target) {
    budget_ = 256;
    return reaches(0, target);
  }

 private:
  struct term {
    std::int64_t stride, low, high;
  };

  constexpr bool reaches(std::size_t first, std::int64_t target) {
    std::int64_t least = 0;
    std::int64_t most = 0;
    std::int64_t common = 0;
    for (std::size_t i = first; i < count_; ++i) {
      least += terms_[i].stride * terms_[i].low;
      most += terms_[i].stride * terms_[i].high;
      common = std::gcd(common, terms_[i].stride);
    }
    if (target < least || target > most || (common == 0 ? target != 0 : target % common != 0)) {
      return false;
    }
    if (first == count_) {
      return true;
    }
    const term& t = terms_[first];
    if (t.stride == 0) {
      return reaches(first + 1, target);  // all others are 0, too
    }
    const std::int64_t rest_least = least - t.stride * t.low;
    const std::int64_t rest_most = most - t.stride * t.high;
    const auto floor = [](std::int64_t a, std::int64_t b) {
      return a / b - (a % b != 0 && a < 0 ? 1 : 0);
    };
    const std::int64_t from = std::max(t.low, -floor(rest_most - target, t.stride));
    const std::int64_t to = std::min(t.high, floor(target - rest_least, t.stride));
    for (std::int64_t k = from; k <= to; ++k) {
      if (--budget_ < 0 || reaches(first + 1, target - k * t.stride)) {
        return true;
      }
    }
    return false;
  }

  std::array<term, 2 * max_rank> terms_{};
  std::size_t count_ = 0;
  int budget_ = 0;
};

}  // namespace detail

/// Whether two looks at one base meet in an element.
///
/// Returns: never false where they do; true where it would take long to know.
constexpr bool may_overlap(const tensor_spec& a, const tensor_spec& b) {
  if (a.size == 0 || b.size == 0) {
    return false;
  }
  detail::bounded_sum places;
  for (int i = 0; i < a.rank; ++i) {
    places.push(a.stride_of(i), 0, a[i] - 1);
  }
  for (int i = 0; i < b.rank; ++i) {
    places.push(b.stride_of(i), 1 - b[i], 0);
  }
  return places.reaches(b.offset - a.offset);
}

/// Whether two indices lead to one element, as after `expand` or `unfold`.
///
/// Returns: as `may_overlap`.
constexpr bool repeats_elements(const tensor_spec& s) {
  if (s.contiguous || s.size == 0) {
    return false;
  }
  // Two indices that meet differ first in axis i, and there by 1 or more, one way around.
  for (int i = 0; i < s.rank; ++i) {
    if (s[i] > 1 && s.stride_of(i) == 0) {
      return true;
    }
    detail::bounded_sum difference;
    difference.push(s.stride_of(i), 1, s[i] - 1);
    for (int j = i + 1; j < s.rank; ++j) {
      difference.push(s.stride_of(j), 1 - s[j], s[j] - 1);
    }
    if (s[i] > 1 && difference.reaches(0)) {
      return true;
    }
  }
  return false;
}

}  // namespace ashlar::geometry

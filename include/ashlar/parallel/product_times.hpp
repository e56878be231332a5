// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::parallel {

/// How long matrix products of M x K by K x N take, from some that were measured.
///
/// A kernel that works in blocks costs so much per block, per row and column of blocks, and to
/// begin with: a sum of products of the three numbers of blocks, which two sizes along each axis
/// determine. More sizes make it a table of such sums. What is empty knows nothing.
class product_times {
 public:
  /// What is measured: all triples of these.
  struct sizes {
    std::vector<std::int64_t> m, n, k;  ///< each from the smallest on, which is a block
  };

  product_times() = default;

  /// Calls `seconds(m, n, k)` for every triple.
  ///
  /// Throws: `argument_error` for an axis that is empty, does not rise or begins below 1, and for a
  ///         time that is not positive and finite.
  template <class F>
    requires std::invocable<F&, std::int64_t, std::int64_t, std::int64_t>
  [[nodiscard]] static product_times measured(const sizes& of, F&& seconds) {
    product_times t;
    for (const auto* axis : {&of.m, &of.n, &of.k}) {
      const bool rises =
          std::ranges::adjacent_find(*axis, std::ranges::greater_equal{}) == axis->end();
      if (axis->empty() || axis->front() < 1 || !rises) {
        throw argument_error("ashlar::parallel::product_times",
                             "sizes along an axis must be positive and rise");
      }
    }
    t.axes_ = {of.m, of.n, of.k};
    for (const std::int64_t m : of.m) {
      for (const std::int64_t n : of.n) {
        for (const std::int64_t k : of.k) {
          const auto took = static_cast<double>(seconds(m, n, k));
          if (!(took > 0) || std::isinf(took)) {  // nor NaN
            throw argument_error("ashlar::parallel::product_times",
                                 "a product of " + std::to_string(m) + " x " + std::to_string(n) +
                                     " x " + std::to_string(k) + " took " + std::to_string(took) +
                                     " s");
          }
          t.seconds_.push_back(took);
        }
      }
    }
    return t;
  }

  [[nodiscard]] bool empty() const { return seconds_.empty(); }

  /// Returns: the seconds of a product of whole blocks: as measured, or between what was measured;
  ///          beyond it, as it rose last, and never less than what it passed.
  /// Requires: not `empty()`.
  [[nodiscard]] double operator()(double m, double n, double k) const {
    std::array<place, 3> inside, beyond;
    const std::array<double, 3> at{m, n, k};
    double more = 1;  // along axes of which one size was measured
    for (std::size_t a = 0; a < at.size(); ++a) {
      const auto& axis = axes_[a];
      const auto block = static_cast<double>(axis.front());
      const double x = std::max(1.0, std::ceil(at[a] / block)) * block;
      if (axis.size() == 1) {
        more *= x / block;
        continue;
      }
      const auto above = std::upper_bound(axis.begin() + 1, axis.end() - 1, x);
      const auto low = static_cast<double>(above[-1]), high = static_cast<double>(*above);
      beyond[a] = {static_cast<std::size_t>(above - axis.begin() - 1), (x - low) / (high - low)};
      inside[a] = {beyond[a].first, std::min(beyond[a].second, 1.0)};
    }
    return more * std::max(between(inside), between(beyond));
  }

  friend bool operator==(const product_times&, const product_times&) = default;

 private:
  using place = std::pair<std::size_t, double>;  ///< from this size, so far to the next

  [[nodiscard]] double between(const std::array<place, 3>& at) const {
    double sum = 0;
    for (std::size_t corner = 0; corner < 8; ++corner) {
      std::size_t index = 0;
      double weight = 1;
      for (std::size_t a = 0; a < 3; ++a) {
        const bool upper = (corner >> a & 1U) != 0;
        weight *= upper ? at[a].second : 1 - at[a].second;
        index =
            index * axes_[a].size() + std::min(at[a].first + (upper ? 1 : 0), axes_[a].size() - 1);
      }
      sum += weight * seconds_[index];
    }
    return sum;
  }

  std::array<std::vector<std::int64_t>, 3> axes_;
  std::vector<double> seconds_;  ///< the last axis fastest
};

}  // namespace ashlar::parallel

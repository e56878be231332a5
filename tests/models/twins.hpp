// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

/// What naive models in double precision have in common.
namespace twins {

using matrix = std::vector<double>;

inline void add(matrix& to, const matrix& from) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] += from[i];
  }
}

/// Largest difference, as a share of the largest logit.
inline double relative_difference(const std::vector<float>& got, const matrix& wanted) {
  REQUIRE(got.size() == wanted.size());
  double most = 0;
  double difference = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    most = std::max(most, std::abs(wanted[i]));
    difference = std::max(difference, std::abs(static_cast<double>(got[i]) - wanted[i]));
  }
  REQUIRE(most > 0.1);
  return difference / most;
}

}  // namespace twins

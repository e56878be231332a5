// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "ashlar/conformance/sample.hpp"
#include "ashlar/conformance/values.hpp"

/// Results against their twins, and against each other. Each of these throws `failure`.
namespace ashlar::conformance::detail {

/// What went wrong first in a sample.
struct failure {
  std::string what;
};

inline std::string shown(double x) {
  if (std::isnan(x)) {
    return "nan";  // whose sign no standard fixes
  }
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

/// Whether a result is its twin's, within `by` and its own rounding.
inline void compare(const std::string& name, const array& got, const numbers& want,
                    const tolerance& by) {
  if (!same_shape(got.spec.shape(), want.extents.span())) {
    throw failure{name + ": shape " + to_string(got.spec.shape()) + ", want " +
                  to_string(want.extents.span())};
  }
  const dtype type = got.spec.type;
  const dtype sums = is_narrow_floating(type) ? dtype::float32 : type;
  const double absolute = by.terms * roundoff(sums) * by.magnitude + grain(type) / 2;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double x = got[i];
    const double exact = want[i];
    const double rounded_want = rounded(type, exact);
    const double allowed = absolute + roundoff(type) * std::abs(exact);
    const bool same = x == rounded_want || (std::isnan(x) && std::isnan(rounded_want));
    if (!same && !(std::abs(x - exact) <= allowed && std::isfinite(exact))) {
      throw failure{name + ": shape " + to_string(got.spec.shape()) + " element " +
                    std::to_string(i) + ": got " + shown(x) + ", want " + shown(exact) +
                    ", allowed " + shown(allowed)};
    }
  }
}

/// Whether two calls gave the same bits; of NaN no standard fixes them.
inline void same_bits(const std::string& name, const array& got, const array& want) {
  const std::size_t bytes = size_of(got.spec.type);
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const bool same =
        std::memcmp(got.bytes.data() + got.place(i), want.bytes.data() + want.place(i), bytes) == 0;
    if (!same && !(std::isnan(got[i]) && std::isnan(want[i]))) {
      throw failure{name + ": element " + std::to_string(i) + ": got " + shown(got[i]) +
                    ", another call gave " + shown(want[i])};
    }
  }
}

/// Whether nothing but the elements of `a` differs from what it was.
inline void same_around(const std::string& name, const array& a, const array& after) {
  std::vector<bool> mine(a.bytes.size());
  for (std::int64_t i = 0; i < a.size(); ++i) {
    for (std::size_t b = 0; b < size_of(a.spec.type); ++b) {
      mine[a.place(i) + b] = true;
    }
  }
  for (std::size_t b = 0; b < mine.size(); ++b) {
    if (!mine[b] && a.bytes[b] != after.bytes[b]) {
      throw failure{name + ": byte " + std::to_string(b) + " is written, " +
                    (b < static_cast<std::size_t>(a.spec.offset) * size_of(a.spec.type)
                         ? "before"
                         : "between or behind") +
                    " the elements of shape " + to_string(a.spec.shape())};
    }
  }
}

}  // namespace ashlar::conformance::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/ir.hpp"

/// When buffers hold something, and which engines touch them.
namespace ashlar::chip::npu_codegen {

/// What one step, with all regions inside it, does to a buffer.
struct touch {
  unsigned readers = 0, writers = 0;  ///< engines, as bits
  [[nodiscard]] unsigned engines() const { return readers | writers; }
};

/// The buffers that each step of a region touches, regions inside it included.
using region_touches = std::vector<std::vector<std::pair<int, touch>>>;

namespace detail {

inline touch& touch_of(std::vector<std::pair<int, touch>>& all, int buffer) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.first == buffer; });
  return found != all.end() ? found->second : all.emplace_back(buffer, touch{}).second;
}

inline bool is_inside(const chip_program& c, int inner, int outer) {
  while (inner >= 0 && inner != outer) {
    inner = c.regions[static_cast<std::size_t>(inner)].parent;
  }
  return inner == outer;
}

/// The step of `outer` in which a step of `inner` happens; `at` where they are the same.
inline int step_within(const chip_program& c, int outer, int inner, int at) {
  while (inner != outer) {
    at = c.regions[static_cast<std::size_t>(inner)].place;
    inner = c.regions[static_cast<std::size_t>(inner)].parent;
  }
  return at;
}

}  // namespace detail

/// Returns: for each region, what its steps touch.
inline std::vector<region_touches> touches_of(const chip_program& c) {
  std::vector<region_touches> all(c.regions.size());
  // Regions inside others come later.
  for (std::size_t r = c.regions.size(); r-- > 0;) {
    const region& here = c.regions[r];
    all[r].resize(here.steps.size());
    for (std::size_t s = 0; s < here.steps.size(); ++s) {
      const step& one = here.steps[s];
      for (const access& a : accesses_of(one)) {
        touch& t = detail::touch_of(all[r][s], a.buffer);
        (a.write ? t.writers : t.readers) |= 1u << one.code.unit;
      }
      for (const int inner : one.regions) {
        if (inner < 0) {
          continue;
        }
        for (const auto& step_touches : all[static_cast<std::size_t>(inner)]) {
          for (const auto& entry : step_touches) {
            touch& t = detail::touch_of(all[r][s], entry.first);
            t.readers |= entry.second.readers;
            t.writers |= entry.second.writers;
          }
        }
      }
    }
  }
  return all;
}

/// Finds region, lifetime and engines of every buffer.
inline void analyse(chip_program& c) {
  for (std::size_t r = 0; r < c.regions.size(); ++r) {
    const region& here = c.regions[r];
    for (std::size_t s = 0; s < here.steps.size(); ++s) {
      for (const access& a : accesses_of(here.steps[s])) {
        buffer& b = c.buffers[static_cast<std::size_t>(a.buffer)];
        b.engines |= 1u << here.steps[s].code.unit;
        if (b.region < 0) {
          b.region = static_cast<int>(r);
        }
        while (!detail::is_inside(c, static_cast<int>(r), b.region)) {
          b.region = c.regions[static_cast<std::size_t>(b.region)].parent;
        }
      }
    }
  }
  for (std::size_t r = 0; r < c.regions.size(); ++r) {
    const region& here = c.regions[r];
    for (std::size_t s = 0; s < here.steps.size(); ++s) {
      for (const access& a : accesses_of(here.steps[s])) {
        buffer& b = c.buffers[static_cast<std::size_t>(a.buffer)];
        const int at = detail::step_within(c, b.region, static_cast<int>(r), static_cast<int>(s));
        b.first = b.first < 0 ? at : std::min(b.first, at);
        b.last = std::max(b.last, at);
      }
    }
  }
}

/// Whether both hold something at the same time.
inline bool alive_together(const chip_program& c, const buffer& a, const buffer& b) {
  if (a.region < 0 || b.region < 0) {
    return false;  // nothing touches it
  }
  int common = a.region;
  while (!detail::is_inside(c, b.region, common)) {
    common = c.regions[static_cast<std::size_t>(common)].parent;
  }
  const auto within = [&](const buffer& x, int at) {
    return detail::step_within(c, common, x.region, at);
  };
  return within(a, a.first) <= within(b, b.last) && within(b, b.first) <= within(a, a.last);
}

}  // namespace ashlar::chip::npu_codegen

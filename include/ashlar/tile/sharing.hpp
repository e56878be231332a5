// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"

/// What a chip asks of a launch before it runs: how many programs there are, and whether reading
/// and writing may meet.
namespace ashlar::tile {

/// Programs of a grid. Throws: `launch_error` where an axis is negative, or there are too many.
inline std::int64_t places_of(const grid& size) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  std::int64_t places = 1;
  for (const std::int64_t n : size) {
    if (n < 0) {
      throw launch_error(-1, "an axis of the grid is negative");
    }
    if (n > 0 && places > most / n) {
      throw launch_error(-1, "the grid has more places than can be counted");
    }
    places *= n;
  }
  return places;
}

/// The bytes that a view reaches, from the first to behind the last; none for a scalar.
inline std::pair<std::int64_t, std::int64_t> reach_of(const argument& a) {
  const auto size = static_cast<std::int64_t>(size_of(a.element));
  auto first = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data));
  std::int64_t last = first + size;
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(std::max(a.rank, 0)); ++axis) {
    if (a.extents[axis] == 0) {
      return {0, 0};
    }
    const std::int64_t step = (a.extents[axis] - 1) * a.strides[axis] * size;
    (step < 0 ? first : last) += step;
  }
  return {first, last};
}

/// Whether a view that the program writes shares memory with another one.
inline bool shares_memory(const program& p, std::span<const argument> arguments) {
  for (int k = 0; k < p.parameter_count; ++k) {
    for (int j = 0; j < p.parameter_count; ++j) {
      if (j == k || !p.parameter_at(k).written || !p.parameter_at(j).is_view()) {
        continue;
      }
      const auto mine = reach_of(arguments[static_cast<std::size_t>(k)]);
      const auto theirs = reach_of(arguments[static_cast<std::size_t>(j)]);
      if (mine.first < theirs.second && theirs.first < mine.second) {
        return true;
      }
    }
  }
  return false;
}

/// Whether a view is both read and written, so that transfers have to keep their order.
inline bool reads_what_it_writes(const program& p) {
  std::vector<bool> read(static_cast<std::size_t>(p.parameter_count));
  std::vector<bool> written(read.size());
  for (int i = 0; i < p.size; ++i) {
    const opcode op = p.at(i).op;
    if (reads(op)) {
      read[static_cast<std::size_t>(p.at(i).index)] = true;
    } else if (writes(op)) {
      written[static_cast<std::size_t>(p.at(i).index)] = true;
    }
  }
  for (std::size_t k = 0; k < read.size(); ++k) {
    if (read[k] && written[k]) {
      return true;
    }
  }
  return false;
}

}  // namespace ashlar::tile

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace ashlar::parallel::detail {

struct bucket {
  std::vector<std::size_t> members;             ///< numbers of parameters, highest first
  std::size_t waiting = 0;                      ///< members whose gradient has not arrived
  std::size_t first_piece = 0, last_piece = 0;  ///< of this rank's part, where there are parts
};

/// Puts parameters of the given sizes into buckets from the last to the first.
///
/// A bucket is closed once it holds as many bytes as it should.
inline std::vector<bucket> assign_buckets(std::span<const std::size_t> bytes, std::size_t first,
                                          std::size_t rest) {
  std::vector<bucket> buckets;
  std::size_t room = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    if (room == 0) {
      room = buckets.empty() ? first : rest;
      buckets.emplace_back();
    }
    buckets.back().members.push_back(i);
    room -= bytes[i] < room ? bytes[i] : room;
  }
  return buckets;
}

}  // namespace ashlar::parallel::detail

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"
#include "ashlar/parallel/pipeline/simulate.hpp"

namespace ashlar::parallel::pipeline {

/// As `with_transfers`, for ranks whose sends wait until they are received: all ranks have their
/// sends and receives in one common order, so whoever waits waits for somebody who comes.
///
/// The order is that of a run in which every action takes equal time; a tensor may be received long
/// before it is read.
/// Throws: as `with_transfers`.
[[nodiscard]] inline schedule with_rendezvous(const schedule& s) {
  const simulation sim = simulate(s);
  if (sim.shape.explicit_transfers) {
    throw invalid_schedule(-1, -1, "transfers are written already");
  }
  // (time, 0 transfer or 1 computation, number): what ends at a time is sent before the next
  // begins.
  using moment = std::tuple<std::int64_t, int, std::size_t>;
  struct entry {
    moment when;
    action what;
  };
  std::vector<std::vector<entry>> lists(s.ranks.size());
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    for (std::size_t i = 0; i < s.ranks[r].size(); ++i) {
      lists[r].push_back({{sim.at[r][i].begin, 1, i}, s.ranks[r][i]});
    }
  }
  for (std::size_t i = 0; i < sim.transfers.size(); ++i) {
    const moved& m = sim.transfers[i];
    const bool forward = m.made_by.what == work::forward;
    const moment when{m.when.begin, 0, i};
    const int reader = m.made_by.stage + (forward ? 1 : -1);
    lists[static_cast<std::size_t>(m.from)].push_back(
        {when, {m.made_by.stage, forward ? work::send_f : work::send_b, m.made_by.micro_batch}});
    lists[static_cast<std::size_t>(m.to)].push_back(
        {when, {reader, forward ? work::recv_f : work::recv_b, m.made_by.micro_batch}});
  }
  schedule out;
  for (auto& list : lists) {
    std::ranges::sort(list, {}, &entry::when);
    auto& to = out.ranks.emplace_back();
    for (const entry& e : list) {
      to.push_back(e.what);
    }
  }
  return out;
}

}  // namespace ashlar::parallel::pipeline

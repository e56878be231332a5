// SPDX-License-Identifier: Apache-2.0
#include "train/timeline.hpp"

#include <algorithm>
#include <ashlar/comm/timeline.hpp>
#include <ashlar/io/file.hpp>
#include <ashlar/trace/chrome.hpp>
#include <ashlar/trace/gantt.hpp>
#include <cstddef>
#include <cstdio>
#include <utility>

namespace train {

namespace {

namespace comm = ashlar::comm;
namespace trace = ashlar::trace;

/// What happens from one time to another, counted from then.
trace::timeline between(const trace::timeline& all, std::int64_t first, std::int64_t last) {
  trace::timeline part;
  part.ticks_per_microsecond = all.ticks_per_microsecond;
  for (const auto& lane : all.lanes()) {
    part.name_lane(lane.process, lane.lane, lane.name);
  }
  for (trace::event e : all.events()) {
    const std::int64_t begin = std::max(e.start, first);
    const std::int64_t end = std::min(e.end(), last);
    if (begin < end) {
      e.start = begin - first;
      e.duration = end - begin;
      part.add(std::move(e));
    }
  }
  return part;
}

void write(const trace::timeline& t, const std::string& path) {
  const auto ends = [&](const char* with) { return path.ends_with(with); };
  ashlar::io::file_writer file(path);
  file.write(ends(".svg")    ? trace::to_svg(t)
             : ends(".html") ? trace::to_gantt_page(t, "a training step")
                             : trace::to_chrome_trace(t));
  file.commit();
}

}  // namespace

void report_steps(const std::string& where, const trace::timeline& all,
                  std::span<const std::int64_t> marks, int ranks, const std::string& file) {
  // The first step has what only a first one does, where others follow it.
  const std::size_t first = marks.size() > 2 ? 1 : 0;
  const double steps = static_cast<double>(marks.size() - 1 - first);
  const auto part = between(all, marks[first], marks.back());
  const auto ms = [&](std::int64_t ns) { return static_cast<double>(ns) * 1e-6 / steps; };
  int busiest = 0;
  comm::overlap sum, exposed;
  for (int rank = 0; rank < ranks; ++rank) {
    busiest = part.busy(rank, 0) > part.busy(busiest, 0) ? rank : busiest;
    const auto own = comm::overlap_of(part, rank);
    sum.communication += own.communication;
    sum.hidden += own.hidden;
    if (own.communication - own.hidden > exposed.communication - exposed.hidden) {
      exposed = own;
    }
  }
  std::printf(
      "%s: a step takes %.3f ms; rank %d computes for %.3f ms; collectives: %.0f %% hidden, at "
      "most %.3f ms of a rank's exposed\n",
      where.c_str(), ms(marks.back() - marks[first]), busiest, ms(part.busy(busiest, 0)),
      100 * sum.share(), ms(exposed.communication - exposed.hidden));
  if (!file.empty()) {
    write(between(all, marks[marks.size() - 2], marks.back()), file);
  }
}

}  // namespace train

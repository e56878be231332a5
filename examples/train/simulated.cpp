// SPDX-License-Identifier: Apache-2.0
#include "train/simulated.hpp"

#include <algorithm>
#include <array>
#include <ashlar/chip/npu/description.hpp>
#include <ashlar/comm/recorded.hpp>
#include <ashlar/comm/threads.hpp>
#include <ashlar/comm/timeline.hpp>
#include <ashlar/io/file.hpp>
#include <ashlar/trace/chrome.hpp>
#include <ashlar/trace/gantt.hpp>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace train {

namespace {

namespace comm = ashlar::comm;
namespace trace = ashlar::trace;

/// This thread's own work, whoever else runs on its core [s].
double thread_seconds() {
  std::timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

al::parallel::device_rates chip_of(const network_options& n) {
  constexpr al::chip::npu_description npu;
  auto chip = al::parallel::device_rates::of(npu.general(), /*hertz=*/1e9, /*memory_bytes=*/16e9);
  chip.flops = n.flops != 0 ? n.flops : chip.flops;
  chip.memory_bandwidth = n.memory_bandwidth != 0 ? n.memory_bandwidth : chip.memory_bandwidth;
  return chip;
}

/// What happens from one time to another, counted from then [s].
trace::timeline between(const trace::timeline& all, double from, double to) {
  const std::int64_t first = comm::ticks_of(from, 1e9), last = comm::ticks_of(to, 1e9);
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
  al::io::file_writer file(path);
  file.write(ends(".svg")    ? trace::to_svg(t)
             : ends(".html") ? trace::to_gantt_page(t, "a training step")
                             : trace::to_chrome_trace(t));
  file.commit();
}

void report(const comm::program_outcome& ran, const network_options& n, int ranks) {
  if (!ran.complete()) {
    throw std::runtime_error("the ranks' messages do not meet");  // threads would not have ended
  }
  // The first step has what only a first one does, where others follow it.
  const std::size_t first = ran.marks.size() > 2 ? 1 : 0;
  const double from = ran.marks[first], to = ran.marks.back();
  const double steps = static_cast<double>(ran.marks.size() - 1 - first);
  const auto part = between(ran.timeline, from, to);
  const auto ms = [&](std::int64_t ns) { return static_cast<double>(ns) * 1e-6 / steps; };
  int busiest = 0;
  comm::overlap all, exposed;
  for (int rank = 0; rank < ranks; ++rank) {
    busiest = part.busy(rank, 0) > part.busy(busiest, 0) ? rank : busiest;
    const auto own = comm::overlap_of(part, rank);
    all.communication += own.communication;
    all.hidden += own.hidden;
    if (own.communication - own.hidden > exposed.communication - exposed.hidden) {
      exposed = own;
    }
  }
  std::printf(
      "simulated on %s: a step takes %.3f ms; rank %d computes for %.3f ms; collectives: "
      "%.0f %% hidden, at most %.3f ms of a rank's exposed\n",
      n.shape.c_str(), (to - from) * 1e3 / steps, busiest, ms(part.busy(busiest, 0)),
      100 * all.share(), ms(exposed.communication - exposed.hidden));
  if (!n.timeline.empty()) {
    write(between(ran.timeline, ran.marks[ran.marks.size() - 2], to), n.timeline);
  }
}

}  // namespace

comm::network network_of(const network_options& o, int ranks) {
  constexpr std::array<std::pair<const char*, comm::wiring>, 5> names{
      {{"ring", comm::wiring::ring},
       {"line", comm::wiring::line},
       {"full", comm::wiring::full},
       {"switch", comm::wiring::star},
       {"fat-tree", comm::wiring::fat_tree}}};
  const auto refuse = [](const std::string& why) { throw std::runtime_error("--network: " + why); };
  std::vector<comm::dimension> dimensions;
  std::istringstream in(o.shape);
  std::int64_t whole = 1;
  for (std::string word; std::getline(in, word, ',');) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto at =
        std::ranges::find(names, name, [](const auto& n) { return std::string(n.first); });
    if (at == names.end()) {
      refuse("'" + name + "' is no wiring; they are ring, line, full, switch and fat-tree");
    }
    int size = ranks;
    if (equals != std::string::npos) {
      const std::string number = word.substr(equals + 1);
      const auto read = std::from_chars(number.data(), number.data() + number.size(), size);
      if (read.ec != std::errc{} || read.ptr != number.data() + number.size() || size < 1) {
        refuse("'" + word + "' wants a number of nodes");
      }
    }
    whole = std::min(whole * size, std::int64_t{1} << 31);  // more than any number of ranks
    dimensions.push_back({.how = at->second, .size = size});
  }
  if (whole != ranks) {
    refuse("'" + o.shape + "' has " + std::to_string(whole) + " nodes for " +
           std::to_string(ranks) + " ranks");
  }
  const auto rates = [&](const char* option, const std::vector<double>& values,
                         double comm::dimension::*to) {
    if (values.size() != 1 && values.size() != dimensions.size()) {
      throw std::runtime_error(std::string(option) + ": " + std::to_string(values.size()) +
                               " values for " + std::to_string(dimensions.size()) + " dimensions");
    }
    for (std::size_t i = 0; i < dimensions.size(); ++i) {
      dimensions[i].*to = values[values.size() == 1 ? 0 : i];
    }
  };
  rates("--latency", o.latency, &comm::dimension::latency);
  rates("--bandwidth", o.bandwidth, &comm::dimension::bandwidth);
  return {comm::topology(std::move(dimensions)), o.overhead, 0, true, o.packet_bytes};
}

outcome run_simulated(const options& o, const network_options& n) {
  const int ranks = layout_of(o).size();
  const comm::network net = network_of(n, ranks);
  // What is no network is refused before anything runs, and so is a file that cannot be written.
  if (!n.timeline.empty()) {
    const al::io::file_writer nothing(n.timeline);
  }
  static_cast<void>(comm::simulate_programs(
      net, std::vector<comm::rank_program>(static_cast<std::size_t>(ranks))));
  const auto data = demo::prepare(o.model);
  const auto chip = chip_of(n);
  struct result {
    outcome trained;
    comm::rank_program program;
  };
  auto all = comm::run(ranks, [&](comm::threads& endpoint) {
    comm::program_recorder record(n.compute == "measured" ? thread_seconds : nullptr);
    comm::recorded noted(endpoint, record);
    comm::any_endpoint wires(noted);
    result r;
    r.trained = run_rank(wires, o, data, {&record, chip});
    r.program = std::move(record.program());
    return r;
  });
  std::vector<comm::rank_program> programs;
  for (result& r : all) {
    programs.push_back(std::move(r.program));
  }
  report(comm::simulate_programs(net, programs), n, ranks);
  return all.front().trained;
}

}  // namespace train

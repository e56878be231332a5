// SPDX-License-Identifier: Apache-2.0
#include "train/simulated.hpp"

#include <algorithm>
#include <array>
#include <ashlar/chip/npu/description.hpp>
#include <ashlar/comm/recorded.hpp>
#include <ashlar/comm/threads.hpp>
#include <ashlar/comm/timeline.hpp>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "train/timeline.hpp"

namespace train {

namespace {

namespace comm = ashlar::comm;

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

void report(const comm::program_outcome& ran, const network_options& n, int ranks) {
  if (!ran.complete()) {
    throw std::runtime_error("the ranks' messages do not meet");  // threads would not have ended
  }
  std::vector<std::int64_t> marks;
  for (const double at : ran.marks) {
    marks.push_back(comm::ticks_of(at, 1e9));
  }
  report_steps("simulated on " + n.shape, ran.timeline, marks, ranks, n.timeline);
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
  // What is no network is refused before anything runs.
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

// SPDX-License-Identifier: Apache-2.0
// One trace against lists of policies: `allocator_replay TRACE --policies ashlar,pytorch`.
//
// TRACE is a file (memory/replay.hpp says what it looks like) or the name of a made-up program;
// without one, all made-up programs run.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "allocator_paper.hpp"
#include "ashlar/memory.hpp"
#include "ashlar/memory/replay.hpp"
#include "ashlar/memory/traces.hpp"
#include "ashlar/plan/arena.hpp"

namespace {

namespace memory = ashlar::memory;
namespace traces = ashlar::memory::traces;
using allocator_bench::paper;

struct contender {
  const char* name;
  const char* what;
  memory::replay_result (*run)(const traces::trace&, int repetitions);
};

/// The least time of some repetitions; everything else is the same in each.
template <class... Policies>
memory::replay_result run(const traces::trace& t, int repetitions) {
  memory::replay_result best;
  for (int i = 0; i < repetitions; ++i) {
    memory::caching_allocator<paper, Policies...> a;
    const auto r = memory::replay(a, t, 64);
    best = i == 0 || r.nanoseconds < best.nanoseconds ? r : best;
  }
  return best;
}

constexpr contender contenders[] = {
    {"ashlar", "default_policies", run<>},
    {"pytorch", "pytorch_policies", run<memory::pytorch_policies>},
    {"lowest_address", "default_policies with lowest_address", run<memory::lowest_address>},
    {"best_fit", "default_policies with best_fit", run<memory::best_fit>},
    {"expandable", "default_policies with expandable<>", run<memory::expandable<>>},
    {"pytorch_expandable", "pytorch_expandable_policies<>",
     run<memory::pytorch_expandable_policies<>>},
    {"pytorch_limit_200", "pytorch_expandable_policies<200 MiB>",
     run<memory::pytorch_expandable_policies<200 * memory::mib>>},
    {"whole_blocks", "whole_block_policies (tinygrad)", run<memory::whole_block_policies>},
    {"tolerant", "tolerant_policies (MLX)", run<memory::tolerant_policies>},
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("runs a trace of requests against lists of policies");
  std::string trace, out;
  std::vector<std::string> policies;
  int repetitions = 5;
  CLI::Option* const named = app.add_option(
      "TRACE", trace, "a file, or the name of a made-up program; left out: all of them");
  app.add_option("--policies", policies, "names, separated by commas; left out: all")
      ->delimiter(',');
  app.add_option("--repetitions", repetitions, "runs, the fastest of which counts")
      ->check(CLI::Range(1, 10000));
  // One at a time: in a file of several, ids would come again.
  app.add_option("--write", out, "writes TRACE to this file instead")->needs(named);
  std::string about = "made-up programs:";
  const std::vector<traces::named> made_up = traces::all();
  for (const traces::named& t : made_up) {
    about += " " + t.name;
  }
  about += "\npolicies:";
  for (const contender& c : contenders) {
    about += std::string("\n  ") + c.name + ": " + c.what;
  }
  app.footer(about);
  CLI11_PARSE(app, argc, argv);

  std::vector<traces::named> chosen;
  std::copy_if(made_up.begin(), made_up.end(), std::back_inserter(chosen),
               [&](const traces::named& t) { return trace.empty() || t.name == trace; });
  if (chosen.empty()) {
    std::ifstream in(trace);
    if (!in) {
      std::cerr << "allocator_replay: " << trace << " is neither a file nor a made-up program\n";
      return 2;
    }
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    try {
      chosen.push_back({trace, memory::read_trace(text)});
    } catch (const memory::trace_error& e) {
      std::cerr << e.what() << '\n';
      return 2;
    }
  }
  for (const std::string& p : policies) {
    if (std::none_of(std::begin(contenders), std::end(contenders),
                     [&](const contender& c) { return c.name == p; })) {
      std::cerr << "allocator_replay: no policies are called " << p << '\n';
      return 2;
    }
  }
  if (!out.empty()) {
    std::ofstream to(out);
    to << "# " << chosen.front().name << '\n' << memory::write_trace(chosen.front().requests);
    if (!to.flush()) {
      std::cerr << "allocator_replay: " << out << " cannot be written\n";
      return 2;
    }
    return 0;
  }

  std::printf("%-18s %-18s %10s %10s %8s %8s %8s %8s\n", "trace", "policies", "live MB", "reserved",
              "res/live", "in bits", "chip", "ns/op");
  std::map<std::string, double> reserved, time;  // sums of logarithms
  for (const traces::named& t : chosen) {
    for (const contender& c : contenders) {
      if (!policies.empty() &&
          std::find(policies.begin(), policies.end(), c.name) == policies.end()) {
        continue;
      }
      const memory::replay_result r = c.run(t.requests, repetitions);
      std::printf("%-18s %-18s %10.1f %10.1f %8.3f %7.0f%% %8llu %8.1f\n", t.name.c_str(), c.name,
                  static_cast<double>(r.peak_live) / 1e6,
                  static_cast<double>(r.peak_reserved) / 1e6, r.overhead() + 1,
                  100 * r.fragmentation, static_cast<unsigned long long>(r.chip_calls),
                  r.nanoseconds);
      reserved[c.name] += std::log(static_cast<double>(r.peak_reserved));
      time[c.name] += std::log(r.nanoseconds);
    }
  }
  if (chosen.size() == 1) {
    const auto lives = memory::lifetimes_of(chosen.front().requests);
    if (lives.size() <= 20000) {
      const ashlar::plan::arena a = ashlar::plan::plan_arena(lives, 512);
      std::printf(
          "known beforehand, one arena (plan_arena) holds it in %.1f MB: %.3f of the bound\n",
          static_cast<double>(a.bytes) / 1e6, a.ratio());
    }
  }
  const auto n = static_cast<double>(chosen.size());
  for (const contender& c : contenders) {
    if (reserved.count(c.name) != 0 && reserved.count("pytorch") != 0 && chosen.size() > 1) {
      std::printf("%-18s %-18s reserved %.3f of pytorch, time %.1f ns/op (%.3f)\n",
                  "geometric mean", c.name, std::exp((reserved[c.name] - reserved["pytorch"]) / n),
                  std::exp(time[c.name] / n), std::exp((time[c.name] - time["pytorch"]) / n));
    }
  }
}

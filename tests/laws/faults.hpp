// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/exchange.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"

namespace ashlar::laws {

/// A random collective on a random network, in which ranks die and messages are made too long.
///
/// Returns: the law that is broken; empty where all hold.
inline std::string broken_fault_law(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto up_to = [&](std::uint64_t n) { return static_cast<int>(random() % (n + 1)); };
  const int p = 1 + up_to(23);
  const auto n = static_cast<std::size_t>(up_to(300));
  const int kind = up_to(9);
  const int root = up_to(static_cast<std::uint64_t>(p - 1));
  const auto plan = [&](int rank) {
    const auto q = comm::problem::even(p, rank, n, 4, root);
    switch (kind) {
      case 0:
        return comm::ring{}.all_reduce(q);
      case 1:
        return comm::recursive_doubling{}.all_reduce(q);
      case 2:
        return comm::rabenseifner{}.all_reduce(q);
      case 3:
        return comm::double_tree{64}.all_reduce(q);
      case 4:
        return comm::hierarchical{3}.all_reduce(q);
      case 5:
        return comm::chain{64}.all_reduce(q);
      case 6:
        return comm::bruck{}.all_gather(q);
      case 7:
        return comm::scatter_gather{}.broadcast(q);
      case 8:
        return comm::pairwise{}.all_to_all(comm::exchange::even(p, rank, n));
      default:
        return comm::segmented_ring{128}.all_reduce(q);
    }
  };
  std::vector<comm::fault> faults;
  for (int i = up_to(2); i > 0; --i) {
    faults.push_back({up_to(static_cast<std::uint64_t>(p - 1)), up_to(12)});
  }
  // One rank's messages of one round grow.
  const int liar = up_to(3) == 0 ? up_to(static_cast<std::uint64_t>(p - 1)) : -1;
  const int lie = up_to(6);
  const auto maybe_wrong = [&](int rank) {
    comm::schedule right = plan(rank);
    if (rank != liar) {
      return right;
    }
    return comm::schedule(right.rounds(), right.scratch(),
                          [right, lie](int i, comm::round_steps& out) {
                            right.round(i, out);
                            for (comm::step& s : out) {
                              s.count += i == lie && s.sends() ? 1 : 0;
                            }
                          });
  };
  using comm::wiring;
  constexpr wiring ways[] = {wiring::ring, wiring::line, wiring::full, wiring::star,
                             wiring::fat_tree};
  const comm::network net{comm::topology({{ways[up_to(4)], p, 1e-6, 1e9}}), 1e-7, 1e-10,
                          up_to(1) == 0};
  const auto o = comm::simulate(net, maybe_wrong, 4, comm::no_observer{}, faults);
  if (!(o == comm::simulate(net, maybe_wrong, 4, comm::no_observer{}, faults))) {
    return "two runs are the same";
  }
  std::set<int> excused;  // who may be waited for
  for (const comm::fault& f : faults) {
    const comm::schedule missed = plan(f.rank);
    comm::round_steps steps;
    for (int i = f.round; i < missed.rounds(); ++i) {  // a round may have nothing for a rank
      missed.round(i, steps);
      for (const comm::step& s : steps) {
        if (s.sends() || s.receives()) {
          excused.insert(f.rank);
        }
      }
    }
  }
  // Two who have died may miss only each other.
  if (excused.size() == 1 && o.complete()) {
    return "who waits for a rank that has died does not end";
  }
  for (const comm::unequal_steps& u : o.unequal) {
    if (u.from != liar) {
      return "only wrong messages do not fit";
    }
    excused.insert({u.from, u.to});
  }
  if (excused.empty() && !o.complete()) {
    return "a collective ends where nobody has failed";
  }
  for (const comm::stuck_rank& s : o.stuck) {
    excused.insert(s.rank);
  }
  for (const comm::stuck_rank& s : o.stuck) {
    if (!excused.contains(s.peer)) {
      return "who waits, waits for somebody who has failed or waits";
    }
  }
  return "";
}

}  // namespace ashlar::laws

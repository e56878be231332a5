// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/network.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Thrown for schedules that cannot run to their end.
struct bad_schedule final : error {
  outcome found;  ///< who waits for whom, and which messages do not fit
  int rank;       ///< of a round that is wrong by itself, else -1
  int round;
  std::string why;

  bad_schedule(outcome what, int where_rank, int where_round, std::string reason,
               std::source_location where = std::source_location::current())
      : error(where),
        found(std::move(what)),
        rank(where_rank),
        round(where_round),
        why(std::move(reason)) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::comm::check: ";
    if (rank >= 0) {
      text +=
          "rank " + std::to_string(rank) + ", round " + std::to_string(round) + ": " + why + "; ";
    }
    for (const unequal_steps& u : found.unequal) {
      text += "rank " + std::to_string(u.from) + " sends " + std::to_string(u.sent) +
              " elements, rank " + std::to_string(u.to) + " expects " + std::to_string(u.expected) +
              "; ";
    }
    for (const stuck_rank& s : found.stuck) {
      text += "rank " + std::to_string(s.rank) + " waits in round " + std::to_string(s.round) +
              (s.sending ? " to send to rank " : " for rank ") + std::to_string(s.peer) + "; ";
    }
    text.resize(text.size() - 2);
    return text;
  }
};

/// How many elements a rank's places hold.
struct extents {
  std::size_t input = 0;
  std::size_t data = 0;
};

/// Checks all ranks' schedules before anything runs: sends and receives meet and are of one size,
/// also where nobody holds messages in between; steps stay in their memory; what a round sends does
/// not overlap what it receives.
///
/// `schedule_of(rank)` gives a schedule, `extents_of(rank)` the sizes of its places.
/// Returns: rounds, messages and elements.
/// Throws:  `bad_schedule` with everything that was found.
template <std::invocable<int> Schedules, std::invocable<int> Extents>
outcome check(int ranks, Schedules&& schedule_of, Extents&& extents_of) {
  for (int rank = 0; rank < ranks; ++rank) {
    const schedule plan = schedule_of(rank);
    const extents room = extents_of(rank);
    const auto size = [&](place p) {
      return p == place::input ? room.input : p == place::data ? room.data : plan.scratch();
    };
    const auto fits = [&](region r, std::size_t n) {  // a piece is as long as its step
      return r.in == place::piece || (r.first <= size(r.in) && n <= size(r.in) - r.first);
    };
    round_steps steps;
    for (int i = 0; i < plan.rounds(); ++i) {
      plan.round(i, steps);
      const auto wrong = [&](const char* why) { throw bad_schedule({}, rank, i, why); };
      for (const step& a : steps) {
        const bool communicates = a.sends() || a.receives();
        if ((!a.receives() && !fits(a.from, a.count)) || (!a.sends() && !fits(a.to, a.count))) {
          wrong("a step leaves its memory");
        }
        if (!a.sends() && a.to.in == place::input) {
          wrong("a step writes to the input");
        }
        if (communicates && (a.peer < 0 || a.peer >= ranks)) {
          wrong("a step names a rank that does not exist");
        }
        for (const step& b : steps) {
          if (a.sends() && b.receives() && a.from.in == b.to.in && a.from.in != place::piece &&
              a.count != 0 && b.count != 0 && a.from.first < b.to.first + b.count &&
              b.to.first < a.from.first + a.count) {
            wrong("what it sends overlaps what it receives");
          }
        }
      }
    }
  }
  const network instant{presets::fully_connected(ranks, 0, 1e18), 0, 0, false};
  outcome found = simulate(instant, schedule_of, 1);
  if (!found.complete()) {
    throw bad_schedule(std::move(found), -1, -1, "");
  }
  return found;
}

}  // namespace ashlar::comm

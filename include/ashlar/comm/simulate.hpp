// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/comm/detail/event_loop.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/schedule.hpp"

namespace ashlar::comm {

/// What a rank was doing when nothing went on any more.
struct stuck_rank {
  int rank;
  int round;
  bool sending;
  int peer;
  std::size_t count;  ///< [elements]
  friend bool operator==(const stuck_rank&, const stuck_rank&) = default;
};

/// Two steps that meet and do not fit.
struct unequal_steps {
  int from;
  int to;
  std::size_t sent;      ///< [elements]
  std::size_t expected;  ///< [elements]
  friend bool operator==(const unequal_steps&, const unequal_steps&) = default;
};

/// What became of a collective.
struct outcome {
  double seconds = 0;
  int rounds = 0;  ///< of the rank that has most
  std::size_t messages = 0;
  std::size_t elements = 0;       ///< sent by all ranks together
  std::size_t most_elements = 0;  ///< sent by the rank that sends most
  std::vector<stuck_rank> stuck;  ///< by rank; who waits for somebody that does not come
  std::vector<unequal_steps> unequal;

  [[nodiscard]] bool complete() const { return stuck.empty() && unequal.empty(); }
  friend bool operator==(const outcome&, const outcome&) = default;
};

/// A rank that stops before one of its rounds.
struct fault {
  int rank;
  int round;
};

/// For `simulate`: nobody looks.
struct no_observer {
  void arrived(int /*from*/, const step&, int /*to*/, std::size_t /*number*/, const step&, double,
               double) {}
  void ended(int /*rank*/, const round_steps&, double, double) {}
};

namespace detail {

/// Whose messages wait in a simulation for others that do not come, by rank, peer and direction.
template <class Host>
std::vector<stuck_rank> stuck_in(const event_loop<Host>& events) {
  std::vector<stuck_rank> found;
  events.each_waiting([&](const auto& a, const step& what) {
    found.push_back({a.rank, a.round, what.sends(), what.peer, what.count});
  });
  std::ranges::sort(found, {}, [](const stuck_rank& s) {
    return std::tuple(s.rank, s.peer, s.sending, s.round, s.count);
  });
  return found;
}

}  // namespace detail

/// Runs the schedules of all ranks as events, without threads and in a fixed order.
///
/// A message sets out once both sides have come to it, so what needs somebody to hold messages in
/// between ends with `stuck` ranks. A rank goes on to its next round when all messages of this one
/// have ended and its reductions are done.
/// `observer.arrived(from, send step, to, number of the receiving step, that step, begin, end)` is
/// called for each message, `observer.ended(rank, steps, begin, end)` for each round, in the order
/// of time.
/// Requires: `schedule_of(rank)` for every rank of `net.wires`.
/// Throws:   `argument_error` where one of the network's costs is negative or no number.
/// Cost:     O(m log m) for m messages (times their hops, with contention).
template <std::invocable<int> Schedules, class Observer = no_observer>
outcome simulate(const network& net, Schedules&& schedule_of, std::size_t element_bytes,
                 Observer&& observer = {}, const std::vector<fault>& faults = {}) {
  // A schedule's number is its rank.
  struct host {
    outcome& result;
    Observer& observer;

    void arrived(std::size_t from, const step& sent, std::size_t to, std::size_t number,
                 const step& received, double begin, double end) {
      ++result.messages;
      result.elements += sent.count;
      observer.arrived(static_cast<int>(from), sent, static_cast<int>(to), number, received, begin,
                       end);
    }
    void ended(std::size_t rank, const round_steps& steps, double begin, double end) {
      result.seconds = std::max(result.seconds, end);
      observer.ended(static_cast<int>(rank), steps, begin, end);
    }
    void unequal(std::size_t from, std::size_t to, std::size_t sent, std::size_t expected) {
      result.unequal.push_back({static_cast<int>(from), static_cast<int>(to), sent, expected});
    }
    void finished(std::size_t, double) {}
    void woken(int, double) {}
  };
  outcome result;
  host hears{result, observer};
  detail::event_loop<host> events(net, hears);
  for (int rank = 0; rank < net.wires.ranks(); ++rank) {
    schedule plan = schedule_of(rank);
    result.rounds = std::max(result.rounds, plan.rounds());
    int last = plan.rounds();
    for (const fault& f : faults) {
      last = f.rank == rank ? std::min(last, f.round) : last;
    }
    events.add(rank, 0, std::move(plan), element_bytes, 0, last);
  }
  events.run();
  for (const auto& a : events.actors()) {
    result.most_elements = std::max(result.most_elements, a.sent);
  }
  result.stuck = detail::stuck_in(events);
  return result;
}

}  // namespace ashlar::comm

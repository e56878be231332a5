// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

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

/// Runs the schedules of all ranks as events, without threads and in a fixed order.
///
/// A message sets out once both sides have come to it, so what needs somebody to hold messages in
/// between ends with `stuck` ranks. A rank goes on to its next round when all messages of this one
/// have ended and its reductions are done.
/// `observer.arrived(from, send step, to, number of the receiving step, that step, begin, end)` is
/// called for each message, `observer.ended(rank, steps, begin, end)` for each round, in the order
/// of time.
/// Requires: `schedule_of(rank)` for every rank of `net.wires`.
/// Cost:     O(m log m) for m messages (times their hops, with contention).
template <std::invocable<int> Schedules, class Observer = no_observer>
outcome simulate(const network& net, Schedules&& schedule_of, std::size_t element_bytes,
                 Observer&& observer = {}, const std::vector<fault>& faults = {}) {
  struct actor {
    schedule plan;
    round_steps steps;
    int round = -1;
    int last = 0;  // the round before which it stops
    std::size_t open = 0;
    std::size_t sent = 0;
    double began = 0;
  };
  struct side {
    int rank;
    std::size_t step;
  };
  struct transfer {
    side from, to;
    double began;
    std::vector<hop> way;
    std::size_t at = 0;
  };
  struct occasion {
    double time;
    std::uint64_t order;
    std::int64_t transfer;  // or -1 - rank: its next round
    bool operator<(const occasion& o) const {
      return time != o.time ? time > o.time : order > o.order;
    }
  };
  const int ranks = net.wires.ranks();
  const auto bytes = [element_bytes](std::size_t n) {
    return static_cast<double>(n) * static_cast<double>(element_bytes);
  };
  std::vector<actor> actors(static_cast<std::size_t>(ranks));
  std::priority_queue<occasion> agenda;
  std::uint64_t order = 0;
  std::vector<transfer> transfers;
  std::vector<std::int64_t> unused;
  std::unordered_map<std::uint64_t, std::vector<side>> waiting;  // by pair: sends, or receives
  std::unordered_map<std::uint64_t, double> busy;                // link -> until when
  outcome result;
  const auto actor_at = [&](int rank) -> actor& { return actors[static_cast<std::size_t>(rank)]; };
  const auto step_of = [&](side s) -> const step& { return actor_at(s.rank).steps[s.step]; };

  const auto advance = [&](std::int64_t id, double now) {
    transfer& t = transfers[static_cast<std::size_t>(id)];
    const double size = bytes(step_of(t.from).count);
    if (net.contention && t.at < t.way.size()) {
      const hop& h = t.way[t.at++];
      double& until = busy[h.link];
      until = std::max(now, until) + size / h.bandwidth;
      agenda.push({until + h.latency, order++, id});
      return true;
    }
    return false;
  };
  const auto set_out = [&](side from, side to, double now) {
    const std::size_t sent = step_of(from).count;
    if (sent != step_of(to).count) {
      result.unequal.push_back({from.rank, to.rank, sent, step_of(to).count});
      return;
    }
    ++result.messages;
    result.elements += sent;
    actor_at(from.rank).sent += sent;
    std::int64_t id = std::ssize(transfers);
    if (unused.empty()) {
      transfers.emplace_back();
    } else {
      id = unused.back();
      unused.pop_back();
    }
    transfer& t = transfers[static_cast<std::size_t>(id)];
    t.from = from;
    t.to = to;
    t.began = now;
    t.at = 0;
    net.wires.route(from.rank, to.rank, t.way);
    double begin = now + net.overhead;
    if (!net.contention) {
      double slowest = 0;
      for (const hop& h : t.way) {
        begin += h.latency;
        slowest = std::max(slowest, bytes(sent) / h.bandwidth);
      }
      begin += slowest;
    }
    agenda.push({begin, order++, id});
  };
  const auto end_round = [&](int rank, double now) {
    actor& a = actor_at(rank);
    std::size_t reduced = 0;
    for (const step& s : a.steps) {
      reduced += s.does == verb::reduce || s.does == verb::receive_reduce ? s.count : 0;
    }
    const double end = now + bytes(reduced) * net.reduce_cost;
    observer.ended(rank, a.steps, a.began, end);
    agenda.push({end, order++, -1 - rank});
  };
  const auto begin_round = [&](int rank, double now) {
    actor& a = actor_at(rank);
    result.seconds = std::max(result.seconds, now);
    if (++a.round >= a.last) {
      return;
    }
    a.began = now;
    a.plan.round(a.round, a.steps);
    a.open = 0;
    for (const step& s : a.steps) {
      a.open += s.sends() || s.receives() ? 1 : 0;
    }
    if (a.open == 0) {
      end_round(rank, now);
      return;
    }
    for (std::size_t i = 0; i < a.steps.size(); ++i) {
      const step& s = a.steps[i];
      if (!s.sends() && !s.receives()) {
        continue;
      }
      const side here{rank, i};
      const auto from = static_cast<std::uint64_t>(s.sends() ? rank : s.peer);
      const auto to = static_cast<std::uint64_t>(s.sends() ? s.peer : rank);
      auto& queue = waiting[from << 32 | to];
      if (!queue.empty() && step_of(queue.front()).sends() != s.sends()) {
        const side other = queue.front();
        queue.erase(queue.begin());
        s.sends() ? set_out(here, other, now) : set_out(other, here, now);
      } else {
        queue.push_back(here);
      }
    }
  };

  for (int rank = 0; rank < ranks; ++rank) {
    actor& a = actor_at(rank);
    a.plan = schedule_of(rank);
    a.last = a.plan.rounds();
    result.rounds = std::max(result.rounds, a.last);
    for (const fault& f : faults) {
      a.last = f.rank == rank ? std::min(a.last, std::max(0, f.round)) : a.last;
    }
    agenda.push({0, order++, -1 - rank});
  }
  while (!agenda.empty()) {
    const occasion now = agenda.top();
    agenda.pop();
    if (now.transfer < 0) {
      begin_round(static_cast<int>(-1 - now.transfer), now.time);
      continue;
    }
    if (advance(now.transfer, now.time)) {
      continue;
    }
    const transfer& t = transfers[static_cast<std::size_t>(now.transfer)];
    const side from = t.from;
    const side to = t.to;
    observer.arrived(from.rank, step_of(from), to.rank, to.step, step_of(to), t.began, now.time);
    unused.push_back(now.transfer);
    for (const int rank : {from.rank, to.rank}) {
      if (--actor_at(rank).open == 0) {
        end_round(rank, now.time);
      }
    }
  }
  for (int rank = 0; rank < ranks; ++rank) {
    result.most_elements = std::max(result.most_elements, actor_at(rank).sent);
  }
  for (auto& [pair, queue] : waiting) {
    for (const side s : queue) {
      const step& what = step_of(s);
      result.stuck.push_back({s.rank, actor_at(s.rank).round, what.sends(), what.peer, what.count});
    }
  }
  std::ranges::sort(result.stuck, {}, [](const stuck_rank& s) {
    return std::pair(s.rank, std::pair(s.peer, s.sending));
  });
  return result;
}

}  // namespace ashlar::comm

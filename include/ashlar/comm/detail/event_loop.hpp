// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/comm/network.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm::detail {

/// Schedules under way on a simulated network, as events in the order of time; events of one time
/// come in the order in which they were made.
///
/// A message sets out once both sides have come to it. A schedule goes on to its next round when
/// all messages of this one have ended and its reductions are done. `Host` hears of what happens:
///
///     arrived(sender, send step, receiver, number of the receiving step, that step, begin, end)
///     ended(schedule, steps, begin, end)     a round, reductions included
///     unequal(sender, receiver, sent, expected)
///     finished(schedule, time)               the last round, if there is no fault
///     woken(rank, time)                      what `wake` asked for
///
/// where senders, receivers and schedules are numbers that `add` gave.
template <class Host>
class event_loop {
 public:
  struct actor {
    int rank = 0;
    int tag = 0;
    std::size_t element_bytes = 1;
    schedule plan;
    round_steps steps;
    int round = -1;
    int last = 0;  // the round before which it stops
    std::size_t open = 0;
    std::size_t sent = 0;  // elements
    double began = 0;      // the round
  };

  /// Requires: both outlive it. Throws: `argument_error` for costs that are negative or no numbers.
  event_loop(const network& net, Host& host) : net_(net), host_(host) {
    if (!(net.overhead >= 0) || !(net.reduce_cost >= 0) || !(net.packet_bytes >= 0)) {
      throw argument_error("ashlar::comm::network",
                           "overhead " + std::to_string(net.overhead) + ", reduce_cost " +
                               std::to_string(net.reduce_cost) + ", packet_bytes " +
                               std::to_string(net.packet_bytes) + "; none may be below 0");
    }
  }

  /// Begins a schedule of a rank. Its messages meet those of the same tag; `last` is a round before
  /// which it stops. Returns: its number.
  std::size_t add(int rank, int tag, schedule plan, std::size_t element_bytes, double now,
                  int last = std::numeric_limits<int>::max()) {
    const int rounds = plan.rounds();
    actors_.push_back({.rank = rank,
                       .tag = tag,
                       .element_bytes = element_bytes,
                       .plan = std::move(plan),
                       .steps = {},
                       .last = std::min(rounds, std::max(0, last))});
    push(now, event::round, std::ssize(actors_) - 1);
    return actors_.size() - 1;
  }
  void wake(int rank, double at) { push(at, event::woken, rank); }

  void run() {
    while (!agenda_.empty()) {
      const occasion now = agenda_.top();
      agenda_.pop();
      switch (now.what) {
        case event::round:
          begin_round(static_cast<std::size_t>(now.which), now.time);
          break;
        case event::hop:
          if (!advance(now.which, now.time)) {
            end_transfer(now.which, now.time);
          }
          break;
        case event::woken:
          host_.woken(static_cast<int>(now.which), now.time);
          break;
      }
    }
  }

  [[nodiscard]] const actor& at(std::size_t number) const { return actors_[number]; }
  [[nodiscard]] const std::deque<actor>& actors() const { return actors_; }
  /// Calls `f(schedule, step)` for every message that waits for its other side, in no order.
  template <class F>
  void each_waiting(const F& f) const {
    for (const auto& [_, queue] : waiting_) {
      for (const side& s : queue) {
        f(actors_[s.actor], actors_[s.actor].steps[s.step]);
      }
    }
  }

 private:
  enum class event : std::uint8_t { round, hop, woken };
  struct side {
    std::size_t actor;
    std::size_t step;
  };
  struct transfer {
    side from, to;
    double began;
    std::vector<hop> way;
    std::size_t at = 0;
    double tail = 0;  // when all of it is at the node that it has come to
  };
  struct occasion {
    double time;
    std::uint64_t order;
    event what;
    std::int64_t which;  // a schedule, a transfer, a rank
    bool operator<(const occasion& o) const {
      return time != o.time ? time > o.time : order > o.order;
    }
  };
  struct meeting {
    std::uint64_t pair;
    int tag;
    friend bool operator==(const meeting&, const meeting&) = default;
  };
  struct hash {
    std::size_t operator()(const meeting& m) const {
      return std::hash<std::uint64_t>()(m.pair ^
                                        static_cast<std::uint64_t>(m.tag) * 0x9e3779b97f4a7c15u);
    }
  };

  void push(double time, event what, std::int64_t which) {
    agenda_.push({time, order_++, what, which});
  }
  [[nodiscard]] const step& step_of(side s) const { return actors_[s.actor].steps[s.step]; }
  [[nodiscard]] double bytes(side s) const {
    return static_cast<double>(step_of(s).count) *
           static_cast<double>(actors_[s.actor].element_bytes);
  }

  /// Sends a message over its next link. Returns: false where it has arrived.
  bool advance(std::int64_t id, double now) {
    transfer& t = transfers_[static_cast<std::size_t>(id)];
    if (!net_.contention || t.at == t.way.size()) {
      return false;
    }
    const double size = bytes(t.from);
    const hop& h = t.way[t.at++];
    const double packet = net_.packet_bytes > 0 ? std::min(size, net_.packet_bytes) : size;
    double& until = busy_[h.link];
    const double begin = std::max(now, until);
    // The link has it until its last packet, which comes behind the others, has gone over.
    until = std::max(begin + size / h.bandwidth, t.tail + packet / h.bandwidth);
    t.tail = until + h.latency;
    const bool goes_on = t.at < t.way.size();
    push(goes_on ? begin + packet / h.bandwidth + h.latency : t.tail, event::hop, id);
    return true;
  }
  void set_out(side from, side to, double now) {
    const std::size_t sent = step_of(from).count;
    actor& sender = actors_[from.actor];
    const actor& receiver = actors_[to.actor];
    if (sent * sender.element_bytes != step_of(to).count * receiver.element_bytes) {
      host_.unequal(from.actor, to.actor, sent, step_of(to).count);
      return;
    }
    sender.sent += sent;
    std::int64_t id = std::ssize(transfers_);
    if (unused_.empty()) {
      transfers_.emplace_back();
    } else {
      id = unused_.back();
      unused_.pop_back();
    }
    transfer& t = transfers_[static_cast<std::size_t>(id)];
    t.from = from;
    t.to = to;
    t.began = now;
    t.at = 0;
    t.tail = now + net_.overhead;
    net_.wires.route(sender.rank, receiver.rank, t.way);
    double begin = t.tail;
    if (!net_.contention) {
      double slowest = 0;
      for (const hop& h : t.way) {
        begin += h.latency;
        slowest = std::max(slowest, bytes(from) / h.bandwidth);
      }
      begin += slowest;
    }
    push(begin, event::hop, id);
  }
  void end_transfer(std::int64_t id, double now) {
    const transfer& t = transfers_[static_cast<std::size_t>(id)];
    const side from = t.from;
    const side to = t.to;
    host_.arrived(from.actor, step_of(from), to.actor, to.step, step_of(to), t.began, now);
    unused_.push_back(id);
    for (const std::size_t i : {from.actor, to.actor}) {
      if (--actors_[i].open == 0) {
        end_round(i, now);
      }
    }
  }
  void begin_round(std::size_t i, double now) {
    actor& a = actors_[i];
    if (++a.round >= a.last) {
      a.plan = {};  // thousands may have ended
      a.steps = {};
      host_.finished(i, now);
      return;
    }
    a.began = now;
    a.plan.round(a.round, a.steps);
    a.open = 0;
    for (const step& s : a.steps) {
      a.open += s.sends() || s.receives() ? 1 : 0;
    }
    if (a.open == 0) {
      end_round(i, now);
      return;
    }
    for (std::size_t k = 0; k < a.steps.size(); ++k) {
      const step& s = a.steps[k];
      if (!s.sends() && !s.receives()) {
        continue;
      }
      const side here{i, k};
      const auto from = static_cast<std::uint64_t>(s.sends() ? a.rank : s.peer);
      const auto to = static_cast<std::uint64_t>(s.sends() ? s.peer : a.rank);
      auto& queue = waiting_[{from << 32 | to, a.tag}];
      if (!queue.empty() && step_of(queue.front()).sends() != s.sends()) {
        const side other = queue.front();
        queue.erase(queue.begin());
        s.sends() ? set_out(here, other, now) : set_out(other, here, now);
      } else {
        queue.push_back(here);
      }
    }
  }
  void end_round(std::size_t i, double now) {
    actor& a = actors_[i];
    std::size_t reduced = 0;
    for (const step& s : a.steps) {
      reduced += s.does == verb::reduce || s.does == verb::receive_reduce ? s.count : 0;
    }
    const double end = now + static_cast<double>(reduced) * static_cast<double>(a.element_bytes) *
                                 net_.reduce_cost;
    host_.ended(i, a.steps, a.began, end);
    push(end, event::round, static_cast<std::int64_t>(i));
  }

  const network& net_;
  Host& host_;
  std::deque<actor> actors_;  // a reference stays while others are added
  std::priority_queue<occasion> agenda_;
  std::uint64_t order_ = 0;
  std::vector<transfer> transfers_;
  std::vector<std::int64_t> unused_;
  std::unordered_map<meeting, std::vector<side>, hash> waiting_;  // sends, or receives
  std::unordered_map<std::uint64_t, double> busy_;                // link -> until when
};

}  // namespace ashlar::comm::detail

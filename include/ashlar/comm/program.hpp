// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/detail/event_loop.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/comm/timeline.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/trace/timeline.hpp"

namespace ashlar::comm {

/// What one rank of a program does, in its order: it computes, begins collectives and messages, and
/// waits for them. Neither times of messages nor how often it asked for them are in it.
///
/// Made by `recorded` from a run, or by hand.
class rank_program {
 public:
  enum class kind : std::uint8_t { compute, begin, wait, mark };
  struct item {
    kind what;
    std::string name = {};
    double seconds = 0;      ///< of computation
    std::size_t number = 0;  ///< of what is begun or waited for
  };
  /// Something that is under way on the network.
  struct transfer {
    std::string name;
    schedule plan;  ///< its peers are ranks of the network
    std::size_t element_bytes;
    int tag;
    bool message;  ///< not a collective
  };

  /// Throws: `argument_error` where `seconds` are negative or no number.
  void compute(std::string name, double seconds) {
    if (!(seconds >= 0)) {
      throw argument_error("ashlar::comm::rank_program",
                           name + " cannot take " + std::to_string(seconds) + " s");
    }
    items_.push_back({kind::compute, std::move(name), seconds});
  }
  /// Returns: a number, for `wait`.
  std::size_t begin(transfer t) {
    transfers_.push_back(std::move(t));
    items_.push_back({.what = kind::begin, .number = transfers_.size() - 1});
    return transfers_.size() - 1;
  }
  std::size_t send(int to, std::size_t bytes, int tag) {
    return message("send to ", verb::send, to, bytes, tag);
  }
  std::size_t receive(int from, std::size_t bytes, int tag) {
    return message("receive from ", verb::receive, from, bytes, tag);
  }
  /// Throws: `argument_error` where nothing of this number has begun.
  void wait(std::size_t number) {
    if (number >= transfers_.size()) {
      throw argument_error("ashlar::comm::rank_program", "waits for transfer " +
                                                             std::to_string(number) + " of " +
                                                             std::to_string(transfers_.size()));
    }
    items_.push_back({.what = kind::wait, .number = number});
  }
  /// A place in the program, the same on every rank: the end of a step.
  void mark() { items_.push_back({.what = kind::mark}); }

  [[nodiscard]] const std::vector<item>& items() const { return items_; }
  [[nodiscard]] const std::vector<transfer>& transfers() const { return transfers_; }

 private:
  std::size_t message(const char* what, verb does, int peer, std::size_t bytes, int tag) {
    const step one{does, true, peer, {}, {}, bytes};
    return begin({what + std::to_string(peer),
                  {1, 0, [one](int, round_steps& out) { out.push_back(one); }},
                  1,
                  tag,
                  true});
  }
  std::vector<item> items_;
  std::vector<transfer> transfers_;
};

/// What became of a program on a network.
struct program_outcome {
  double seconds = 0;
  std::vector<double> marks;  ///< when the last rank came to each
  /// Computation on lane 0; messages and collectives that the program began, from then to their
  /// end. A tick is a nanosecond.
  trace::timeline timeline;
  std::vector<stuck_rank> stuck;       ///< messages that found no other side
  std::vector<unequal_steps> unequal;  ///< that met others of another size
  [[nodiscard]] bool complete() const { return stuck.empty() && unequal.empty(); }
};

namespace detail {

/// Ranks that run their programs while the network runs what these begin.
class program_run {
 public:
  program_run(const network& net, const std::vector<rank_program>& programs)
      : programs_(programs), events_(net, *this), ranks_(programs.size()) {
    result_.timeline.ticks_per_microsecond = 1e3;
    for (int rank = 0; rank < static_cast<int>(programs.size()); ++rank) {
      ranks_[static_cast<std::size_t>(rank)].begun.resize(program(rank).transfers().size());
      result_.timeline.name_lane(rank, 0, "rank " + std::to_string(rank) + " compute");
      events_.wake(rank, 0);
    }
  }

  program_outcome run() {
    events_.run();
    result_.stuck = stuck_in(events_);
    return std::move(result_);
  }

  // What `event_loop` tells.
  void arrived(std::size_t /*from*/, const step&, std::size_t /*to*/, std::size_t /*number*/,
               const step&, double /*begin*/, double /*end*/) {}
  void ended(std::size_t /*number*/, const round_steps&, double /*begin*/, double /*end*/) {}
  void unequal(std::size_t from, std::size_t to, std::size_t sent, std::size_t expected) {
    result_.unequal.push_back({events_.at(from).rank, events_.at(to).rank, sent, expected});
  }
  void finished(std::size_t number, double now) {
    const auto [rank, own] = owners_[number];
    under_way& w = ranks_[static_cast<std::size_t>(rank)].begun[own];
    w.over = true;
    result_.seconds = std::max(result_.seconds, now);
    note(rank, program(rank).transfers()[own], w.since, now);
    if (ranks_[static_cast<std::size_t>(rank)].waits_for == number_of(own)) {
      ranks_[static_cast<std::size_t>(rank)].waits_for = 0;
      go_on(rank, now);
    }
  }
  void woken(int rank, double now) { go_on(rank, now); }

 private:
  struct under_way {
    double since = 0;
    bool over = false;
  };
  struct state {
    std::size_t at = 0;  // the next item
    std::size_t marks = 0;
    std::size_t waits_for = 0;  // 0: nothing
    std::vector<under_way> begun;
  };
  static std::size_t number_of(std::size_t own) { return own + 1; }
  [[nodiscard]] const rank_program& program(int rank) const {
    return programs_[static_cast<std::size_t>(rank)];
  }

  void go_on(int rank, double now) {
    state& r = ranks_[static_cast<std::size_t>(rank)];
    const rank_program& all = program(rank);
    result_.seconds = std::max(result_.seconds, now);
    while (r.at < all.items().size()) {
      const rank_program::item& i = all.items()[r.at++];
      switch (i.what) {
        case rank_program::kind::compute:
          if (i.seconds > 0) {
            add(rank, 0, i.name, lanes::compute, now, now + i.seconds);
            events_.wake(rank, now + i.seconds);
            return;
          }
          break;
        case rank_program::kind::begin: {
          const rank_program::transfer& t = all.transfers()[i.number];
          r.begun[i.number].since = now;
          owners_.emplace_back(rank, i.number);
          events_.add(rank, t.tag, t.plan, t.element_bytes, now);
          break;
        }
        case rank_program::kind::wait:
          if (!r.begun[i.number].over) {
            r.waits_for = number_of(i.number);
            return;
          }
          break;
        case rank_program::kind::mark:
          if (++r.marks > result_.marks.size()) {
            result_.marks.push_back(now);
          }
          result_.marks[r.marks - 1] = std::max(result_.marks[r.marks - 1], now);
          break;
      }
    }
  }
  void note(int rank, const rank_program::transfer& t, double begin, double end) {
    if (t.message) {
      const bool sends = t.name.starts_with("send");
      result_.timeline.name_lane(rank, sends ? 1 : 2,
                                 "rank " + std::to_string(rank) + (sends ? " sends" : " receives"));
      add(rank, sends ? 1 : 2, t.name, sends ? "send" : "receive", begin, end);
    } else {
      const auto [lane, name] = lanes::of_collective(t.tag);
      result_.timeline.name_lane(rank, lane, "rank " + std::to_string(rank) + ' ' + name);
      add(rank, lane, t.name, lanes::collective, begin, end);
    }
  }
  void add(int rank, int lane, const std::string& name, const char* category, double begin,
           double end) {
    const std::int64_t from = ticks_of(begin, 1e9);
    result_.timeline.add({name, category, rank, lane, from, ticks_of(end, 1e9) - from});
  }

  const std::vector<rank_program>& programs_;
  event_loop<program_run> events_;
  std::vector<state> ranks_;
  std::vector<std::pair<int, std::size_t>> owners_;  // of schedules: rank, and its number there
  program_outcome result_;
};

}  // namespace detail

/// Runs every rank's program in simulated time: what they compute takes as long as they say, what
/// they send as long as the network takes, all transfers of all ranks at once.
///
/// Transfers go on by themselves, whether or not their ranks ask for them.
/// Returns: the same for the same programs. Where it is not `complete`, ranks that waited for what
///          never came did not go on.
/// Throws:  `argument_error` where there is not a program for each rank of the network, where the
///          network's costs are negative, and where it takes longer than 2^62 ns.
/// Cost:    that of `simulate`.
[[nodiscard]] inline program_outcome simulate_programs(const network& net,
                                                       const std::vector<rank_program>& programs) {
  if (programs.size() != static_cast<std::size_t>(net.wires.ranks())) {
    throw argument_error("ashlar::comm::simulate_programs",
                         std::to_string(programs.size()) + " programs on a network of " +
                             std::to_string(net.wires.ranks()) + " ranks");
  }
  return detail::program_run(net, programs).run();
}

}  // namespace ashlar::comm

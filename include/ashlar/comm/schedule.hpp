// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/reduce.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Where elements lie, on one rank.
enum class place : std::uint8_t {
  input,    ///< what the caller gives and keeps
  data,     ///< what the caller gives to be changed, or to hold the result
  scratch,  ///< memory that the executor provides
  piece     ///< memory of its own; `first` is its number, see `message_group`
};

enum class verb : std::uint8_t {
  send,            ///< `from` goes to `peer`
  receive,         ///< what `peer` sends goes to `to`
  receive_reduce,  ///< what `peer` sends is reduced into `to`
  reduce,          ///< `from` is reduced into `to`
  copy             ///< `from` is copied to `to`
};

/// Elements in one place; how many says the step.
struct region {
  place in = place::data;
  std::size_t first = 0;
  friend constexpr bool operator==(const region&, const region&) = default;
};

/// One thing that a rank does.
struct step {
  verb does = verb::copy;
  /// For reductions: `to = op(arrived, to)` where true, `to = op(to, arrived)` where not.
  bool arrived_is_left = true;
  int peer = -1;
  region from = {};
  region to = {};
  std::size_t count = 0;  ///< [elements]

  [[nodiscard]] bool sends() const { return does == verb::send; }
  [[nodiscard]] bool receives() const {
    return does == verb::receive || does == verb::receive_reduce;
  }
  friend constexpr bool operator==(const step&, const step&) = default;
};

/// What a rank does at once: its messages are all under way together; once they have ended, its
/// local steps follow, one after the other.
///
/// What a round sends and what it receives do not overlap. Messages between two ranks arrive in the
/// order in which the sender's steps stand; the receiver's stand in the same order.
using round_steps = std::vector<step>;

/// One rank's part of a collective, as data: a number of rounds, each a list of steps.
///
/// It knows nothing of transports, element types or operations. Rounds are made one by one when
/// asked for, in any order, so that thousands of ranks' schedules take no memory.
class schedule {
 public:
  /// Appends the steps of round `i` to a list.
  using rule = std::function<void(int, round_steps&)>;

  schedule() = default;
  schedule(int rounds, std::size_t scratch, rule r)
      : rounds_(rounds), scratch_(scratch), rule_(std::move(r)) {}

  [[nodiscard]] int rounds() const { return rounds_; }
  /// Elements of memory that it wants beside the caller's.
  [[nodiscard]] std::size_t scratch() const { return scratch_; }

  /// Effects: `into` holds the steps of round `i`, and nothing else.
  void round(int i, round_steps& into) const {
    into.clear();
    rule_(i, into);
  }

 private:
  int rounds_ = 0;
  std::size_t scratch_ = 0;
  rule rule_;
};

namespace detail {
/// Rounds are counted in `int`. Throws: `argument_error` where there are more.
inline int checked_rounds(std::int64_t rounds) {
  if (rounds > std::numeric_limits<int>::max()) {
    throw argument_error("ashlar::comm::schedule",
                         std::to_string(rounds) + " rounds; give larger segments");
  }
  return static_cast<int>(rounds);
}
}  // namespace detail

/// First one schedule, then another; both use the same scratch memory.
/// Throws: `argument_error` for more than 2^31 - 1 rounds.
inline schedule operator+(schedule a, schedule b) {
  if (a.rounds() == 0 || b.rounds() == 0) {
    return a.rounds() == 0 ? b : a;
  }
  const int rounds = detail::checked_rounds(std::int64_t{a.rounds()} + b.rounds());
  const std::size_t scratch = std::max(a.scratch(), b.scratch());
  auto both = std::make_shared<const std::pair<schedule, schedule>>(std::move(a), std::move(b));
  return {rounds, scratch, [both](int i, round_steps& out) {
            const int before = both->first.rounds();
            i < before ? both->first.round(i, out) : both->second.round(i - before, out);
          }};
}

/// A schedule of other ranks and another part of the data: rank `k` of it is rank
/// `first + k * stride`, its element 0 is element `shift`.
inline schedule among(schedule s, int first, int stride, std::size_t shift = 0) {
  const int rounds = s.rounds();
  const std::size_t scratch = s.scratch();
  auto inner = std::make_shared<const schedule>(std::move(s));
  return {rounds, scratch, [inner, first, stride, shift](int i, round_steps& out) {
            inner->round(i, out);
            for (step& a : out) {
              a.peer = first + a.peer * stride;
              a.from.first += a.from.in == place::data ? shift : 0;
              a.to.first += a.to.in == place::data ? shift : 0;
            }
          }};
}

/// How `count` elements are shared out: consecutive parts, of equal or of given sizes.
class partition {
 public:
  partition() = default;
  /// As `chunk_of`.
  partition(std::size_t count, int parts) : count_(count), parts_(parts) {}
  explicit partition(const std::vector<std::size_t>& counts)
      : parts_(static_cast<int>(counts.size())) {
    auto ends = std::make_shared<std::vector<std::size_t>>();
    for (const std::size_t c : counts) {
      ends->push_back(count_ += c);
    }
    ends_ = std::move(ends);
  }

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] int parts() const { return parts_; }
  /// The first element of part `i`; `count()` for `i = parts()`.
  [[nodiscard]] std::size_t start(int i) const {
    if (i == 0 || i >= parts_) {
      return i == 0 ? 0 : count_;
    }
    return ends_ ? (*ends_)[static_cast<std::size_t>(i) - 1] : chunk_of(count_, parts_, i).first;
  }
  [[nodiscard]] chunk at(int i) const { return {start(i), start(i + 1)}; }
  /// Parts `first` to `last - 1`, which follow each other.
  [[nodiscard]] chunk range(int first, int last) const { return {start(first), start(last)}; }

 private:
  std::size_t count_ = 0;
  int parts_ = 1;
  std::shared_ptr<const std::vector<std::size_t>> ends_;
};

/// What an algorithm is asked for: one rank's part of one collective.
struct problem {
  int ranks = 1;
  int rank = 0;
  std::size_t count = 0;          ///< [elements] of the whole
  std::size_t element_bytes = 4;  ///< for what cuts messages into segments of bytes
  int root = 0;                   ///< of broadcast and reduce
  partition parts = {};           ///< who owns what: reduce-scatter, all-gather

  static problem even(int ranks, int rank, std::size_t count, std::size_t element_bytes,
                      int root = 0) {
    return {ranks, rank, count, element_bytes, root, {count, ranks}};
  }
};

namespace detail {

/// `value` modulo `ranks`, for values from `-ranks`.
constexpr int wrap(int value, int ranks) { return (value + ranks) % ranks; }

/// How often 2 goes into the least power of two that is not below `n`.
constexpr int log2_up(int n) {
  int k = 0;
  while ((std::int64_t{1} << k) < n) {
    ++k;
  }
  return k;
}

inline step send_to(int peer, chunk c, place in = place::data) {
  return {verb::send, true, peer, {in, c.first}, {}, c.size()};
}
inline step receive_from(int peer, chunk c, place in = place::data) {
  return {verb::receive, true, peer, {}, {in, c.first}, c.size()};
}
inline step reduce_from(int peer, chunk c, bool arrived_is_left = true) {
  return {verb::receive_reduce, arrived_is_left, peer, {}, {place::data, c.first}, c.size()};
}
inline step copy(region from, region to, std::size_t count) {
  return {verb::copy, true, -1, from, to, count};
}
/// `to = op(to, from)`.
inline step reduce(region from, region to, std::size_t count) {
  return {verb::reduce, false, -1, from, to, count};
}

/// Segment `i` of `c`, cut into pieces of `segment` elements; the last one is shorter.
constexpr chunk segment_of(chunk c, std::size_t segment, int i) {
  const std::size_t first = std::min(c.last, c.first + static_cast<std::size_t>(i) * segment);
  return {first, std::min(c.last, first + segment)};
}
/// At least one, so that empty messages still meet.
/// Throws: `argument_error` for more than a schedule has rounds for.
constexpr int segments(std::size_t count, std::size_t segment) {
  const std::size_t pieces = count == 0 ? 1 : (count - 1) / segment + 1;
  if (pieces > static_cast<std::size_t>(std::numeric_limits<int>::max() / 2)) {
    throw argument_error("ashlar::comm::schedule",
                         std::to_string(pieces) + " segments; give larger ones");
  }
  return static_cast<int>(pieces);
}
inline std::size_t elements_in(std::size_t bytes, const problem& p) {
  return std::max<std::size_t>(1, bytes / p.element_bytes);
}

}  // namespace detail

}  // namespace ashlar::comm

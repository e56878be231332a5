// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Some ranks of a transport, numbered anew: a sub-communicator. Models `Transport`.
///
/// Messages of different groups do not meet, also where groups have ranks in common: each group has
/// tags of its own, 32768 apart.
/// Requires: the transport takes tags as large as 32768 times the number of groups that a rank is
///           in, and outlives the group.
template <Transport Inner>
class group : public blocking<group<Inner>> {
 public:
  using request = typename Inner::request;

  /// All ranks, with the transport's own tags: the one from which others are split.
  ///
  /// Requires: a transport has one such group; those split from a second one have the tags of those
  ///           split from the first.
  explicit group(Inner& inner)
      : inner_(&inner), rank_(inner.rank()), groups_(std::make_shared<std::int32_t>(0)) {
    for (int rank = 0; rank < inner.size(); ++rank) {
      members_.push_back(rank);
    }
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(members_.size()); }
  /// The members, as ranks of the transport.
  [[nodiscard]] const std::vector<int>& members() const { return members_; }

  /// Splits the group: ranks that give one `color` make a group, in the order of `key`, then rank.
  ///
  /// Every member calls it at the same place of its program.
  /// Throws: `argument_error`, on every member, where no tags are left: after 65535 splits; what
  /// the
  ///         transport throws.
  [[nodiscard]] group split(int color, int key = 0) {
    std::vector<std::int32_t> all(members_.size() * 3);
    const auto own = std::span(all).subspan(static_cast<std::size_t>(rank_) * 3, 3);
    own[0] = color;
    own[1] = key;
    own[2] = *groups_;
    all_gather(*this, std::span<const std::int32_t>(own), std::span(all));
    for (std::size_t i = 0; i < members_.size(); ++i) {
      *groups_ = std::max(*groups_, all[3 * i + 2]);
    }
    if (*groups_ >= std::numeric_limits<int>::max() / tags::of_each_group) {
      throw argument_error("ashlar::comm::group", "a rank has been in " + std::to_string(*groups_) +
                                                      " groups; there are no tags for another");
    }
    group part(*this);
    part.members_.clear();
    std::vector<std::pair<std::int32_t, int>> chosen;  // key, rank
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (all[3 * i] == color) {
        chosen.emplace_back(all[3 * i + 1], static_cast<int>(i));
      }
    }
    part.context_ = ++*groups_;  // no member is in a group of that number
    std::ranges::sort(chosen);
    for (const auto& [_, member] : chosen) {
      if (member == rank_) {
        part.rank_ = part.size();
      }
      part.members_.push_back(members_[static_cast<std::size_t>(member)]);
    }
    return part;
  }

  request isend(int to, std::span<const std::byte> out, int tag) {
    return inner_->isend(member(to), out, own(tag));
  }
  request irecv(int from, std::span<std::byte> in, int tag) {
    return inner_->irecv(member(from), in, own(tag));
  }
  request iborrow(int from, std::size_t bytes, int tag)
    requires LendingTransport<Inner>
  {
    return inner_->iborrow(member(from), bytes, own(tag));
  }
  [[nodiscard]] std::span<const std::byte> borrowed(const request& r) const
    requires LendingTransport<Inner>
  {
    return inner_->borrowed(r);
  }
  void give_back(request& r)
    requires LendingTransport<Inner>
  {
    inner_->give_back(r);
  }
  /// Throws: what the transport throws; `size_mismatch` and `timed_out` with the group's ranks and
  ///         tags.
  bool test(request& r) {
    return renumbered([&] { return inner_->test(r); });
  }
  void wait(request& r) {
    renumbered([&] { inner_->wait(r); });
  }

  /// See `SilentlyRecording`: the transport's records, of the group's operations and members.
  std::size_t enter(operation o)
    requires SilentlyRecording<Inner>
  {
    o.tag = own(o.tag);
    return inner_->enter(o);
  }
  void exit(operation o, std::size_t number)
    requires SilentlyRecording<Inner>
  {
    o.tag = own(o.tag);
    inner_->exit(o, number);
  }
  void compare(operation o, std::size_t number, int peer) const
    requires SilentlyRecording<Inner>
  {
    o.tag = own(o.tag);
    try {
      inner_->compare(o, number, member(peer));
    } catch (const collective_mismatch& e) {
      operation joined = e.joined, other = e.other;
      joined.tag -= own(0);
      other.tag -= own(0);
      throw collective_mismatch(rank_, joined, peer, other);
    }
  }
  [[nodiscard]] std::vector<rank_report> absent(operation o, std::size_t number) const
    requires SilentlyRecording<Inner>
  {
    o.tag = own(o.tag);
    std::vector<rank_report> all = inner_->absent(o, number);
    std::erase_if(all, [&](const rank_report& r) { return rank_of(r.rank) == size(); });
    for (rank_report& r : all) {
      r.rank = rank_of(r.rank);
    }
    std::ranges::sort(all, {}, &rank_report::rank);
    return all;
  }

  /// See `TimedTransport`: the transport learns by the tag which group's it is.
  [[nodiscard]] std::int64_t began() const
    requires TimedTransport<Inner>
  {
    return inner_->began();
  }
  void ended(operation o, std::int64_t at)
    requires TimedTransport<Inner>
  {
    o.tag = own(o.tag);
    inner_->ended(o, at);
  }
  /// See `SteppedTransport`.
  void sends_of(int step)
    requires SteppedTransport<Inner>
  {
    inner_->sends_of(step);
  }
  /// See `PlanningTransport`: the transport gets the schedule with its own ranks.
  std::size_t plans(operation o, const schedule& plan, std::size_t element_bytes)
    requires PlanningTransport<Inner>
  {
    o.tag = own(o.tag);
    return inner_->plans(
        o,
        {plan.rounds(), plan.scratch(),
         [plan, all = members_](int i, round_steps& out) {
           plan.round(i, out);
           for (step& s : out) {
             s.peer = s.sends() || s.receives() ? all[static_cast<std::size_t>(s.peer)] : s.peer;
           }
         }},
        element_bytes);
  }
  void awaits(std::size_t number)
    requires PlanningTransport<Inner>
  {
    inner_->awaits(number);
  }

 private:
  [[nodiscard]] int member(int rank) const {
    if (rank < 0 || rank >= size()) {
      detail::check_rank("ashlar::comm::group", rank, size());
    }
    return members_[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] int rank_of(int member) const {
    return static_cast<int>(std::ranges::find(members_, member) - members_.begin());
  }
  template <class F>
  auto renumbered(const F& f) const {
    try {
      return f();
    } catch (const size_mismatch& e) {
      throw size_mismatch(rank_of(e.from), rank_of(e.to), e.tag - own(0), e.sent, e.expected);
    } catch (const timed_out& e) {
      throw timed_out(rank_, rank_of(e.peer), e.tag - own(0), e.sending, e.seconds);
    }
  }
  [[nodiscard]] int own(int tag) const { return tag + context_ * tags::of_each_group; }

  Inner* inner_;
  int rank_;
  int context_ = 0;
  std::vector<int> members_;
  std::shared_ptr<std::int32_t> groups_;  // the most that this rank knows of
};

}  // namespace ashlar::comm

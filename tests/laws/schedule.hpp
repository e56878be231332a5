// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/comm/transport.hpp"

/// Laws of schedules, and all ranks' schedules run on one thread with their data.
namespace ashlar::laws {

/// What became of a collective, and who sent what.
struct run_of_all {
  comm::outcome outcome;
  std::vector<std::vector<comm::message_record>> messages;  // by rank, in the order of its steps
  std::string broken;                                       // the law that a round broke
};

namespace detail {

/// Messages are kept until the receiver's round ends, then its steps are done in their order.
template <class T>
class mailboxes {
 public:
  mailboxes(std::vector<std::vector<T>>& inputs, std::vector<std::vector<T>>& data,
            const std::vector<comm::schedule>& plans, comm::reducer reduce)
      : data_(data),
        scratch_(data.size()),
        arrived_(data.size()),
        sent_(data.size()),
        step_(data.size()) {
    for (std::size_t r = 0; r < data.size(); ++r) {
      scratch_[r].resize(plans[r].scratch());
      comm::memory_of m;
      m.input = inputs.empty() ? nullptr : std::as_bytes(std::span(inputs[r])).data();
      m.data = std::as_writable_bytes(std::span(data[r])).data();
      m.element_bytes = sizeof(T);
      m.reduce = reduce;
      at_.emplace_back(m, std::as_writable_bytes(std::span(scratch_[r])).data());
      sizes_.push_back({inputs.empty() ? 0 : inputs[r].size(), data[r].size(), plans[r].scratch()});
    }
  }

  void arrived(int from, const comm::step& sent, int to, std::size_t number, const comm::step&,
               double, double) {
    const auto source = static_cast<std::size_t>(from);
    auto& slots = arrived_[static_cast<std::size_t>(to)];
    slots.resize(std::max(slots.size(), number + 1));
    const std::byte* const first = at_[source].read(sent.from);
    slots[number].assign(first, first + at_[source].bytes(sent));
  }

  void ended(int rank, const comm::round_steps& steps, double, double) {
    const auto r = static_cast<std::size_t>(rank);
    judge(r, steps);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const comm::step& s = steps[i];
      if (s.sends()) {
        sent_[r].push_back({rank, s.peer, at_[r].bytes(s), 0, step_[r]});
      } else if (s.does == comm::verb::receive && s.count != 0) {
        std::memcpy(at_[r].write(s.to), arrived_[r][i].data(), at_[r].bytes(s));
      } else if (s.does == comm::verb::receive_reduce && s.count != 0) {
        at_[r].reduce(s, arrived_[r][i].data());
      }
    }
    for (const comm::step& s : steps) {
      at_[r].local(s);
    }
    arrived_[r].clear();
    ++step_[r];
  }

  std::string broken;
  std::vector<std::vector<comm::message_record>>& sent() { return sent_; }

 private:
  void judge(std::size_t r, const comm::round_steps& steps) {
    const auto size_in = [&](comm::place p) {
      return p == comm::place::input  ? sizes_[r].input
             : p == comm::place::data ? sizes_[r].data
                                      : sizes_[r].scratch;
    };
    for (const comm::step& a : steps) {
      if ((!a.receives() && a.from.first + a.count > size_in(a.from.in)) ||
          (!a.sends() && a.to.first + a.count > size_in(a.to.in))) {
        broken = "steps stay inside the memory that there is";
      }
      if (!a.sends() && a.to.in == comm::place::input) {
        broken = "nothing is written to the input";
      }
      for (const comm::step& b : steps) {
        if (a.sends() && b.receives() && a.from.in == b.to.in &&
            a.from.first < b.to.first + b.count && b.to.first < a.from.first + a.count) {
          broken = "what a round sends and what it receives do not overlap";
        }
      }
    }
  }

  struct extent {
    std::size_t input, data, scratch;
  };
  std::vector<std::vector<T>>& data_;
  std::vector<std::vector<T>> scratch_;
  std::vector<std::vector<std::vector<std::byte>>> arrived_;
  std::vector<std::vector<comm::message_record>> sent_;
  std::vector<int> step_;
  std::vector<comm::detail::resolver> at_;
  std::vector<extent> sizes_;
};

}  // namespace detail

/// Runs every rank's schedule over `data[rank]`, with messages that wait for their receivers.
template <class T>
run_of_all run_all(const std::vector<comm::schedule>& plans, std::vector<std::vector<T>>& data,
                   comm::reducer reduce, std::vector<std::vector<T>> inputs = {}) {
  const comm::network net{comm::presets::fully_connected(static_cast<int>(plans.size()), 1e-6, 1e9),
                          0, 0, false};
  detail::mailboxes<T> boxes(inputs, data, plans, reduce);
  run_of_all result;
  result.outcome = comm::simulate(
      net, [&](int r) { return plans[static_cast<std::size_t>(r)]; }, sizeof(T), boxes);
  result.messages = boxes.sent();
  result.broken = boxes.broken;
  return result;
}

}  // namespace ashlar::laws

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Sends and receives that one rank posts together: none waits for another, so their order among
/// ranks does not matter. Of several between two ranks, the first sent is the first received.
///
/// Any memory, any element types, any number of messages to any peers, the rank itself included.
class message_group {
 public:
  template <Scalar T>
  message_group& send(int to, std::span<const T> out) {
    // Nothing writes to a piece that is sent.
    auto* const bytes = const_cast<std::byte*>(std::as_bytes(out).data());
    add({verb::send, true, to, {place::piece, pieces_.size()}, {}, out.size_bytes()}, bytes);
    return *this;
  }
  template <Scalar T>
  message_group& receive(int from, std::span<T> in) {
    add({verb::receive, true, from, {}, {place::piece, pieces_.size()}, in.size_bytes()},
        std::as_writable_bytes(in).data());
    return *this;
  }

  /// Returns: one round, whose elements are bytes: for `check` and `simulate`.
  [[nodiscard]] schedule plan() const {
    return {1, 0, [steps = steps_](int, round_steps& out) { out = steps; }};
  }
  [[nodiscard]] std::byte* const* pieces() const { return pieces_.data(); }

  /// Throws: `argument_error` where a place that is received into overlaps another place.
  void require_apart() const {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      if (steps_[i].count != 0) {
        order.push_back(i);
      }
    }
    std::ranges::sort(order, std::less<>(), [&](std::size_t i) { return pieces_[i]; });
    const std::byte* read_until = nullptr;
    const std::byte* written_until = nullptr;
    for (const std::size_t i : order) {
      const bool writes = steps_[i].receives();
      const std::byte* const from = pieces_[i];
      if (std::less<>()(from, written_until) || (writes && std::less<>()(from, read_until))) {
        throw argument_error("ashlar::comm::message_group",
                             "what a rank receives overlaps what it sends, or receives else");
      }
      auto& until = writes ? written_until : read_until;
      until = std::max(until, from + steps_[i].count, std::less<>());
    }
  }

 private:
  void add(step s, std::byte* bytes) {
    steps_.push_back(s);
    pieces_.push_back(bytes);
  }
  round_steps steps_;
  std::vector<std::byte*> pieces_;
};

/// Begins what a group says, on a channel of its own; see `send_receive`.
///
/// Requires: the group, and its memory, live until the work has ended.
template <Transport Tr>
[[nodiscard]] work<Tr> start_send_receive(Tr& t, const message_group& messages, int channel = 0) {
  messages.require_apart();
  memory_of m;
  m.pieces = messages.pieces();
  // What ranks send differs, so nothing of it is compared.
  return {t, messages.plan(), m,
          detail::joined<std::uint8_t>(collective::send_receive, 0, channel)};
}

/// Sends and receives everything in the group. Every rank joins, one without messages with an empty
/// group; where only some ranks have any, they are a `group`.
///
/// Throws: `argument_error` where memory overlaps that is received into, or a peer does not exist;
///         what the transport throws, `size_mismatch` where a message and its place differ.
/// Cost:   the messages, all under way at once.
template <Transport Tr>
void send_receive(Tr& t, const message_group& messages, int channel = 0) {
  start_send_receive(t, messages, channel).wait();
}

}  // namespace ashlar::comm

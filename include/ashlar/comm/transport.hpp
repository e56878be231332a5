// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <exception>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Thrown where a message is not as long as the place that the receiver has for it; on both sides.
struct size_mismatch final : error {
  int from;
  int to;
  int tag;
  std::size_t sent;      ///< [bytes]
  std::size_t expected;  ///< [bytes]

  size_mismatch(int source, int destination, int message_tag, std::size_t bytes_sent,
                std::size_t bytes_expected,
                std::source_location where = std::source_location::current())
      : error(where),
        from(source),
        to(destination),
        tag(message_tag),
        sent(bytes_sent),
        expected(bytes_expected) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::comm: rank " + std::to_string(from) + " sends " + std::to_string(sent) +
           " bytes with tag " + std::to_string(tag) + ", rank " + std::to_string(to) + " expects " +
           std::to_string(expected);
  }
};

/// Thrown where a rank waits for another one that will not answer any more.
struct peer_failed final : error {
  int rank;  ///< who waits
  int peer;  ///< who failed, or left

  peer_failed(int waiting, int failed, std::source_location where = std::source_location::current())
      : error(where), rank(waiting), peer(failed) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::comm: rank " + std::to_string(rank) + " waits in vain: rank " +
           std::to_string(peer) + " failed or has finished";
  }
};

/// One rank's end of a group: what every collective algorithm is written over.
///
/// Messages between two ranks with one tag arrive in the order in which they were sent. `send` may
/// wait until the message is received. Where ranks send to each other in a circle, they use
/// `sendrecv`, which sends and receives at once. A receiver knows the size of what it gets.
/// Laws: tests/laws/transport.hpp.
template <class T>
concept Transport =
    requires(T& t, int peer, std::span<const std::byte> out, std::span<std::byte> in, int tag) {
      { t.rank() } -> std::convertible_to<int>;
      { t.size() } -> std::convertible_to<int>;
      t.send(peer, out, tag);
      t.recv(peer, in, tag);
      t.sendrecv(peer, out, peer, in, tag);
    };

/// A message as its sender saw it.
struct message_record {
  int from;
  int to;
  std::size_t bytes;
  int tag;
  friend bool operator==(const message_record&, const message_record&) = default;
};

/// A transport that also notes down what its rank sends; a transport without it pays nothing.
template <Transport Inner>
class logged {
 public:
  /// Requires: `inner` outlives this object.
  explicit logged(Inner& inner) : inner_(&inner) {}

  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }

  void send(int to, std::span<const std::byte> out, int tag) {
    note(to, out, tag);
    inner_->send(to, out, tag);
  }
  void recv(int from, std::span<std::byte> in, int tag) { inner_->recv(from, in, tag); }
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in,
                int tag) {
    note(to, out, tag);
    inner_->sendrecv(to, out, from, in, tag);
  }

  /// Returns: this rank's messages, in the order in which it began to send them.
  [[nodiscard]] const std::vector<message_record>& messages() const { return messages_; }
  void clear() { messages_.clear(); }

 private:
  void note(int to, std::span<const std::byte> out, int tag) {
    messages_.push_back({inner_->rank(), to, out.size(), tag});
  }

  Inner* inner_;
  std::vector<message_record> messages_;
};

}  // namespace ashlar::comm

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

/// Thrown where a message did not come, or was not taken, within the time that its rank waits.
struct timed_out final : error {
  int rank;  ///< who waited
  int peer;  ///< for whom
  int tag;
  bool sending;
  double seconds;

  timed_out(int waiting, int other, int message_tag, bool was_sending, double waited,
            std::source_location where = std::source_location::current())
      : error(where),
        rank(waiting),
        peer(other),
        tag(message_tag),
        sending(was_sending),
        seconds(waited) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::comm: rank " + std::to_string(rank) + " waited " + std::to_string(seconds) +
           " s for rank " + std::to_string(peer) + (sending ? " to take" : " to send") +
           " a message with tag " + std::to_string(tag);
  }
};

namespace detail {
/// Throws: `argument_error` where a group of `ranks` has no such rank.
inline void check_rank(const char* entity, int rank, int ranks) {
  if (rank < 0 || rank >= ranks) {
    throw argument_error(entity, "there is no rank " + std::to_string(rank) + " in a group of " +
                                     std::to_string(ranks));
  }
}
}  // namespace detail

/// One rank's end of a group: what every schedule runs over.
///
/// Messages between two ranks with one tag are received in the order in which they were sent, by
/// receives in the order in which they were begun. A send may end only when the message has been
/// received. A receiver knows the size of what it gets. Memory is the transport's from `isend` or
/// `irecv` until `test` said true or `wait` returned. A request that is destroyed before is
/// withdrawn.
/// Laws: tests/laws/transport.hpp.
template <class T>
concept Transport = std::movable<typename T::request> &&
                    requires(T& t, typename T::request& request, int peer,
                             std::span<const std::byte> out, std::span<std::byte> in, int tag) {
                      { t.rank() } -> std::convertible_to<int>;
                      { t.size() } -> std::convertible_to<int>;
                      { t.isend(peer, out, tag) } -> std::same_as<typename T::request>;
                      { t.irecv(peer, in, tag) } -> std::same_as<typename T::request>;
                      { t.test(request) } -> std::convertible_to<bool>;
                      t.wait(request);
                    };

/// A transport that can show a receiver the sender's memory, so that reductions need no copy.
///
/// `iborrow` begins to receive without a place; once `test` says true or `wait` returns,
/// `borrowed` is the message, until `give_back` ends it.
template <class T>
concept LendingTransport =
    Transport<T> && requires(T& t, typename T::request& request, std::size_t bytes) {
      { t.iborrow(0, bytes, 0) } -> std::same_as<typename T::request>;
      { t.borrowed(request) } -> std::same_as<std::span<const std::byte>>;
      t.give_back(request);
    };

/// The calls that wait, from those that do not: a transport derives from `blocking<itself>`.
template <class Self>
struct blocking {
  void send(int to, std::span<const std::byte> out, int tag) {
    auto sent = self().isend(to, out, tag);
    self().wait(sent);
  }
  void recv(int from, std::span<std::byte> in, int tag) {
    auto received = self().irecv(from, in, tag);
    self().wait(received);
  }
  /// Sends and receives at once. Requires: `in` and `out` do not overlap.
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in,
                int tag) {
    auto sent = self().isend(to, out, tag);
    auto received = self().irecv(from, in, tag);
    self().wait(received);
    self().wait(sent);
  }

 private:
  Self& self() { return static_cast<Self&>(*this); }
};

/// A message as its sender saw it.
struct message_record {
  int from;
  int to;
  std::size_t bytes;
  int tag;
  int step = 0;  ///< the round of its collective's schedule; of other messages, 0
  friend bool operator==(const message_record&, const message_record&) = default;
};

/// A transport that also notes down what its rank sends; a transport without it pays nothing.
template <Transport Inner>
class logged : public blocking<logged<Inner>> {
 public:
  using request = typename Inner::request;

  /// Requires: `inner` outlives this object.
  explicit logged(Inner& inner) : inner_(&inner) {}

  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }

  request isend(int to, std::span<const std::byte> out, int tag) {
    messages_.push_back({inner_->rank(), to, out.size(), tag, step_});
    return inner_->isend(to, out, tag);
  }
  request irecv(int from, std::span<std::byte> in, int tag) { return inner_->irecv(from, in, tag); }
  bool test(request& r) { return inner_->test(r); }
  void wait(request& r) { inner_->wait(r); }

  /// See `SteppedTransport`.
  void sends_of(int step) { step_ = step; }

  /// Returns: this rank's messages, in the order in which it began to send them.
  [[nodiscard]] const std::vector<message_record>& messages() const { return messages_; }
  void clear() { messages_.clear(); }

 private:
  Inner* inner_;
  int step_ = 0;
  std::vector<message_record> messages_;
};

}  // namespace ashlar::comm

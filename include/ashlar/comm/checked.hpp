// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/dtype.hpp"

namespace ashlar::comm {

/// A transport whose ranks tell each other which collective they join before it begins: for finding
/// mistakes on transports that keep no common record, such as `mpi`. Models `RecordingTransport`.
///
/// Throws: at the beginning of a collective, on every rank: `collective_mismatch` with the first
///         rank that is in another one; with a transport that has a time-out,
///         `collective_timed_out` with the ranks that have joined none.
/// Cost:   p - 1 messages of 56 bytes per rank and collective.
template <Transport Inner>
class checked : public blocking<checked<Inner>> {
 public:
  using request = typename Inner::request;
  static constexpr bool enter_asks_all = true;

  /// Requires: `inner` outlives this object.
  explicit checked(Inner& inner) : inner_(&inner) {}

  [[nodiscard]] int rank() const { return inner_->rank(); }
  [[nodiscard]] int size() const { return inner_->size(); }
  request isend(int to, std::span<const std::byte> out, int tag) {
    return inner_->isend(to, out, tag);
  }
  request irecv(int from, std::span<std::byte> in, int tag) { return inner_->irecv(from, in, tag); }
  bool test(request& r) { return inner_->test(r); }
  void wait(request& r) { inner_->wait(r); }

  std::size_t enter(const operation& o) {
    const int p = size();
    const words mine = pack(o, ++joined_);
    std::vector<words> theirs(static_cast<std::size_t>(p), mine);
    std::vector<request> under_way;  // for every other rank: what is sent, what is received
    for (int distance = 1; distance < p; ++distance) {
      const int other = (rank() + distance) % p;
      const std::span<words> theirs_of(&theirs[static_cast<std::size_t>(other)], 1);
      under_way.push_back(inner_->isend(other, std::as_bytes(std::span(&mine, 1)), own_tag));
      under_way.push_back(inner_->irecv(other, std::as_writable_bytes(theirs_of), own_tag));
    }
    std::vector<rank_report> absent;
    std::vector<bool> here(static_cast<std::size_t>(p), true);
    std::exception_ptr failed;
    for (std::size_t i = 1; i < under_way.size(); i += 2) {
      const int other = partner(i);
      bool late = false;
      try {
        if (absent.empty()) {
          inner_->wait(under_way[i]);
        } else {  // it has had as much time
          late = !inner_->test(under_way[i]);
        }
      } catch (const timed_out&) {
        late = true;
      } catch (const peer_failed&) {  // perhaps it has found a mistake that others' words show
        failed = failed ? failed : std::current_exception();
        here[static_cast<std::size_t>(other)] = false;
      }
      if (late) {
        absent.push_back({other, ""});
        here[static_cast<std::size_t>(other)] = false;
      }
    }
    for (int other = 0; other < p; ++other) {
      const words& w = theirs[static_cast<std::size_t>(other)];
      if (here[static_cast<std::size_t>(other)] && w != mine) {
        wait_for_all(here);
        throw collective_mismatch(rank(), o, other, unpack(w));
      }
    }
    if (!absent.empty()) {
      deliver(under_way, here);
      std::ranges::sort(absent, {}, &rank_report::rank);
      throw collective_timed_out(o, rank(), std::move(absent));
    }
    if (failed) {
      std::rethrow_exception(failed);
    }
    for (std::size_t i = 0; i < under_way.size(); i += 2) {
      inner_->wait(under_way[i]);
    }
    return joined_;
  }
  void exit(const operation& /*o*/, std::size_t /*number*/) {}
  void compare(const operation& /*o*/, std::size_t /*number*/, int /*peer*/) {}  // `enter` did
  [[nodiscard]] std::vector<rank_report> absent(const operation& /*o*/,
                                                std::size_t /*number*/) const {
    return {};  // all had joined
  }

 private:
  static constexpr int own_tag = 32766;  // no collective's
  static constexpr int found_tag = 32767;
  static constexpr std::array<const char*, 7> operations{
      "", "sum", "prod", "min", "max", "avg", "user's operation"};
  using words = std::array<std::int64_t, 7>;

  /// Of request `i`: a send, then a receive, for each distance.
  [[nodiscard]] int partner(std::size_t i) const {
    return (rank() + static_cast<int>(i / 2) + 1) % size();
  }

  /// Before this rank gives up for a mismatch, which every rank finds, all have found it.
  void wait_for_all(const std::vector<bool>& here) {
    std::vector<request> sends;
    std::vector<request> receives;
    for (int distance = 1; distance < size(); ++distance) {
      const int other = (rank() + distance) % size();
      if (here[static_cast<std::size_t>(other)]) {
        sends.push_back(inner_->isend(other, {}, found_tag));
        receives.push_back(inner_->irecv(other, {}, found_tag));
      }
    }
    finish(receives);  // first: a send may wait for its receiver
    finish(sends);
  }

  /// Before this rank gives up for others that are absent, those who are here get its words.
  void deliver(std::vector<request>& under_way, const std::vector<bool>& here) {
    std::vector<request> sends;
    for (std::size_t i = 0; i < under_way.size(); i += 2) {
      if (here[static_cast<std::size_t>(partner(i))]) {
        sends.push_back(std::move(under_way[i]));
      }
    }
    finish(sends);
  }

  /// Waits for what comes to an end, for one time-out at most.
  void finish(std::vector<request>& under_way) {
    bool late = false;
    for (request& r : under_way) {
      try {
        if (!late) {
          inner_->wait(r);
        }
      } catch (const timed_out&) {
        late = true;
      } catch (const peer_failed&) {  // it has found the same
      }
    }
  }

  static words pack(const operation& o, std::size_t number) {
    const auto at = std::ranges::find_if(
        operations, [&](const char* name) { return std::string_view(name) == o.op; });
    return {static_cast<std::int64_t>(o.what),
            static_cast<std::int64_t>(o.count),
            static_cast<std::int64_t>(o.type),
            at - operations.begin(),
            o.root,
            o.tag,
            static_cast<std::int64_t>(number)};
  }
  static operation unpack(const words& w) {
    return {static_cast<collective>(w[0]),
            static_cast<std::size_t>(w[1]),
            static_cast<dtype>(w[2]),
            operations[std::min(static_cast<std::size_t>(w[3]), operations.size() - 1)],
            static_cast<int>(w[4]),
            static_cast<int>(w[5])};
  }

  Inner* inner_;
  std::size_t joined_ = 0;
};

}  // namespace ashlar::comm

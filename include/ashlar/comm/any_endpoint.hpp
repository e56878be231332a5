// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"

namespace ashlar::comm {

/// Any transport behind calls that are found at run time, so that what runs over it is compiled
/// once. Models `Transport`.
///
/// Requires: the transport outlives it.
/// Cost:     an allocation per message and an indirect call per question.
class any_endpoint : public blocking<any_endpoint> {
 public:
  using request = std::unique_ptr<void, void (*)(void*)>;

  template <Transport Tr>
  explicit any_endpoint(Tr& t)
      : rank_(t.rank()),
        size_(t.size()),
        isend_([&t](int to, std::span<const std::byte> out, int tag) {
          return keep(t.isend(to, out, tag));
        }),
        irecv_([&t](int from, std::span<std::byte> in, int tag) {
          return keep(t.irecv(from, in, tag));
        }),
        test_([&t](void* r) { return t.test(*static_cast<typename Tr::request*>(r)); }),
        wait_([&t](void* r) { t.wait(*static_cast<typename Tr::request*>(r)); }) {
    if constexpr (PlanningTransport<Tr>) {
      plans_ = [&t](const operation& o, const schedule& plan, std::size_t element_bytes) {
        return t.plans(o, plan, element_bytes);
      };
      awaits_ = [&t](std::size_t number) { t.awaits(number); };
    }
    if constexpr (TimedTransport<Tr>) {
      began_ = [&t] { return t.began(); };
      ended_ = [&t](const operation& o, std::int64_t at) { t.ended(o, at); };
    }
    if constexpr (SteppedTransport<Tr>) {
      sends_of_ = [&t](int step) { t.sends_of(step); };
    }
    if constexpr (SilentlyRecording<Tr>) {
      enter_ = [&t](const operation& o) { return t.enter(o); };
      exit_ = [&t](const operation& o, std::size_t number) { t.exit(o, number); };
      compare_ = [&t](const operation& o, std::size_t number, int peer) {
        t.compare(o, number, peer);
      };
      absent_ = [&t](const operation& o, std::size_t number) { return t.absent(o, number); };
    }
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  request isend(int to, std::span<const std::byte> out, int tag) { return isend_(to, out, tag); }
  request irecv(int from, std::span<std::byte> in, int tag) { return irecv_(from, in, tag); }
  bool test(request& r) { return test_(r.get()); }
  void wait(request& r) { wait_(r.get()); }
  /// See `PlanningTransport`: for a transport that wants to know.
  std::size_t plans(const operation& o, const schedule& plan, std::size_t element_bytes) {
    return plans_ ? plans_(o, plan, element_bytes) : 0;
  }
  void awaits(std::size_t number) {
    if (awaits_) {
      awaits_(number);
    }
  }
  /// See `TimedTransport`, `SteppedTransport`: likewise.
  [[nodiscard]] std::int64_t began() const { return began_ ? began_() : 0; }
  void ended(const operation& o, std::int64_t at) {
    if (ended_) {
      ended_(o, at);
    }
  }
  void sends_of(int step) {
    if (sends_of_) {
      sends_of_(step);
    }
  }
  /// See `SilentlyRecording`: for a transport that keeps records.
  std::size_t enter(const operation& o) { return enter_ ? enter_(o) : 0; }
  void exit(const operation& o, std::size_t number) {
    if (exit_) {
      exit_(o, number);
    }
  }
  void compare(const operation& o, std::size_t number, int peer) const {
    if (compare_) {
      compare_(o, number, peer);
    }
  }
  /// Requires: a time-out is being handled, which is thrown again where there are no records.
  [[nodiscard]] std::vector<rank_report> absent(const operation& o, std::size_t number) const {
    if (!absent_) {
      throw;
    }
    return absent_(o, number);
  }

 private:
  template <class R>
  static request keep(R r) {
    return {new R(std::move(r)), [](void* p) { delete static_cast<R*>(p); }};
  }

  int rank_, size_;
  std::function<request(int, std::span<const std::byte>, int)> isend_;
  std::function<request(int, std::span<std::byte>, int)> irecv_;
  std::function<bool(void*)> test_;
  std::function<void(void*)> wait_;
  std::function<std::size_t(const operation&, const schedule&, std::size_t)> plans_;
  std::function<void(std::size_t)> awaits_;
  std::function<std::int64_t()> began_;
  std::function<void(const operation&, std::int64_t)> ended_;
  std::function<void(int)> sends_of_;
  std::function<std::size_t(const operation&)> enter_;
  std::function<void(const operation&, std::size_t)> exit_;
  std::function<void(const operation&, std::size_t, int)> compare_;
  std::function<std::vector<rank_report>(const operation&, std::size_t)> absent_;
};

}  // namespace ashlar::comm

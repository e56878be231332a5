// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>

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
};

}  // namespace ashlar::comm

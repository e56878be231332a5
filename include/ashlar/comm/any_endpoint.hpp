// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>

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
        wait_([&t](void* r) { t.wait(*static_cast<typename Tr::request*>(r)); }) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  request isend(int to, std::span<const std::byte> out, int tag) { return isend_(to, out, tag); }
  request irecv(int from, std::span<std::byte> in, int tag) { return irecv_(from, in, tag); }
  bool test(request& r) { return test_(r.get()); }
  void wait(request& r) { wait_(r.get()); }

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
};

}  // namespace ashlar::comm

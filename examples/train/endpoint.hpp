// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/comm/transport.hpp>
#include <cstddef>
#include <memory>
#include <span>

namespace train {

/// An endpoint of any transport behind calls that are chosen at run time, so that the training is
/// compiled once. Models `comm::Transport`.
class any_endpoint : public ashlar::comm::blocking<any_endpoint> {
 public:
  struct message {
    virtual ~message() = default;
  };
  using request = std::unique_ptr<message>;

  /// Requires: `endpoint` outlives this object.
  template <ashlar::comm::Transport T>
  explicit any_endpoint(T& endpoint) : calls_(std::make_shared<calls_of<T>>(endpoint)) {}

  [[nodiscard]] int rank() const { return calls_->rank(); }
  [[nodiscard]] int size() const { return calls_->size(); }
  request isend(int to, std::span<const std::byte> out, int tag) {
    return calls_->isend(to, out, tag);
  }
  request irecv(int from, std::span<std::byte> in, int tag) { return calls_->irecv(from, in, tag); }
  bool test(request& r) { return calls_->test(*r); }
  void wait(request& r) { calls_->wait(*r); }

 private:
  struct calls {
    virtual ~calls() = default;
    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;
    virtual request isend(int to, std::span<const std::byte> out, int tag) = 0;
    virtual request irecv(int from, std::span<std::byte> in, int tag) = 0;
    virtual bool test(message& m) = 0;
    virtual void wait(message& m) = 0;
  };
  template <class T>
  struct calls_of final : calls {
    struct held final : message {
      typename T::request request;
      explicit held(typename T::request r) : request(std::move(r)) {}
    };
    T& to;

    explicit calls_of(T& endpoint) : to(endpoint) {}
    [[nodiscard]] int rank() const override { return to.rank(); }
    [[nodiscard]] int size() const override { return to.size(); }
    request isend(int peer, std::span<const std::byte> out, int tag) override {
      return std::make_unique<held>(to.isend(peer, out, tag));
    }
    request irecv(int peer, std::span<std::byte> in, int tag) override {
      return std::make_unique<held>(to.irecv(peer, in, tag));
    }
    bool test(message& m) override { return to.test(static_cast<held&>(m).request); }
    void wait(message& m) override { to.wait(static_cast<held&>(m).request); }
  };

  std::shared_ptr<calls> calls_;
};

}  // namespace train

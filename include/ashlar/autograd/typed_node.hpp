// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ashlar/autograd/engine.hpp"
#include "ashlar/dispatch/call.hpp"

namespace ashlar::autograd {

namespace detail {

/// `Op` over its first argument, which is the tape's own: the tape has no turn.
template <class Op, class X, class... A>
void overwrite(X& self, const A&... args) {
  using keys = typename X::keys;
  step<Op, form::in_place, keys, exclude<keys, ashlar::keys::autograd>>{}(self, args...);
}

/// Whether nobody else can see the elements of `x`.
inline bool sole_owner(const tensor_handle& x) {
  return x.body()->references.load(std::memory_order_acquire) == 1 && !x.body()->base;
}

/// Another body over the same elements.
template <class T, class K>
[[nodiscard]] tensor<T, K> alias_of(const tensor<T, K>& x) {
  return tensor<T, K>(body_of<K>::alias(x.spec(), *x.body(), sizeof(T)));
}

/// The number of a new node: it comes after those that it leads to, also across threads.
inline std::uint64_t next_sequence(std::span<const ref<node>> edges = {}) {
  for (const ref<node>& n : edges) {
    if (n && !n->is_leaf()) {
      here.clock = std::max(here.clock, n->sequence);
    }
  }
  return ++here.clock;
}

/// A new tensor outside the tape with `value` everywhere.
template <class X>
[[nodiscard]] X filled(const tensor_spec& s, double value) {
  X x = allocate_tensor<X>(s);
  overwrite<ops::fill>(x, value);
  return x;
}
/// The cotangent of an output of shape `s`: zeros where none came.
template <class X>
[[nodiscard]] X or_zeros(tensor_handle cotangent, const tensor_spec& s) {
  return cotangent ? X(std::move(cotangent))
                   : filled<X>(contiguous_spec(dtype_of<typename X::value_type>, s.shape()), 0.0);
}

/// The element in place `i`, counted row by row, read from the chip.
template <class X>
[[nodiscard]] typename X::value_type read_element(const X& x, std::int64_t i) {
  typename X::value_type value{};
  chip_of<typename X::keys>::memory::copy_out(
      &value, reinterpret_cast<const std::byte*>(x.data() + place_of(x.spec(), i, x.shape())),
      sizeof(value));
  return value;
}

}  // namespace detail

/// What every node whose output is a `Result` can do; one per tensor type, not per operator.
template <class Result>
class typed_node : public node {
 public:
  [[nodiscard]] tensor_handle sum(tensor_handle a, tensor_handle b) const override {
    Result x(std::move(a));
    const Result y(std::move(b));
    if (!grad_enabled() && x.contiguous() && detail::sole_owner(x)) {
      detail::overwrite<ops::add>(x, y);
      return x;
    }
    return call<ops::add>(x, y);
  }
  [[nodiscard]] tensor_handle reduce(tensor_handle cotangent) const override {
    return call<ops::sum_to>(Result(std::move(cotangent)), ashlar::shape(this->shape()));
  }
  [[nodiscard]] bool has_nan(const tensor_handle& cotangent) const override {
    if constexpr (FloatingTensor<Result> &&
                  !requires { chip_of<typename Result::keys>::memory::allocates_nothing; }) {
      const Result x(cotangent);
      context<chip_of<typename Result::keys>>::current().queue.wait();
      for (std::int64_t i = 0; i < x.size(); ++i) {
        const auto value = static_cast<double>(detail::read_element(x, i));
        if (value != value) {
          return true;
        }
      }
    }
    return false;
  }

 protected:
  using node::node;
  ~typed_node() = default;
  template <class Self>
  static void destroy_as(Self* self) noexcept {
    self->~Self();
    ashlar::detail::object_pool::give(self, sizeof(Self));
  }
};

/// Output `k` of an operation with several: collects its cotangent and takes it to the operation.
template <class Result>
class port_node final : public typed_node<Result> {
 public:
  port_node(const tensor_spec& output, const ref<node>& whole, std::size_t k, std::size_t outputs)
      : typed_node<Result>(whole->name, output), whole_(whole), k_(k), outputs_(outputs) {
    this->next = std::span(&whole_, 1);
    this->sequence = detail::next_sequence(this->next);
  }
  void apply(sender& to, tensor_handle& cotangent) override {
    to.send_part(k_, outputs_, std::move(cotangent));
  }
  [[nodiscard]] node& function() override { return *whole_; }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  ref<node> whole_;
  std::size_t k_, outputs_;
};

}  // namespace ashlar::autograd

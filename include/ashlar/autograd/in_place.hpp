// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/autograd/op_node.hpp"

/// Recorded writes: what follows for those who look at the same elements.
///
/// A write through a view changes the history of the base: after it the base is the old base with
/// the written part in its place, and every other view is a look at that.
namespace ashlar::autograd::detail {

/// A part of some elements: the geometry of the whole and of the part, in one memory.
struct place_in {
  tensor_spec whole, part;
};

/// A copy of `x` that nobody else has, of the same shape, in the layout of `to`.
template <class X>
[[nodiscard]] X laid_out(const X& x, tensor_spec to) {
  to.offset = 0;
  X y = allocate_tensor<X>(to);
  overwrite<ops::copy>(y, x);
  return y;
}
template <class X>
[[nodiscard]] X look_at(const X& whole, const tensor_spec& part) {
  return X(body_of<typename X::keys>::alias(part, *whole.body(), sizeof(typename X::value_type)));
}

template <class X>
[[nodiscard]] X part_of(const X& whole, const place_in& at);
template <class X>
[[nodiscard]] X with_part(const X* whole, const X* part, const place_in& at);

/// The record of a look at a part: its gradient is that of the whole, with zeros around.
template <class X>
class look_node final : public typed_node<X> {
 public:
  look_node(const ref<node>& whole, const place_in& at)
      : typed_node<X>("view", at.part), whole_(whole), at_(at) {
    this->next = std::span(&whole_, 1);
    this->sequence = next_sequence(this->next);
  }
  void apply(sender& to, tensor_handle& cotangent) override {
    const X g(std::move(cotangent));
    to.send(0, with_part<X>(nullptr, &g, at_));
  }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  ref<node> whole_;
  place_in at_;
};

/// The record of a write to a part: what stood there has no influence any more.
template <class X>
class write_node final : public typed_node<X> {
 public:
  write_node(const ref<node>& whole, const ref<node>& part, const place_in& at)
      : typed_node<X>("write", at.whole), edges_{whole, part}, at_(at) {
    this->next = std::span(edges_);
    this->sequence = next_sequence(this->next);
  }
  void apply(sender& to, tensor_handle& cotangent) override {
    const X g(std::move(cotangent));
    if (to.wanted(0)) {
      to.send(0, with_part<X>(&g, nullptr, at_));
    }
    if (to.wanted(1)) {
      to.send(1, part_of(g, at_));
    }
  }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  std::array<ref<node>, 2> edges_;  // of the whole before, of what was written
  place_in at_;
};

/// A row-major copy of a part.
template <class X>
X part_of(const X& whole, const place_in& at) {
  const X y = [&] {
    const no_grad off;
    return call<ops::clone>(look_at(laid_out(whole, at.whole), at.part));
  }();
  if (grad_enabled() && wants_gradient(whole)) {
    set_gradient(y, make_node<look_node<X>>(edge_of(whole), at));
  }
  return y;
}

/// `whole`, or zeros, with `part`, or zeros, in its place; elements that the part repeats add up.
template <class X>
X with_part(const X* whole, const X* part, const place_in& at) {
  X y;
  if (whole != nullptr) {
    y = laid_out(*whole, at.whole);
  } else {
    tensor_spec s = at.whole;
    s.offset = 0;
    y = filled<X>(s, 0.0);
  }
  tensor_spec once = at.part;  // with one place where several show the same element
  ashlar::shape distinct(at.part.shape());
  for (int i = 0; i < distinct.rank(); ++i) {
    const auto u = static_cast<std::size_t>(i);
    if (once.extent[u] > 1 && once.stride[u] == 0) {
      once.size /= once.extent[u];
      once.extent[u] = distinct[i] = 1;
    }
  }
  once.contiguous = is_dense(once);
  X to = look_at(y, once);
  if (part == nullptr) {
    overwrite<ops::fill>(to, 0.0);
  } else if (same_shape(once, at.part)) {
    overwrite<ops::copy>(to, *part);
  } else {
    const no_grad off;
    overwrite<ops::copy>(to, call<ops::sum_to>(*part, distinct));
  }
  if (grad_enabled() && ((whole != nullptr && wants_gradient(*whole)) ||
                         (part != nullptr && wants_gradient(*part)))) {
    set_gradient(y, make_node<write_node<X>>(whole != nullptr ? edge_of(*whole) : ref<node>{},
                                             part != nullptr ? edge_of(*part) : ref<node>{}, at));
  }
  return y;
}

template <class X>
class history_of final : public history {
 public:
  explicit history_of(ref<node> n) { gradient = std::move(n); }
  [[nodiscard]] ref<node> look(const tensor_spec& whole, const tensor_spec& part) const override {
    return whole == part ? gradient : make_node<look_node<X>>(gradient, place_in{whole, part});
  }
  void dispose() noexcept override { delete this; }
};

/// Where a recorded write goes, and whether it may.
template <class Self>
class written {
 public:
  /// Throws: `not_recordable` where what was recorded before would be wrong afterwards.
  written(std::string_view op, const Self& self) {
    const auto& s = self.template state<keys::autograd>();
    const auto refuse_leaf = [op](const ref<node>& n, std::string_view what) {
      if (n && n->is_leaf()) {
        throw not_recordable(
            op,
            std::string(what) + " that wants a gradient would be changed in place; use no_grad");
      }
    };
    refuse_leaf(s.gradient, "a leaf");
    tensor_body& root = self.body()->root();
    if (s.from == lineage::outside_viewed) {
      throw not_recordable(op,
                           "a detached tensor of which there are views would be changed in place "
                           "by a recorded call; change a clone of it");
    }
    if (s.from == lineage::no_grad_view) {
      throw not_recordable(op,
                           "a view that was taken under no_grad would be changed in place by a "
                           "recorded call; take the view again");
    }
    if (s.from == lineage::outside || &root == self.body()) {
      return;
    }
    const auto* const base =
        static_cast<key_state<keys::autograd>*>(root.type->state(root, &key_id<keys::autograd>));
    if (base->from == lineage::kept) {
      throw not_recordable(op, std::string("the result of ") +
                                   std::string(s.gradient ? s.gradient->name : "an operator") +
                                   ", which that operator saved for its gradient, would be changed "
                                   "in place by a recorded call; use the functional form");
    }
    whole_ = root.epoch == base->epoch ? base->gradient
             : root.history            ? static_cast<const history&>(*root.history).gradient
                                       : ref<node>{};
    refuse_leaf(whole_, "a view of a leaf");
    partial_ = root.spec != self.spec();
  }

  /// `n` recorded the write: `self` and all that look at the same elements come from it.
  void rebase(const Self& self, ref<node> n) const {
    auto& s = self.template state<keys::autograd>();
    if (s.gradient && s.gradient->hooked && s.gradient->hooked->retain) {
      node::hooks& to = n->make_hooks();  // hooks stay with the old value, `retain_grad` does not
      to.retain = std::exchange(s.gradient->hooked->retain, nullptr);
      to.retained = std::move(s.gradient->hooked->retained);
    }
    tensor_body& root = self.body()->root();
    if (s.from == lineage::outside && &root != self.body()) {
      return set_gradient(self, std::move(n));
    }
    ref<node> all = n;
    if (partial_) {
      all = make_node<write_node<Self>>(whole_, n, place_in{root.spec, self.spec()});
    }
    root.history = ref<counted>(ref<history_of<Self>>(new history_of<Self>(all)));
    ++root.epoch;
    if (!partial_) {
      set_gradient(self, std::move(n));
    }
  }

 private:
  ref<node> whole_;
  bool partial_ = false;
};

}  // namespace ashlar::autograd::detail

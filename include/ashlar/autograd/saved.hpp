// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd/errors.hpp"
#include "ashlar/autograd/thread.hpp"
#include "ashlar/core/tensor.hpp"

namespace ashlar {

namespace autograd {

namespace detail {
/// A tensor, and the version that its elements had when it was saved.
template <class X>
struct saved_tensor {
  X value;
  std::uint32_t version = 0;

  saved_tensor() = default;
  explicit saved_tensor(X x) : value(std::move(x)), version(value.body()->root().version) {}

  /// The tensor, where nobody has written to it since.
  /// Throws: `modified_in_place`.
  [[nodiscard]] const X& checked(std::string_view op, std::string_view which) const {
    const std::uint32_t now = value.body()->root().version;
    if (version != now) [[unlikely]] {
      throw modified_in_place(op, which, version, now);
    }
    return value;
  }
};
}  // namespace detail

/// What becomes of tensors that nodes save: `pack` makes something of one, `unpack` a tensor of the
/// same type, shape and elements of that.
struct saved_hooks : std::enable_shared_from_this<saved_hooks> {
  std::function<std::any(const tensor_handle&)> pack;
  std::function<tensor_handle(const std::any&)> unpack;

  saved_hooks(std::function<std::any(const tensor_handle&)> p,
              std::function<tensor_handle(const std::any&)> u)
      : pack(std::move(p)), unpack(std::move(u)) {}
};

/// The tensors of one node, packed; empty where one was not saved.
struct packed_tensors {
  std::shared_ptr<const saved_hooks> hooks;
  std::vector<std::any> values;

  void pack(std::size_t place, const tensor_handle& x) {
    const detail::with_state<&thread_state::packing> none(nullptr);
    if (values.size() <= place) {
      values.resize(place + 1);
    }
    values[place] = hooks->pack(x);
  }
  /// Returns: an empty handle where none was saved.
  [[nodiscard]] tensor_handle unpack(std::size_t place) const {
    const detail::with_state<&thread_state::packing> none(nullptr);
    return place < values.size() && values[place].has_value() ? hooks->unpack(values[place])
                                                              : tensor_handle{};
  }
};
}  // namespace autograd

/// Tensors that calls on this thread save for their gradients are packed, for as long as it lives.
///
/// `pack(const tensor_handle&)` gives what is kept in the place of the tensor: something copyable.
/// `unpack(const std::any&)` gives back a tensor of the same type, shape and elements; it is called
/// once each time that the node runs. What is packed is outside the tape. Scopes nest, the
/// innermost counts; inside the two functions none does.
class saved_tensor_hooks {
 public:
  template <class Pack, class Unpack>
  saved_tensor_hooks(Pack pack, Unpack unpack)
      : hooks_(std::make_shared<autograd::saved_hooks>(std::move(pack), std::move(unpack))),
        scope_(hooks_.get()) {}

 private:
  std::shared_ptr<autograd::saved_hooks> hooks_;
  autograd::detail::with_state<&autograd::thread_state::packing> scope_;
};

}  // namespace ashlar

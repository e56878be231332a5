// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd/hook_list.hpp"
#include "ashlar/core/tensor.hpp"

namespace ashlar::autograd {
class node;
class backward_pass;
}  // namespace ashlar::autograd

namespace ashlar::keys {
/// Calls whose arguments want a gradient are recorded, on whatever chip.
struct autograd {
  static constexpr int priority = 100;
  static constexpr bool records = true;
  struct state {
    ref<ashlar::autograd::node> gradient;  ///< where the gradient goes; null: none is wanted
    std::uint32_t epoch = 0;               ///< which of the base's histories `gradient` belongs to

    /// A tensor that comes to the tape from outside takes nothing from the elements' history.
    void added_to(const tensor_body& root) noexcept { epoch = root.epoch; }
  };
};
}  // namespace ashlar::keys

namespace ashlar {

namespace autograd::detail {
inline constinit thread_local bool enabled = true;
}  // namespace autograd::detail

/// Whether calls are recorded on this thread. The type says what may be recorded, this says when.
[[nodiscard]] inline bool grad_enabled() noexcept { return autograd::detail::enabled; }

/// Switches recording on or off on this thread for as long as it lives.
class grad_mode {
 public:
  explicit grad_mode(bool on) noexcept : before_(std::exchange(autograd::detail::enabled, on)) {}
  ~grad_mode() { autograd::detail::enabled = before_; }
  grad_mode(const grad_mode&) = delete;
  grad_mode& operator=(const grad_mode&) = delete;

 private:
  bool before_;
};
struct no_grad : grad_mode {
  no_grad() noexcept : grad_mode(false) {}
};

/// Something that the tape cannot record, or was not told to.
struct not_recordable final : error {
  std::string op;
  std::string reason;

  not_recordable(std::string_view operation, std::string_view why,
                 std::source_location at = std::source_location::current())
      : error(at), op(operation), reason(why) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::autograd: " + op + ": " + reason;
  }
};

/// A saved tensor that was changed in place before the backward pass needed it.
struct modified_in_place final : error {
  std::string op;
  std::string saved;              ///< name of the argument in the operator's schema, or `result`
  std::uint32_t expected, found;  ///< versions

  modified_in_place(std::string_view operation, std::string_view argument, std::uint32_t saved_at,
                    std::uint32_t now, std::source_location at = std::source_location::current())
      : error(at), op(operation), saved(argument), expected(saved_at), found(now) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::backward: " + op + " saved '" + saved + "' at version " +
           std::to_string(expected) + ", which is at version " + std::to_string(found) +
           " now; use the functional form of what changed it";
  }
};

namespace autograd {

/// One operation to undo. Between nodes tensors travel as handles; a node knows its own types.
class node : public counted {
 public:
  using hook = std::function<void(tensor_handle&)>;
  struct hooks {
    hook_list<hook> tensor;  ///< may replace the cotangent before the node runs
    hook_list<hook> post;    ///< after it; a leaf's see the accumulated gradient
  };

  std::string_view name;
  std::uint64_t sequence =
      0;                      ///< greater than that of every node it leads to; leaves: the greatest
  std::span<ref<node>> next;  ///< per tensor argument; null where no gradient is wanted
  std::array<std::int64_t, max_rank>
      extent{};  ///< of the output; other cotangents are summed to it
  std::uint8_t rank = 0;
  std::unique_ptr<hooks> hooked;

  [[nodiscard]] std::span<const std::int64_t> shape() const { return {extent.data(), rank}; }
  [[nodiscard]] bool is_leaf() const { return sequence == ~std::uint64_t{0}; }

  /// Sends the gradients of the arguments along `next`.
  virtual void apply(backward_pass& pass, tensor_handle& cotangent) = 0;
  [[nodiscard]] virtual tensor_handle sum(tensor_handle a, tensor_handle b) const = 0;
  /// Undoes broadcasting.
  [[nodiscard]] virtual tensor_handle reduce(tensor_handle cotangent) const = 0;
  /// Drops what was saved.
  virtual void release() noexcept {}

  /// Frees a chain of nodes without recursion, however long it is.
  void dispose() noexcept final {
    static constinit thread_local node* pending = nullptr;
    static constinit thread_local bool busy = false;
    next_to_free_ = std::exchange(pending, this);
    if (!std::exchange(busy, true)) {
      while (node* n = pending) {
        pending = n->next_to_free_;
        n->destroy();
      }
      busy = false;
    }
  }

 protected:
  ~node() = default;
  virtual void destroy() noexcept = 0;

 private:
  friend class backward_pass;
  node* next_to_free_ = nullptr;
  std::uint32_t pass_ = 0;             ///< the pass that the members below belong to
  std::uint32_t waiting_ = 0;          ///< cotangents still to come
  bool needed_ = false;                ///< leads to something that the pass is after
  tensor_handle* captured_ = nullptr;  ///< who asked for this node's cotangent
  tensor_handle cotangent_;
};

template <class Node, class... A>
[[nodiscard]] ref<Node> make_node(const A&... args) {
  return ref<Node>(::new (ashlar::detail::object_pool::take(sizeof(Node))) Node(args...));
}

}  // namespace autograd
}  // namespace ashlar

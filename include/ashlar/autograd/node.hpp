// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd/errors.hpp"
#include "ashlar/autograd/hook_list.hpp"
#include "ashlar/autograd/thread.hpp"
#include "ashlar/core/tensor.hpp"

namespace ashlar::autograd {
class node;
class sender;

/// How a tensor stands to the history of its elements.
enum class lineage : std::uint8_t {
  own,             ///< it follows what recorded calls do to the elements, through whatever view
  outside,         ///< detached, or brought to the tape from elsewhere: only its own calls count
  outside_viewed,  ///< the same, and there are views of it
  no_grad_view,    ///< a view that was taken while nothing was recorded
  kept             ///< elements that the operator that made them has saved
};
}  // namespace ashlar::autograd

namespace ashlar::keys {
/// Calls whose arguments want a gradient are recorded, on whatever chip.
struct autograd {
  static constexpr int priority = 100;
  static constexpr bool records = true;
  struct state {
    ref<ashlar::autograd::node> gradient;  ///< where the gradient goes; null: none is wanted
    std::uint32_t epoch = 0;               ///< which of the base's histories `gradient` belongs to
    ashlar::autograd::lineage from = ashlar::autograd::lineage::own;

    /// A tensor that comes to the tape from outside takes nothing from the elements' history.
    void added_to(const tensor_body& root) noexcept {
      epoch = root.epoch;
      from = ashlar::autograd::lineage::outside;
    }
  };

  /// Throws: `not_recordable` where a write of `out=` from or to `x` would have to be recorded.
  /// Defined in `record.hpp`.
  template <class X>
  static void require_unrecorded(std::string_view op, const X& x);
};
}  // namespace ashlar::keys

namespace ashlar::autograd {

/// What recorded writes have made of some elements; the body that has them owns it.
class history : public counted {
 public:
  ref<node> gradient;  ///< of all of the elements, as they are now

  /// The gradient of a look at them.
  [[nodiscard]] virtual ref<node> look(const tensor_spec& whole, const tensor_spec& part) const = 0;
};

/// One operation to undo. Between nodes tensors travel as handles; a node knows its own types.
class node : public counted {
 public:
  using hook = std::function<void(tensor_handle&)>;
  using pre_hook = std::function<void(std::span<tensor_handle> cotangents)>;
  using post_hook = std::function<void(std::span<tensor_handle> gradients,
                                       std::span<const tensor_handle> cotangents)>;
  /// What few nodes have. The order of the hooks is that of the members.
  struct hooks {
    hook_list<hook> tensor;  ///< may replace the cotangent before the node runs
    hook retain;             ///< keeps the cotangent that the others leave
    hook_list<pre_hook> pre;
    hook_list<hook> accumulated;  ///< of leaves: see the gradient once it is added up
    hook_list<post_hook> post;
    std::shared_ptr<void> retained;  ///< what `retain` keeps
    std::source_location where{};    ///< of the forward call, in anomaly mode
  };

  std::uint32_t maker;  ///< the thread that made it
  std::uint64_t sequence =
      0;  ///< greater than that of every node it leads to; leaves: the greatest
  std::string_view name;
  std::span<ref<node>> next;  ///< per tensor argument; null where no gradient is wanted
  std::array<std::int64_t, max_rank> extent;  ///< of the output; other cotangents are summed to it
  std::uint8_t rank;
  std::unique_ptr<hooks> hooked;

  [[nodiscard]] std::span<const std::int64_t> shape() const { return {extent.data(), rank}; }
  [[nodiscard]] bool is_leaf() const { return sequence == ~std::uint64_t{0}; }
  [[nodiscard]] hooks& make_hooks() {
    if (!hooked) {
      hooked = std::make_unique<hooks>();
    }
    return *hooked;
  }

  /// Sends the gradients of the arguments along `next`.
  virtual void apply(sender& to, tensor_handle& cotangent) = 0;
  [[nodiscard]] virtual tensor_handle sum(tensor_handle a, tensor_handle b) const = 0;
  /// Undoes broadcasting.
  [[nodiscard]] virtual tensor_handle reduce(tensor_handle cotangent) const = 0;
  [[nodiscard]] virtual bool has_nan(const tensor_handle& cotangent) const = 0;
  /// Drops what was saved.
  virtual void release() noexcept {}
  /// The node of the operation whose result's cotangent this one collects.
  [[nodiscard]] virtual node& function() { return *this; }

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
  node(std::string_view what, const tensor_spec& output)
      : maker(detail::thread_number()), name(what), extent(output.extent), rank(output.rank) {}
  ~node() = default;
  virtual void destroy() noexcept = 0;

 private:
  friend class backward_pass;
  friend class sender;

  /// One cotangent, and whose it was: what one thread sends first, another may send last.
  struct arrival {
    std::uint64_t sequence;
    std::uint32_t maker;
    std::uint32_t edge;
    tensor_handle value;
    node* port = nullptr;  ///< of which output it is, `edge`, where there are several
  };
  struct rare {
    tensor_handle* into = nullptr;     ///< who asked for the cotangent
    std::vector<tensor_handle> parts;  ///< the cotangents of several outputs
    std::vector<arrival> arrivals;     ///< not yet added up
  };
  /// What a pass knows about a node. A pass on the thread that made the node keeps it in the node,
  /// which no other thread's pass does; all others keep it beside.
  struct slot {
    std::uint64_t pass = 0;  ///< whose this is
    std::unique_ptr<rare> more;
    tensor_handle cotangent;
    std::uint32_t waiting = 0;  ///< cotangents still to come
    bool needed = false;        ///< the pass has a use for its cotangent
    bool runs = false;          ///< and for what it makes of it

    [[nodiscard]] rare& extra() {
      if (!more) {
        more = std::make_unique<rare>();
      }
      return *more;
    }
  };

  node* next_to_free_ = nullptr;
  slot slot_;
};

template <class Node, class... A>
[[nodiscard]] ref<Node> make_node(const A&... args) {
  return ref<Node>(::new (ashlar::detail::object_pool::take(sizeof(Node))) Node(args...));
}

}  // namespace ashlar::autograd

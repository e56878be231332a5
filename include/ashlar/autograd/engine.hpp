// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/autograd/node.hpp"
#include "ashlar/dispatch/call.hpp"

namespace ashlar::autograd {

/// A node whose cotangent a pass is to hand out instead of accumulating into leaves.
struct capture {
  node* at;
  tensor_handle* into;
};

/// Counts how many cotangents each node will get, then runs nodes as they fill up, latest first.
///
/// Leaves have the greatest sequence number, so a leaf's gradient is complete, and its hooks run,
/// as early as possible: communication can start while the rest of the pass goes on.
/// Requires: no other pass runs over the same nodes at the same time.
/// Throws: `shape_error` naming the node whose hook gave a gradient of another shape; whatever a
/// node or hook throws. The graph stays usable, but for what nodes that ran have released.
class backward_pass {
 public:
  void run(node& root, tensor_handle seed, bool retain_graph, std::span<const capture> captures) {
    count(root, captures);
    if (!captures.empty() && !root.needed_) {
      return;
    }
    deliver(root, std::move(seed));
    while (!ready_.empty()) {
      std::pop_heap(ready_.begin(), ready_.end(), earlier);
      node& n = *ready_.back();
      ready_.pop_back();
      tensor_handle cotangent = std::exchange(n.cotangent_, {});
      if (n.hooked) [[unlikely]] {
        call_hooks(n.hooked->tensor, cotangent);
        if (!same_shape(cotangent.shape(), n.shape())) {
          throw shape_error(n.name, n.shape(), cotangent.shape(),
                            "a hook may replace the gradient by one of the same shape");
        }
      }
      if (n.captured_ != nullptr) [[unlikely]] {
        *n.captured_ = cotangent;
        if (n.is_leaf()) {
          continue;
        }
      }
      n.apply(*this, cotangent);
      if (n.hooked) [[unlikely]] {
        call_hooks(n.hooked->post, cotangent);
      }
      if (!retain_graph) {
        n.release();
      }
    }
  }

  /// Adds a cotangent to what `n` has got so far; the last one makes it ready.
  void deliver(node& n, tensor_handle cotangent) {
    if (!same_shape(cotangent.shape(), n.shape())) [[unlikely]] {
      cotangent = n.reduce(std::move(cotangent));
    }
    n.cotangent_ =
        n.cotangent_ ? n.sum(std::move(n.cotangent_), std::move(cotangent)) : std::move(cotangent);
    if (--n.waiting_ == 0) {
      ready_.push_back(&n);
      std::push_heap(ready_.begin(), ready_.end(), earlier);
    }
  }

  /// Whether the pass has a use for a cotangent of `n`.
  [[nodiscard]] static bool wanted(const ref<node>& n) { return n && n->needed_; }

 private:
  static bool earlier(const node* a, const node* b) { return a->sequence < b->sequence; }

  static void call_hooks(const hook_list<node::hook>& hooks, tensor_handle& x) {
    if (const auto held = hooks.list) {
      for (const auto& [id, h] : *held) {
        h(x);
      }
    }
  }

  void count(node& root, std::span<const capture> captures) {
    static constinit std::atomic<std::uint32_t> passes = 0;
    const std::uint32_t id = passes.fetch_add(1, std::memory_order_relaxed) + 1;
    const bool all = captures.empty();
    std::vector<node*> found{&root};
    enter(root, id, all);
    root.waiting_ = 1;
    // Breadth first; `found` doubles as the queue.
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (const ref<node>& m : found[i]->next) {
        if (m && m->pass_ != id) {
          enter(*m, id, all);
          found.push_back(m.get());
        }
      }
    }
    if (!all) {
      mark_needed(found, captures, id);
    }
    for (const node* n : found) {
      for (const ref<node>& m : n->next) {
        if (n->needed_ && wanted(m)) {
          ++m->waiting_;
        }
      }
    }
  }

  static void enter(node& n, std::uint32_t id, bool needed) {
    n.pass_ = id;
    n.waiting_ = 0;
    n.needed_ = needed;
    n.captured_ = nullptr;
    n.cotangent_ = {};  // left over where an earlier pass threw
  }

  static void mark_needed(std::vector<node*>& found, std::span<const capture> captures,
                          std::uint32_t id) {
    for (const capture& c : captures) {
      if (c.at->pass_ == id) {
        c.at->needed_ = true;
        c.at->captured_ = c.into;
      }
    }
    // Every node comes after those that it leads to: leaves, then by sequence.
    std::sort(found.begin(), found.end(), [](const node* a, const node* b) {
      return a->sequence + 1 < b->sequence + 1;  // a leaf's number wraps to 0
    });
    for (node* n : found) {
      n->needed_ = n->needed_ || std::any_of(n->next.begin(), n->next.end(), wanted);
    }
  }

  std::vector<node*> ready_;
};

/// What every node whose output is a `Result` can do; one per tensor type, not per operator.
template <class Result>
class typed_node : public node {
 public:
  [[nodiscard]] tensor_handle sum(tensor_handle a, tensor_handle b) const override {
    return call<ops::add>(Result(std::move(a)), Result(std::move(b)));
  }
  [[nodiscard]] tensor_handle reduce(tensor_handle cotangent) const override {
    return call<ops::sum_to>(Result(std::move(cotangent)), ashlar::shape(this->shape()));
  }

 protected:
  typed_node(std::string_view what, const tensor_spec& output) {
    name = what;
    extent = output.extent;
    rank = output.rank;
  }
  ~typed_node() = default;
  template <class Self>
  static void destroy_as(Self* self) noexcept {
    self->~Self();
    ashlar::detail::object_pool::give(self, sizeof(Self));
  }
};

}  // namespace ashlar::autograd

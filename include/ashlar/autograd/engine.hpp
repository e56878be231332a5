// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/autograd/node.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/spec.hpp"

namespace ashlar::autograd {

/// Where a pass begins, and with which gradient.
struct start {
  ref<node> at;
  tensor_handle seed;
};
/// A node that a pass is after: its cotangent goes to `into`; without one the node, a leaf, runs.
struct capture {
  node* at;
  tensor_handle* into;
};
/// Makes a function that runs another one, on whatever thread, as the calling thread would.
using surroundings = std::function<void(const std::function<void()>&)> (*)();

/// What a node that runs sees of its pass.
class sender {
 public:
  explicit sender(backward_pass& pass) : pass_(&pass) {}

  /// Whether the pass has a use for a gradient along edge `i` of the node that runs.
  [[nodiscard]] bool wanted(std::size_t i) const;
  /// Hands on the gradient along edge `i`.
  void send(std::size_t i, tensor_handle gradient);
  /// Hands on the cotangent of output `k` of `outputs` of the node behind edge 0.
  void send_part(std::size_t k, std::size_t outputs, tensor_handle cotangent);
  /// The cotangents of a node with several outputs; empty handles where none came.
  [[nodiscard]] std::vector<tensor_handle> take_parts();

 private:
  friend class backward_pass;

  backward_pass* pass_;
  node* from_ = nullptr;
  std::vector<tensor_handle> sent_;
  bool collects_ = false;
};

/// Counts how many cotangents each node will get, then runs nodes as they fill up, latest first.
///
/// Nodes run in falling order of their sequence numbers. Leaves have the greatest one, so a leaf's
/// gradient is complete, and its hooks run, as early as possible: communication can start while the
/// rest of the pass goes on. With captures, nodes that are older than all of them are not looked
/// at.
///
/// Passes may begin inside hooks and nodes of another pass, over whatever nodes; from a depth of
/// `levels_per_thread` on in the next thread, so that no stack overflows. Several threads may walk
/// one graph at once if they retain it.
/// Throws: `shape_error` naming the node whose hook gave a gradient of another shape,
/// `argument_error` where it has another element type; `not_a_number` under anomaly mode; whatever
/// a node or hook throws, the first of them with several threads. The graph stays usable, but for
/// what nodes that ran have released.
class backward_pass {
 public:
  static constexpr std::uint32_t levels_per_thread = 32;

  void run(std::span<start> starts, bool retain_graph, std::span<const capture> captures,
           surroundings around);

  /// Whether the pass will run `n` or hand out its cotangent.
  [[nodiscard]] bool reaches(node& n) {
    const node::slot* s = find(n);
    return s != nullptr && (all_ || s->needed);
  }
  /// The number of the pass among those of the process.
  [[nodiscard]] std::uint64_t serial() const { return serial_; }
  void call_at_end(std::function<void()> f) {
    const std::scoped_lock lock(callbacks_lock_);
    callbacks_.push_back(std::move(f));
  }

 private:
  friend class sender;
  struct crew;

  // ---- what is known of a node ----

  [[nodiscard]] ASHLAR_INLINE node::slot* find(node& n) {
    if (n.maker == owner_) [[likely]] {
      return n.slot_.pass == id_ ? &n.slot_ : nullptr;
    }
    const auto at = elsewhere_.find(&n);
    return at == elsewhere_.end() ? nullptr : &at->second;
  }
  /// Requires: the pass has entered `n`.
  [[nodiscard]] ASHLAR_INLINE node::slot& slot_of(node& n) {
    return n.maker == owner_ ? n.slot_ : elsewhere_.find(&n)->second;
  }
  ASHLAR_INLINE node::slot& enter(node& n) {
    found_.push_back(&n);
    if (n.maker != owner_) [[unlikely]] {
      return elsewhere_[&n];
    }
    if (n.slot_.pass >= oldest_) [[unlikely]] {  // a pass outside this one is not done with it
      covered_.emplace_back(&n, std::exchange(n.slot_, {}));
    }
    node::slot& s = n.slot_;
    s.pass = id_;
    s.waiting = 0;
    s.needed = false;
    s.runs = false;
    return s;
  }

  void count(std::span<start> starts, std::span<const capture> captures) {
    all_ = captures.empty();
    std::uint64_t floor = all_ ? 0 : ~std::uint64_t{0};
    for (const capture& c : captures) {
      floor = std::min(floor, c.at->is_leaf() ? 0 : c.at->sequence);
    }
    for (const start& s : starts) {
      if (s.at->sequence >= floor) {
        node::slot* known = find(*s.at);
        ++(known != nullptr ? *known : enter(*s.at)).waiting;
      }
    }
    for (std::size_t i = 0; i < found_.size(); ++i) {
      for (const ref<node>& m : found_[i]->next) {
        if (m && m->sequence >= floor) {
          node::slot* s = find(*m);
          s = s != nullptr ? s : &enter(*m);
          s->waiting += unsigned{all_};
        }
      }
    }
    if (!all_) {
      count_needed(captures);
    }
  }
  void count_needed(std::span<const capture> captures) {
    for (const capture& c : captures) {
      if (node::slot* s = find(*c.at)) {
        s->needed = true;
        s->runs = c.into == nullptr;
        if (c.into != nullptr) {
          s->extra().into = c.into;
        }
      }
    }
    // Every node comes after those that it leads to: leaves, then by sequence.
    std::sort(found_.begin(), found_.end(), [](const node* a, const node* b) {
      return a->sequence + 1 < b->sequence + 1;  // a leaf's number wraps to 0
    });
    for (node* n : found_) {
      node::slot& s = slot_of(*n);
      for (const ref<node>& m : n->next) {
        node::slot* t = m ? find(*m) : nullptr;
        s.runs = s.runs || (t != nullptr && t->needed);
      }
      s.needed = s.needed || s.runs;
      for (const ref<node>& m : n->next) {
        node::slot* t = s.runs && m ? find(*m) : nullptr;
        if (t != nullptr) {
          ++t->waiting;
        }
      }
    }
  }
  [[nodiscard]] bool wants(node& n) { return all_ || reaches(n); }

  // ---- the pass ----

  /// Adds a cotangent to what `n` has got so far; the last one makes it ready. An empty handle
  /// stands for zeros that nobody has written.
  ASHLAR_INLINE void deliver(node& n, node::slot& s, tensor_handle cotangent) {
    if (!cotangent) [[unlikely]] {
      static_cast<void>(s.extra());
      return arrived(n, s);
    }
    if (!same_shape(cotangent.shape(), n.shape())) [[unlikely]] {
      cotangent = n.reduce(std::move(cotangent));
    }
    if (s.cotangent) {
      cotangent = n.sum(std::move(s.cotangent), std::move(cotangent));
    }
    s.cotangent = std::move(cotangent);
    arrived(n, s);
  }
  ASHLAR_INLINE void arrived(node& n, node::slot& s) {
    if (--s.waiting == 0) {
      if (next_ == nullptr && ready_.empty()) [[likely]] {
        next_ = &n;
      } else {
        queue(n);
      }
    }
  }
  [[gnu::noinline]] void queue(node& n) {
    if (next_ != nullptr) {
      ready_.push_back(std::exchange(next_, nullptr));  // the only one
    }
    ready_.push_back(&n);
    std::push_heap(ready_.begin(), ready_.end(), earlier);
  }
  static bool earlier(const node* a, const node* b) {
    return a->sequence != b->sequence ? a->sequence < b->sequence : a->maker < b->maker;
  }
  [[nodiscard]] bool has_ready() const { return next_ != nullptr || !ready_.empty(); }
  node& take_ready() {
    if (node* n = std::exchange(next_, nullptr)) {
      return *n;
    }
    std::pop_heap(ready_.begin(), ready_.end(), earlier);
    node& n = *ready_.back();
    ready_.pop_back();
    return n;
  }
  void drain() {
    sender to(*this);
    while (has_ready()) {
      node& n = take_ready();
      node::slot& s = slot_of(n);
      tensor_handle cotangent = std::exchange(s.cotangent, {});
      to.from_ = &n;
      if (n.hooked || s.more || !all_ || watch_) [[unlikely]] {
        if (!visit(n, s, cotangent, to)) {
          continue;
        }
      } else {
        n.apply(to, cotangent);
      }
      if (!retain_) {
        n.release();
      }
    }
  }
  /// A node with everything that may come with it. Returns: whether it ran.
  bool visit(node& n, node::slot& s, tensor_handle& cotangent, sender& to);
  void flush(node& n, sender& to);
  void call_hooks(const hook_list<node::hook>& list, tensor_handle& x);
  std::unique_lock<std::recursive_mutex> one_hook() {
    using lock = std::unique_lock<std::recursive_mutex>;
    return crew_ != nullptr ? lock(hooks_lock_) : lock();
  }
  void drain_with(unsigned threads, surroundings around);
  void work();
  void finish() {
    for (std::size_t i = 0; i < callbacks_.size(); ++i) {  // they may add more
      const auto f = std::move(callbacks_[i]);
      f();
    }
  }
  void run_here(std::span<start> starts, std::span<const capture> captures, surroundings around);

  std::uint32_t owner_ = 0;
  bool all_ = true;
  bool retain_ = false;
  bool watch_ = false;
  std::uint64_t id_ = 0;
  std::uint64_t oldest_ = ~std::uint64_t{0};
  std::uint64_t serial_ = 0;
  node* next_ = nullptr;      ///< the only node that is ready, if it is in no queue
  std::vector<node*> ready_;  ///< a heap
  std::vector<node*> found_;
  std::vector<std::pair<node*, node::slot>> covered_;
  std::unordered_map<node*, node::slot> elsewhere_;
  crew* crew_ = nullptr;
  std::recursive_mutex hooks_lock_;
  std::mutex callbacks_lock_;
  std::vector<std::function<void()>> callbacks_;
};

ASHLAR_INLINE bool sender::wanted(std::size_t i) const {
  const ref<node>& n = from_->next[i];
  return n && pass_->wants(*n);
}
ASHLAR_INLINE void sender::send(std::size_t i, tensor_handle gradient) {
  if (collects_) [[unlikely]] {
    sent_[i] = std::move(gradient);
    return;
  }
  node& n = *from_->next[i];
  pass_->deliver(n, pass_->slot_of(n), std::move(gradient));
}

}  // namespace ashlar::autograd

#include "ashlar/autograd/detail/pass.hpp"

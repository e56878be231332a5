// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/autograd/engine.hpp"
#include "ashlar/dispatch/where.hpp"

/// What of a pass is not on the way of every node.
namespace ashlar::autograd {

/// The threads of a pass that has several.
struct backward_pass::crew {
  std::mutex lock;
  std::condition_variable changed;
  unsigned busy = 0;
  std::exception_ptr failed;
};

inline void sender::send_part(std::size_t k, std::size_t outputs, tensor_handle cotangent) {
  node& n = *from_->next[0];
  const auto put = [&] {
    node::slot& s = pass_->slot_of(n);
    node::rare& more = s.extra();
    if (cotangent) {
      more.parts.resize(outputs);
      more.arrivals.push_back({from_->sequence, from_->maker, static_cast<std::uint32_t>(k),
                               std::move(cotangent), from_});
    }
    pass_->arrived(n, s);
  };
  if (pass_->crew_ != nullptr) {
    const std::scoped_lock lock(pass_->crew_->lock);
    put();
    pass_->crew_->changed.notify_all();
  } else {
    put();
  }
}
inline std::vector<tensor_handle> sender::take_parts() {
  return std::move(pass_->slot_of(*from_).extra().parts);
}

namespace detail {
/// Calls hooks of `n` that may replace some gradients; hooks of nodes do not know their types.
///
/// Throws: `argument_error` where one is of another element type afterwards.
template <class Call>
void replace_in(const node& n, std::span<tensor_handle> gradients, const Call& call) {
  const std::vector<tensor_handle> before(gradients.begin(), gradients.end());
  call();
  for (std::size_t i = 0; i < before.size(); ++i) {
    const tensor_handle& after = gradients[i];
    if (before[i] && after && before[i].spec().type != after.spec().type) {
      throw argument_error("ashlar::backward",
                           "a hook of " + std::string(n.name) + " replaced a gradient of " +
                               std::string(name_of(before[i].spec().type)) + " by one of " +
                               std::string(name_of(after.spec().type)) + "; cast it in the hook");
    }
  }
}
}  // namespace detail

inline void backward_pass::call_hooks(const hook_list<node::hook>& list, tensor_handle& x) {
  if (const auto held = list.list) {
    for (const auto& [id, h] : *held) {
      h(x);
    }
  }
}

inline bool backward_pass::visit(node& n, node::slot& s, tensor_handle& cotangent, sender& to) {
  if (s.more && !s.more->arrivals.empty()) {
    // As one thread would have added them up: it runs the senders in this order.
    auto& all = s.more->arrivals;
    std::sort(all.begin(), all.end(), [](const node::arrival& a, const node::arrival& b) {
      return a.sequence != b.sequence ? a.sequence > b.sequence
             : a.maker != b.maker     ? a.maker > b.maker
                                      : a.edge < b.edge;
    });
    for (node::arrival& a : all) {
      node& at = a.port != nullptr ? *a.port : n;
      tensor_handle& sum = a.port != nullptr ? s.more->parts[a.edge] : cotangent;
      tensor_handle g = same_shape(a.value.shape(), at.shape()) ? std::move(a.value)
                                                                : at.reduce(std::move(a.value));
      sum = sum ? at.sum(std::move(sum), std::move(g)) : std::move(g);
    }
    all.clear();
  }
  const bool parts = s.more && !s.more->parts.empty();
  const bool something = cotangent || parts;
  node::hooks* const h = something ? n.hooked.get() : nullptr;
  if (h != nullptr && cotangent) {
    const auto lock = one_hook();
    call_hooks(h->tensor, cotangent);
    if (!same_shape(cotangent.shape(), n.shape())) {
      throw shape_error(n.name, n.shape(), cotangent.shape(),
                        "a hook may replace the gradient by one of the same shape");
    }
    if (h->retain) {
      h->retain(cotangent);
    }
  }
  if (s.more && s.more->into != nullptr) {
    *s.more->into = cotangent;
  }
  if (!all_ && !s.runs) {
    return false;
  }
  const auto cotangents =
      parts ? std::span<tensor_handle>(s.more->parts) : std::span<tensor_handle>(&cotangent, 1);
  if (h != nullptr) {
    const auto lock = one_hook();
    if (const auto held = h->pre.list) {
      detail::replace_in(n, cotangents, [&] {
        for (const auto& [id, f] : *held) {
          f(cotangents);
        }
      });
    }
  }
  const bool post = h != nullptr && h->post.list;
  std::vector<tensor_handle> seen;
  if (post) {
    seen.assign(cotangents.begin(), cotangents.end());
  }
  to.collects_ = post || watch_ || crew_ != nullptr || !something;
  if (to.collects_) {
    to.sent_.assign(n.next.size(), {});
  }
  if (h != nullptr && h->where.line() != 0) {
    ashlar::detail::site.at = h->where;  // of what the pass records
  }
  if (something) {
    try {
      n.apply(to, cotangent);
    } catch (...) {
      if (h != nullptr && h->where.line() != 0) {
        std::fprintf(stderr, "ashlar::backward: %.*s, called at %s, failed\n",
                     static_cast<int>(n.name.size()), n.name.data(), to_string(h->where).c_str());
      }
      throw;
    }
  }
  for (std::size_t i = 0; watch_ && i < to.sent_.size(); ++i) {
    if (to.sent_[i] && n.next[i]->has_nan(to.sent_[i])) {
      throw not_a_number(n.name, i, h != nullptr ? h->where : std::source_location{});
    }
  }
  if (h != nullptr) {
    const auto lock = one_hook();
    call_hooks(h->accumulated, cotangent);
    if (const auto held = h->post.list; held && post) {
      detail::replace_in(n, to.sent_, [&] {
        for (const auto& [id, f] : *held) {
          f(to.sent_, seen);
        }
      });
    }
  }
  if (!something && &n.function() != &n) {
    to.send_part(0, 0, {});
  }
  if (to.collects_ && crew_ == nullptr) {
    flush(n, to);
  }
  to.collects_ = false;
  s.more.reset();
  return true;
}

inline void backward_pass::flush(node& n, sender& to) {
  const bool to_parts = &n.function() != &n;  // has gone through `send_part`
  for (std::size_t i = 0; !to_parts && i < n.next.size(); ++i) {
    if (n.next[i] && wants(*n.next[i])) {
      node& m = *n.next[i];
      node::slot& s = slot_of(m);
      if (crew_ == nullptr) {
        deliver(m, s, std::move(to.sent_[i]));
      } else {
        if (to.sent_[i]) {
          s.extra().arrivals.push_back({n.sequence, n.maker, static_cast<std::uint32_t>(i),
                                        std::move(to.sent_[i]), nullptr});
        }
        arrived(m, s);
      }
    }
  }
}

inline void backward_pass::work() {
  sender to(*this);
  crew& all = *crew_;
  std::unique_lock lock(all.lock);
  for (;;) {
    all.changed.wait(lock, [&] { return has_ready() || all.busy == 0 || all.failed; });
    if (all.failed || !has_ready()) {
      return;
    }
    node& n = take_ready();
    node::slot& s = slot_of(n);
    ++all.busy;
    lock.unlock();
    bool ran = false;
    try {
      tensor_handle cotangent = std::exchange(s.cotangent, {});
      to.from_ = &n;
      ran = visit(n, s, cotangent, to);
      if (ran && !retain_) {
        n.release();
      }
      lock.lock();
    } catch (...) {
      lock.lock();
      all.failed = all.failed ? all.failed : std::current_exception();
    }
    if (ran && !all.failed) {
      flush(n, to);
    }
    --all.busy;
    all.changed.notify_all();
  }
}

inline void backward_pass::drain_with(unsigned threads, surroundings around) {
  crew all;
  crew_ = &all;
  std::vector<std::thread> helpers;
  const thread_state mine = detail::here;
  const auto enter = around();
  for (unsigned i = 1; i < threads; ++i) {
    helpers.emplace_back([this, &mine, &enter] {
      thread_state& here = detail::here;
      here.enabled = mine.enabled;
      here.anomaly = mine.anomaly;
      here.check_nan = mine.check_nan;
      here.packing = mine.packing;
      here.depth = mine.depth;
      here.pass = this;
      enter([this] { work(); });
    });
  }
  work();
  for (std::thread& t : helpers) {
    t.join();
  }
  crew_ = nullptr;
  if (all.failed) {
    std::rethrow_exception(all.failed);
  }
}

inline void backward_pass::run_here(std::span<start> starts, std::span<const capture> captures,
                                    surroundings around) {
  static constinit std::atomic<std::uint64_t> passes = 0;
  thread_state& here = detail::here;
  const unsigned threads = here.threads;
  serial_ = passes.fetch_add(1, std::memory_order_relaxed) + 1;
  id_ = ++here.passes;
  owner_ = threads > 1 ? 0 : here.number;
  watch_ = here.check_nan;
  oldest_ = here.oldest == 0 ? ~std::uint64_t{0} : here.oldest;
  const detail::with_state<&thread_state::oldest> oldest(here.oldest == 0 ? id_ : here.oldest);
  const detail::with_state<&thread_state::pass> innermost(this);
  const detail::with_state<&thread_state::depth> deeper(here.depth + 1);

  struct closing {
    backward_pass& p;
    bool failed = true;
    ~closing() {
      if (failed || !p.all_) {
        for (node* n : p.found_) {
          if (n->maker == p.owner_) {
            n->slot_.cotangent = {};
            n->slot_.more.reset();
          }
        }
      }
      for (auto& [n, s] : p.covered_) {
        n->slot_ = std::move(s);
      }
    }
  } close{*this};

  count(starts, captures);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    node& n = *starts[i].at;
    node::slot* s = find(n);
    if (s != nullptr && wants(n)) {
      deliver(n, *s, std::move(starts[i].seed));
    }
  }
  if (threads > 1) {
    drain_with(threads, around);
  } else {
    drain();
  }
  finish();
  close.failed = false;
}

inline void backward_pass::run(std::span<start> starts, bool retain_graph,
                               std::span<const capture> captures, surroundings around) {
  retain_ = retain_graph;
  thread_state& here = detail::here;
  if (here.depth % levels_per_thread != levels_per_thread - 1) [[likely]] {
    run_here(starts, captures, around);
    return;
  }
  thread_state mine = here;
  std::exception_ptr failed;
  const auto enter = around();
  std::thread([&] {
    detail::here = mine;
    try {
      enter([&] { run_here(starts, captures, around); });
    } catch (...) {
      failed = std::current_exception();
    }
    mine = detail::here;
  }).join();
  here = mine;
  if (failed) {
    std::rethrow_exception(failed);
  }
}

}  // namespace ashlar::autograd

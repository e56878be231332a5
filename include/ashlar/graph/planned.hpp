// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/dispatch/allocate.hpp"
#include "ashlar/graph/arena.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/recorder.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/ops/copy.hpp"

/// The backend whose intermediate values lie in one arena, and calls that are recorded once and
/// replayed.
namespace ashlar::graph {

namespace detail {

/// Room for what kernels need while they run: handed out upwards, and from the start again for the
/// next kernel. A run measures what is needed, later ones have it.
class kernel_room final : public memory::resource {
 public:
  kernel_room(memory::resource& from, std::size_t alignment) : from_(from), alignment_(alignment) {}
  ~kernel_room() { from_.deallocate(begin_, bytes_); }

  void next_kernel() { used_ = 0; }
  /// Takes as much as any kernel has wanted so far.
  void grow() {
    if (wanted_ > bytes_) {
      std::byte* const more = from_.allocate(wanted_);
      from_.deallocate(begin_, bytes_);
      begin_ = more;
      bytes_ = wanted_;
    }
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  std::byte* allocate(std::size_t n) override {
    std::byte* const p = take(n);
    return p != nullptr ? p : from_.allocate(n);
  }
  std::byte* allocate(std::size_t n, memory::queue_id q) override {
    std::byte* const p = take(n);
    return p != nullptr ? p : from_.allocate(n, q);
  }
  void deallocate(std::byte* p, std::size_t n) noexcept override {
    if (std::less<>{}(p, begin_) || !std::less<>{}(p, begin_ + bytes_)) {
      from_.deallocate(p, n);
    }
  }

 private:
  std::byte* take(std::size_t n) {
    std::byte* const p = begin_ + used_;
    used_ += (n + alignment_ - 1) / alignment_ * alignment_;
    wanted_ = std::max(wanted_, used_);
    return used_ <= bytes_ ? p : nullptr;
  }

  memory::resource& from_;
  std::size_t alignment_;
  std::byte* begin_ = nullptr;
  std::size_t bytes_ = 0, used_ = 0, wanted_ = 0;
};

/// Operations without a kernel of their own in terms of those that have: what lies in an arena is
/// what kernels write.
[[nodiscard]] inline graph with_kernels(const graph& g) {
  graph made;
  copier copied(g, made);
  recorder to(made);
  for (const node& n : g.nodes) {
    if (n.kind != node_kind::call || n.op->launches || n.op->view || !n.op->has_parts()) {
      copied.copy(n);
      continue;
    }
    std::vector<value_id> in;
    for (const value_id v : n.in) {
      in.push_back(copied(v));
    }
    const std::vector<value_id> parts = n.op->take_apart(to, in, n.attributes);
    for (std::size_t r = 0; r < parts.size(); ++r) {
      copied.set(n.out[r], parts[r]);
    }
  }
  copied.copy_outputs();
  return made;
}

/// A graph whose tensors are made before it runs; what a call changes are the ends.
template <Chip C>
class laid_out {
 public:
  /// `fixed_ends`: arguments and results lie in the arena, too.
  laid_out(const graph& from, bool fixed_ends)
      : graph_(with_kernels(from)),
        ordinal_(context<C>::current().ordinal),
        from_(context<C>::current().allocator()),
        plan_(plan_memory(graph_,
                          {static_cast<std::int64_t>(C::memory::alignment), fixed_ends, true})),
        room_(from_, C::memory::alignment) {
    verify(graph_);
    arena_ = from_.allocate(static_cast<std::size_t>(plan_.layout.bytes));
    try {
      prepare();
    } catch (...) {
      from_.deallocate(arena_, static_cast<std::size_t>(plan_.layout.bytes));
      throw;
    }
  }
  ~laid_out() {
    try {
      context<C>::of(ordinal_).queue.wait();  // launches may still be under way
    } catch (...) {  // what went wrong in a launch was said to nobody who waited: so it stays
    }
    at_.clear();
    steps_.clear();
    from_.deallocate(arena_, static_cast<std::size_t>(plan_.layout.bytes));
  }
  laid_out(const laid_out&) = delete;
  laid_out& operator=(const laid_out&) = delete;

  [[nodiscard]] const graph& source() const { return graph_; }
  [[nodiscard]] const memory_plan& plan() const { return plan_; }
  [[nodiscard]] std::size_t kernel_bytes() const { return room_.bytes(); }
  [[nodiscard]] std::size_t steps() const { return steps_.size(); }
  [[nodiscard]] const tensor_handle& at(value_id v) const {
    return at_[static_cast<std::size_t>(v)];
  }

  /// `v` is `x` in this run.
  void set(value_id v, tensor_handle x) {
    for (const auto& [s, a] : readers_[static_cast<std::size_t>(v)]) {
      steps_[s].in[a] = x;
    }
    at_[static_cast<std::size_t>(v)] = std::move(x);
  }
  void run() {
    const on_device<C> there(ordinal_);
    for (step& s : steps_) {
      if (!s.op->launches) {
        s.out.assign(s.out.size(), {});
        s.op->run(s.in, s.attributes, s.out);
        keep(s);
        continue;
      }
      for (std::size_t r = 0; r < s.made.size(); ++r) {
        if (!fixed_[static_cast<std::size_t>(s.made[r])]) {
          s.out[r] = s.op->place(r, graph_.spec(s.made[r]), nullptr);
        }
      }
      room_.next_kernel();
      const typename context<C>::use_allocator here(room_);
      s.op->launch(s.in, s.attributes, s.out);
      keep(s);
    }
    room_.grow();
  }
  /// Lets go of what is not the graph's own.
  void forget() {
    for (const value_id v : changing_) {
      set(v, {});
    }
    for (step& s : steps_) {
      for (std::size_t r = 0; r < s.made.size(); ++r) {
        if (!fixed_[static_cast<std::size_t>(s.made[r])]) {
          s.out[r] = {};
        }
      }
    }
  }

 private:
  struct step {
    const operation* op;
    std::span<const attribute> attributes;
    std::span<const value_id> made;
    std::vector<tensor_handle> in, out;
  };

  void keep(const step& s) {
    for (std::size_t r = 0; r < s.made.size(); ++r) {
      if (!fixed_[static_cast<std::size_t>(s.made[r])]) {
        set(s.made[r], s.out[r]);
      }
    }
  }
  [[nodiscard]] std::byte* address(value_id v) const { return arena_ + plan_.offset_of(v); }
  /// An argument's place: a placeholder has no operation to make one.
  [[nodiscard]] tensor_handle argument_place(value_id v) const {
    using body = body_of<key_set<keys::backend<C>>>;
    tensor_spec s = graph_.spec(v);
    body* const made = body::make(s);
    tensor_handle x{ref<tensor_body>(made)};
    made->data = address(v);
    made->bytes = static_cast<std::size_t>(ashlar::detail::reach(s)) * size_of(s.type);
    ashlar::detail::place(context<C>::current(), *made);
    return x;
  }
  void prepare() {
    const std::size_t count = graph_.values.size();
    at_.resize(count);
    readers_.resize(count);
    fixed_.resize(count);
    const auto fix = [&](value_id v, tensor_handle x) {
      at_[static_cast<std::size_t>(v)] = std::move(x);
      fixed_[static_cast<std::size_t>(v)] = true;
    };
    const auto is_fixed = [&](value_id v) -> bool { return fixed_[static_cast<std::size_t>(v)]; };
    for (const node& n : graph_.nodes) {
      if (n.kind == node_kind::placeholder) {
        if (plan_.offset_of(n.out[0]) != memory_plan::outside) {
          fix(n.out[0], argument_place(n.out[0]));
        }
        continue;
      }
      if (n.kind != node_kind::call) {
        fix(n.out[0], n.data);
        continue;
      }
      step s{n.op.get(), n.attributes, n.out, {}, std::vector<tensor_handle>(n.out.size())};
      for (const value_id v : n.in) {
        if (!is_fixed(v)) {
          readers_[static_cast<std::size_t>(v)].emplace_back(steps_.size(), s.in.size());
        }
        s.in.push_back(at_[static_cast<std::size_t>(v)]);
      }
      if (n.op->view && is_fixed(n.in[0])) {  // looks at the same place in every run
        n.op->run(s.in, s.attributes, s.out);
        fix(n.out[0], std::move(s.out[0]));
        continue;
      }
      for (std::size_t r = 0; r < n.out.size(); ++r) {
        if (!n.op->view && plan_.offset_of(n.out[r]) != memory_plan::outside) {
          s.out[r] = n.op->place(r, graph_.spec(n.out[r]), address(n.out[r]));
          fix(n.out[r], s.out[r]);
        }
      }
      steps_.push_back(std::move(s));
    }
    for (std::size_t v = 0; v < count; ++v) {
      if (!fixed_[v]) {
        changing_.push_back(static_cast<value_id>(v));
      }
    }
  }

  graph graph_;
  int ordinal_;
  memory::resource& from_;
  memory_plan plan_;
  kernel_room room_;
  std::byte* arena_ = nullptr;
  std::vector<tensor_handle> at_;
  std::vector<bool> fixed_;  ///< by value: the same tensor in every run
  std::vector<value_id> changing_;
  std::vector<step> steps_;
  std::vector<std::vector<std::pair<std::size_t, std::size_t>>> readers_;  ///< (step, argument)
};

/// Whether strides are those that the graph was captured with: results were laid out by them.
inline void require_strides(const graph& g, const node& n, const tensor_handle& x) {
  const tensor_spec& wanted = g.spec(n.out[0]);
  if (x.spec().contiguous && wanted.contiguous) {
    return;
  }
  for (int i = 0; i < wanted.rank; ++i) {
    if (wanted[i] > 1 && wanted.stride_of(i) != x.spec().stride_of(i)) {
      throw guard_error(n.name + " has strides " + to_string(wanted.strides()) + ", not " +
                        to_string(x.spec().strides()));
    }
  }
}

}  // namespace detail

/// A graph in an arena: called as `interpreted`. Between two calls it holds the arena and nothing
/// of the caller's. Not to be called from two threads at once.
template <Chip C>
class arranged {
 public:
  explicit arranged(const graph& g) : graph_(std::make_unique<detail::laid_out<C>>(g, false)) {}

  [[nodiscard]] const graph& source() const { return graph_->source(); }
  [[nodiscard]] const memory_plan& plan() const { return graph_->plan(); }
  /// What kernels need beside the arena, as far as runs have shown.
  [[nodiscard]] std::size_t kernel_bytes() const { return graph_->kernel_bytes(); }

  /// Throws: `guard_error` for other types, shapes or strides than the graph has.
  [[nodiscard]] std::vector<tensor_handle> operator()(std::span<const tensor_handle> arguments) {
    const graph& g = source();
    std::size_t next = 0;
    for (const node& n : g.nodes) {
      if (n.kind == node_kind::placeholder) {
        const tensor_handle& x = detail::argument(g, n, arguments, next++);
        detail::require_strides(g, n, x);
        graph_->set(n.out[0], x);
      }
    }
    if (next != arguments.size()) {
      throw guard_error("it takes " + std::to_string(next) + " tensors, not " +
                        std::to_string(arguments.size()));
    }
    graph_->run();
    std::vector<tensor_handle> results;
    for (const value_id v : g.outputs) {
      results.push_back(graph_->at(v));
    }
    graph_->forget();
    return results;
  }
  template <Tensor... X>
  [[nodiscard]] std::vector<tensor_handle> operator()(const X&... arguments) {
    const std::array<tensor_handle, sizeof...(X)> all{arguments...};
    return (*this)(std::span<const tensor_handle>(all));
  }

 private:
  std::unique_ptr<detail::laid_out<C>> graph_;
};

/// Runs a graph on `C` with all intermediate values in one arena that is allocated once.
///
/// What leaves the graph is allocated as ever; kernels that need room get it from a second piece,
/// whose size the first run finds out.
template <Chip C>
struct planned {
  [[nodiscard]] arranged<C> compile(const graph& g) const { return arranged<C>(g); }
};

/// A graph as a list of launches on fixed tensors, as CUDA graphs are: recorded once, replayed with
/// other arguments.
///
/// `r(x...)` copies the arguments to their places, replays and returns the results' tensors, which
/// the next replay overwrites. A launch is the kernel and nothing else: no meta, no allocation, no
/// dispatch; on a chip with queues it is enqueued on the thread's queue. Parameters are read where
/// they lie, so what was changed in place is seen.
template <Chip C>
class replayed {
 public:
  explicit replayed(const graph& g) : graph_(std::make_unique<detail::laid_out<C>>(g, true)) {}

  [[nodiscard]] const graph& source() const { return graph_->source(); }
  [[nodiscard]] const memory_plan& plan() const { return graph_->plan(); }
  [[nodiscard]] std::size_t launches() const { return graph_->steps(); }
  /// What kernels need beside the arena, as far as replays have shown.
  [[nodiscard]] std::size_t kernel_bytes() const { return graph_->kernel_bytes(); }

  /// Where the arguments lie: to be written by who wants no copies.
  [[nodiscard]] std::vector<tensor_handle> arguments() const {
    return tensors(source().made_by(node_kind::placeholder));
  }
  /// Those of the last replay.
  [[nodiscard]] std::vector<tensor_handle> results() const { return tensors(source().outputs); }
  void replay() { graph_->run(); }

  /// Throws: `guard_error` for other types or shapes than the graph has.
  template <Tensor... X>
  std::vector<tensor_handle> operator()(const X&... arguments) {
    const std::array<tensor_handle, sizeof...(X)> all{arguments...};
    const graph& g = source();
    std::size_t next = 0;
    const std::vector<value_id> places = g.made_by(node_kind::placeholder);
    if (places.size() != all.size()) {
      throw guard_error("it takes " + std::to_string(places.size()) + " tensors, not " +
                        std::to_string(all.size()));
    }
    for (const value_id v : places) {
      static_cast<void>(detail::argument(g, g.maker(v), all, next++));
    }
    next = 0;
    (copy_in(arguments, graph_->at(places[next++])), ...);
    replay();
    return results();
  }

 private:
  template <class X>
  static void copy_in(const X& x, const tensor_handle& place) {
    using plain = tensor<typename X::value_type, key_set<keys::backend<C>>>;
    plain to(place);
    op_function<ops::copy>{}.in_place(to, plain(static_cast<const tensor_handle&>(x)));
  }
  [[nodiscard]] std::vector<tensor_handle> tensors(const std::vector<value_id>& which) const {
    std::vector<tensor_handle> all;
    for (const value_id v : which) {
      all.push_back(graph_->at(v));
    }
    return all;
  }

  std::unique_ptr<detail::laid_out<C>> graph_;
};

}  // namespace ashlar::graph

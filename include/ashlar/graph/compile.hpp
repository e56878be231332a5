// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/leaf.hpp"
#include "ashlar/autograd/thread.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/results.hpp"
#include "ashlar/graph/symbolic.hpp"

/// Functions that compile themselves when they are called.
namespace ashlar::graph {

/// What makes compiled graphs: `compile(graph)` returns what is called with the placeholders'
/// tensors and returns the outputs'. Models: `eager`, `planned<Chip>`.
template <class B>
concept Backend = requires(const B& b, graph g, std::span<const tensor_handle> arguments) {
  { b.compile(std::move(g))(arguments) } -> std::same_as<std::vector<tensor_handle>>;
};

struct compile_options {
  std::size_t entries = 8;      ///< graphs that are kept; the one unused longest goes
  std::vector<symbol> sizes{};  ///< extents that may vary within one graph
  std::function<void(std::string_view)> log{};  ///< hears why something is compiled anew
};

/// What calls of a compiled function have come to.
struct compile_statistics {
  std::uint64_t hits = 0;        ///< calls that found their graph
  std::uint64_t compiled = 0;    ///< captures
  std::uint64_t recompiled = 0;  ///< of these, those with other graphs in the cache
  std::uint64_t evicted = 0;
};

namespace detail {

template <class... A>
inline constexpr char signature_id = 0;

/// Which keys of a set scopes have switched off on this thread, a bit each, and the grad mode.
template <class... K>
key_bits switched_off(key_set<K...>) {
  key_bits bits = contains<key_set<K...>, keys::autograd> && !grad_enabled() ? 1U : 0U;
  const auto one = [&]<class Key>(std::type_identity<Key>) {
    bits <<= 1;
    if constexpr (Excludable<Key>) {
      bits |= ashlar::detail::excluded<Key> ? 1U : 0U;
    }
  };
  (one(std::type_identity<K>{}), ...);
  return bits;
}

/// A call, as guards see it.
struct call_seen {
  const char* signature;
  key_bits off;
  std::vector<tensor_handle> tensors;
  std::vector<attribute> others;
};

/// What must hold for a graph to be called again.
struct guards {
  const char* signature;
  key_bits off;
  std::vector<tensor_spec> specs;
  std::vector<int> ordinals;
  std::vector<attribute> others;
  std::vector<symbol> free;  ///< extents that `sizes_of` looks at in place of these

  explicit guards(const call_seen& c) : signature(c.signature), off(c.off), others(c.others) {
    for (const tensor_handle& x : c.tensors) {
      specs.push_back(x.spec());
      ordinals.push_back(x.ordinal());
    }
  }

  [[nodiscard]] bool is_free(std::size_t argument, int axis) const {
    return std::any_of(free.begin(), free.end(), [&](const symbol& s) {
      return std::any_of(s.places.begin(), s.places.end(), [&](const symbol::place& p) {
        return static_cast<std::size_t>(p.argument) == argument && p.axis == axis;
      });
    });
  }
  /// Calls `fail(text)` for what does not hold; `text()` makes the words. Stops where it says so.
  template <class Fail>
  void check(const call_seen& c, const Fail& fail) const {
    const auto differ = [](const char* what) { return [what] { return std::string(what); }; };
    if (signature != c.signature) {
      fail(differ("the arguments are of other types"));
      return;
    }
    if (off != c.off && fail(differ("other keys are switched off (the grad mode is one)"))) {
      return;
    }
    for (std::size_t i = 0; i < others.size(); ++i) {
      if (!(others[i] == c.others[i]) && fail([&] {
            return "argument " + std::to_string(i) + " of those that are no tensors is another";
          })) {
        return;
      }
    }
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const tensor_handle& x = c.tensors[i];
      const auto named = [&](const std::string& is) {
        return [i, is] { return "tensor " + std::to_string(i) + " is " + is; };
      };
      if (x.rank() != specs[i].rank) {
        if (fail(named("of rank " + std::to_string(x.rank()) + ", not " +
                       std::to_string(specs[i].rank)))) {
          return;
        }
        continue;
      }
      for (int axis = 0; axis < x.rank(); ++axis) {
        if (x.extent(axis) != specs[i][axis] && !is_free(i, axis)) {
          if (fail([&] {
                return "tensor " + std::to_string(i) + " is " + ashlar::to_string(x.shape()) +
                       ", not " + ashlar::to_string(specs[i].shape());
              })) {
            return;
          }
          break;
        }
      }
      if (!same_strides(x.spec(), specs[i]) && fail([&] {
            return "tensor " + std::to_string(i) + " has strides " +
                   ashlar::to_string(x.spec().strides()) + ", not " +
                   ashlar::to_string(specs[i].strides());
          })) {
        return;
      }
      if (x.ordinal() != ordinals[i] && fail([&] {
            return "tensor " + std::to_string(i) + " is on device " + std::to_string(x.ordinal()) +
                   ", not " + std::to_string(ordinals[i]);
          })) {
        return;
      }
    }
  }
  /// Row-major tensors are alike whatever their extents.
  static bool same_strides(const tensor_spec& a, const tensor_spec& b) {
    if (a.contiguous || b.contiguous) {
      return a.contiguous == b.contiguous;
    }
    for (int i = 0; i < a.rank; ++i) {
      if (a[i] > 1 && a.stride_of(i) != b.stride_of(i)) {
        return false;
      }
    }
    return true;
  }
};

}  // namespace detail

/// A function that is captured and compiled when it is first called, and again where a guard of
/// what it has does not hold: element types and keys, shapes (but extents in `sizes`), strides (of
/// tensors that are not row-major), devices, which keys are switched off, and arguments that are no
/// tensors. `why()` says which.
///
/// What `f` reads beside its arguments is not guarded: tensors from outside are parameters, whose
/// elements may change, numbers are what they were. Not to be called from two threads at once.
template <class F, class B = eager>
class compiled {
  static_assert(Backend<B>,
                "ashlar::graph::compile: the backend must model Backend: "
                "`compile(graph)` returns what takes and returns tensors");

 public:
  explicit compiled(F f, B backend = {}, compile_options options = {})
      : f_(std::move(f)), backend_(std::move(backend)), options_(std::move(options)) {}

  /// Returns: what `f` returns for these arguments.
  /// Throws:  as `capture`; `capture_error` where the call would have to be recorded for gradients.
  template <class... A>
  auto operator()(const A&... args) -> std::invoke_result_t<const F&, const A&...> {
    using result = std::invoke_result_t<const F&, const A&...>;
    detail::call_seen now{
        &detail::signature_id<A...>, detail::switched_off(call_keys<A...>{}), {}, {}};
    const auto look = [&]<class X>(const X& x) {
      if constexpr (Tensor<X>) {
        if (requires_grad_now(x)) {
          throw capture_error("compile",
                              "an argument wants gradients; take them inside of the "
                              "function, or call it in a no_grad scope");
        }
        now.tensors.push_back(x);
      } else {
        now.others.emplace_back(x);
      }
    };
    (look(args), ...);
    auto found = entries_.begin();
    while (found != entries_.end() && !holds(*found, now)) {
      ++found;
    }
    if (found == entries_.end()) {
      miss(now);
      entries_.push_front(make<result>(now, args...));
      if (entries_.size() > std::max<std::size_t>(options_.entries, 1)) {
        entries_.pop_back();
        ++statistics_.evicted;
      }
    } else {
      ++statistics_.hits;
      entries_.splice(entries_.begin(), entries_, found);
    }
    entry& e = entries_.front();
    const std::vector<tensor_handle> made = e.run(now.tensors);
    return detail::rebuilder(made, e.counts).template make<result>();
  }

  [[nodiscard]] const compile_statistics& statistics() const { return statistics_; }
  /// Of the last call that was compiled: for each graph there was, the guards that did not hold.
  [[nodiscard]] const std::vector<std::string>& why() const { return why_; }
  /// How many graphs there are.
  [[nodiscard]] std::size_t entries() const { return entries_.size(); }
  /// What the latest graph is specialised on beside its guards on types: see `symbolic_graph`.
  [[nodiscard]] std::vector<guard> specialised() const {
    return entries_.empty() ? std::vector<guard>{} : entries_.front().specialised;
  }

 private:
  struct entry {
    detail::guards must_hold;
    std::vector<std::size_t> counts{};
    std::function<std::vector<tensor_handle>(std::span<const tensor_handle>)> run{};
    std::function<std::string(std::span<const tensor_handle>)> out_of_range{};
    std::vector<guard> specialised{};
  };

  template <Tensor X>
  static bool requires_grad_now(const X& x) {
    if constexpr (contains<typename X::keys, keys::autograd>) {
      return grad_enabled() && requires_grad(x);
    }
    return false;
  }
  static bool holds(const entry& e, const detail::call_seen& now) {
    bool good = true;
    e.must_hold.check(now, [&](const auto&) {
      good = false;
      return true;
    });
    return good && (!e.out_of_range || e.out_of_range(now.tensors).empty());
  }
  void miss(const detail::call_seen& now) {
    why_.clear();
    for (const entry& e : entries_) {
      std::string all;
      e.must_hold.check(now, [&](const auto& text) {
        all += (all.empty() ? "" : "; ") + text();
        return false;
      });
      if (all.empty() && e.out_of_range) {
        all = e.out_of_range(now.tensors);
      }
      why_.push_back(std::move(all));
    }
    ++statistics_.compiled;
    statistics_.recompiled += entries_.empty() ? 0 : 1;
    if (options_.log) {
      std::string text = entries_.empty() ? "compiled for the first time" : "compiled again";
      for (std::size_t i = 0; i < why_.size(); ++i) {
        text += "\n  graph " + std::to_string(i) + ": " + why_[i];
      }
      options_.log(text);
    }
  }
  template <class Result, class... A>
  entry make(const detail::call_seen& now, const A&... args) {
    entry e{detail::guards(now)};
    const auto noticed = [&](const auto&... x) {
      auto r = f_(x...);
      e.counts.clear();
      detail::count_ranges(r, e.counts);
      detail::each_tensor(r, [](const auto& y) {
        if (requires_grad_now(y)) {
          throw capture_error("compile",
                              "the function reads parameters that want gradients; take them inside "
                              "of it, or call it in a no_grad scope");
        }
      });
      return r;
    };
    if (options_.sizes.empty()) {
      e.run = shared(backend_.compile(capture(noticed, args...)));
      return e;
    }
    symbolic_graph g = capture(noticed, in_range(now), args...);
    e.specialised = g.guards;
    e.must_hold.free = g.symbols;
    const auto source = std::make_shared<const symbolic_graph>(std::move(g));
    e.out_of_range = [source](std::span<const tensor_handle> x) -> std::string {
      try {
        static_cast<void>(source->sizes_of(x));
        return "";
      } catch (const guard_error& error) {
        return error.guard;
      }
    };
    e.run = shared(resizing<B>(*source, backend_));
    return e;
  }
  /// Sizes out of their range are sizes like all others.
  [[nodiscard]] std::vector<symbol> in_range(const detail::call_seen& now) const {
    std::vector<symbol> all;
    for (const symbol& s : options_.sizes) {
      const bool inside =
          std::all_of(s.places.begin(), s.places.end(), [&](const symbol::place& p) {
            const auto a = static_cast<std::size_t>(p.argument);
            if (a >= now.tensors.size() || p.axis >= now.tensors[a].rank()) {
              return false;
            }
            const std::int64_t n = now.tensors[a].extent(p.axis);
            return n >= s.least && n <= s.most;
          });
      if (inside) {
        all.push_back(s);
      }
    }
    return all;
  }
  /// What is called may be movable only.
  template <class Callable>
  static auto shared(Callable made) {
    return [held = std::make_shared<Callable>(std::move(made))](std::span<const tensor_handle> x) {
      return (*held)(x);
    };
  }

  F f_;
  B backend_;
  compile_options options_;
  compile_statistics statistics_;
  std::vector<std::string> why_;
  std::list<entry> entries_;  ///< the latest first
};

/// `compile(f, eager{})`: what is called like `f`. See `compiled`.
template <class F, class B = eager>
[[nodiscard]] compiled<F, B> compile(F f, B backend = {}, compile_options options = {}) {
  return compiled<F, B>(std::move(f), std::move(backend), std::move(options));
}

}  // namespace ashlar::graph

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/results.hpp"
#include "ashlar/graph/symbolic.hpp"

/// Graph breaks that are asked for.
namespace ashlar::graph {

/// A function that may read elements of what it computes.
///
/// Its calls are written down. Where elements are needed, `item(x)` say, what was written so far is
/// compiled and run, what is still in use gets elements, and another graph begins. The function
/// itself runs in every call, so branches on elements are right; graphs are kept by their place in
/// the function and compiled once for each way that it takes.
/// Cost: what capture costs, in every call.
template <class F, class B = eager>
class breakable {
  static_assert(Backend<B>,
                "ashlar::graph::breakable: the backend must model Backend: "
                "`compile(graph)` returns what takes and returns tensors");

 public:
  explicit breakable(F f, B backend = {}, std::size_t ways = 8)
      : f_(std::move(f)), backend_(std::move(backend)), ways_(std::max<std::size_t>(ways, 1)) {}

  /// Returns: what `f` returns for these arguments.
  template <class... A>
  auto operator()(const A&... args) -> std::invoke_result_t<const F&, const A&...> {
    run now(*this);
    const auto result = f_(now.argument(args)...);
    now.finish();
    return detail::with_keys_of<std::invoke_result_t<const F&, const A&...>>(result);
  }

  /// Into how many graphs the last call fell.
  [[nodiscard]] std::size_t graphs() const { return graphs_; }
  /// How many graphs were compiled, and how many calls of graphs found theirs.
  [[nodiscard]] const compile_statistics& statistics() const { return statistics_; }

 private:
  using callable = decltype(std::declval<const B&>().compile(std::declval<graph>()));
  struct segment {
    graph source;
    callable run;
  };

  /// One call of the function.
  class run final : recorder::listener {
   public:
    explicit run(breakable& of) : of_(of), to_(graph_, this) {}

    template <class A>
    decltype(auto) argument(const A& a) {
      if constexpr (Tensor<A>) {
        know(a);
        return capturable<A>(a);
      } else {
        return (a);
      }
    }
    void finish() {
      flush();
      of_.graphs_ = place_;
    }

   private:
    void stands_for(const tensor_handle& x, value_id v) override { standing_.emplace_back(x, v); }
    bool is_argument(const tensor_handle& x) override {
      if (!arguments_.contains(&x.body()->root())) {
        return false;
      }
      given_.push_back(x);
      return true;
    }
    bool give_elements(tensor_body& b) override {
      keys::capture::state& s = state_of(b);
      if (s.capture == to_.number()) {
        flush();
      }
      const auto graph_of = made_.find(s.capture);
      if (s.capture != 0 && graph_of != made_.end()) {  // another handle of the same tensor
        const auto x = graph_of->second.find(s.value);
        if (x != graph_of->second.end()) {
          settle_on(b, x->second);
        }
      }
      return s.capture == 0 && b.data != nullptr;
    }

    static keys::capture::state& state_of(tensor_body& b) {
      return *static_cast<key_state<keys::capture>*>(b.type->state(b, &key_id<keys::capture>));
    }
    void know(const tensor_handle& x) {
      arguments_.insert(&x.body()->root());
      held_.push_back(x);
    }
    /// `b` looks at the elements of `x` from now on.
    static void settle_on(tensor_body& b, const tensor_handle& x) {
      b.base = ref<tensor_body>::share(&x.body()->root());
      b.data = x.bytes();
      b.spec = x.spec();
      b.ordinal = x.body()->ordinal;
      state_of(b) = {};
    }
    /// Forgets what only this list holds: a root by itself and its views here, a view with its
    /// root. A view may have handles with other keys, which hold the root alone.
    void drop_unused() {
      std::unordered_map<const tensor_body*, std::uint32_t> mine;
      const auto count = [](const tensor_body& b) {
        return b.references.load(std::memory_order_acquire);
      };
      for (const auto& [x, v] : standing_) {
        if (!x.body()->base || count(*x.body()) == 1) {
          ++mine[&x.body()->root()];
        }
      }
      std::erase_if(standing_, [&](const auto& s) {
        // Counted again as others go: views before it have let go of their root.
        const auto found = mine.find(&s.first.body()->root());
        if (found == mine.end() || count(s.first.body()->root()) != found->second) {
          return false;
        }
        --found->second;
        return true;
      });
    }
    /// Runs what was written, and begins anew.
    void flush() {
      drop_unused();
      for (const auto& [x, v] : standing_) {
        if (!graph_.is_output(v)) {
          graph_.outputs.push_back(v);
        }
      }
      const std::uint64_t number = to_.number();
      const bool writes = std::any_of(graph_.nodes.begin(), graph_.nodes.end(), [](const node& n) {
        return n.kind == node_kind::call && n.op->writes != 0;
      });
      if (writes || !graph_.outputs.empty()) {
        const std::vector<tensor_handle> results = [&] {
          const recorder::pause executed;
          return of_.find(place_++, graph_)(given_);
        }();
        for (std::size_t i = 0; i < results.size(); ++i) {
          made_[number].emplace(graph_.outputs[i], results[i]);
          know(results[i]);
        }
        for (const auto& [x, v] : standing_) {
          settle_on(*x.body(), made_[number].at(v));
        }
      }
      standing_.clear();
      given_.clear();
      graph_ = {};
      to_.restart(graph_);
    }

    breakable& of_;
    graph graph_;
    std::size_t place_ = 0;
    std::vector<std::pair<tensor_handle, value_id>> standing_;
    std::vector<tensor_handle> given_;  ///< the graph's arguments
    std::vector<tensor_handle> held_;   ///< whose bodies are arguments of graphs
    std::unordered_set<const tensor_body*> arguments_;
    std::unordered_map<std::uint64_t, std::map<value_id, tensor_handle>> made_;
    recorder to_;
  };

  static bool same(const graph& a, const graph& b) {
    if (detail::structural_difference(a, b)) {
      return false;
    }
    for (std::size_t i = 0; i < a.nodes.size(); ++i) {
      const node& n = a.nodes[i];
      if (n.attributes != b.nodes[i].attributes ||
          (n.kind == node_kind::placeholder && a.spec(n.out[0]) != b.spec(n.out[0]))) {
        return false;
      }
    }
    return true;
  }
  callable& find(std::size_t place, const graph& g) {
    if (segments_.size() <= place) {
      segments_.resize(place + 1);
    }
    std::vector<segment>& here = segments_[place];
    const auto found =
        std::find_if(here.begin(), here.end(), [&](const segment& s) { return same(s.source, g); });
    if (found != here.end()) {
      ++statistics_.hits;
      std::rotate(here.begin(), found, found + 1);
      return here.front().run;
    }
    ++statistics_.compiled;
    statistics_.recompiled += here.empty() ? 0 : 1;
    here.insert(here.begin(), segment{g, backend_.compile(g)});
    if (here.size() > ways_) {
      here.pop_back();
      ++statistics_.evicted;
    }
    return here.front().run;
  }

  F f_;
  B backend_;
  std::size_t ways_;
  std::size_t graphs_ = 0;
  compile_statistics statistics_;
  std::vector<std::vector<segment>> segments_;  ///< by place; the latest way first
};

}  // namespace ashlar::graph

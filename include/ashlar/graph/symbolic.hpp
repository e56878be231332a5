// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/detail/generaliser.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/symbolic_graph.hpp"

/// One graph for a range of sizes.
///
/// A function is captured at a few sizes, which costs microseconds as nothing is computed. Where
/// the graphs have the same calls, their attributes are fitted as expressions of the sizes, and
/// shapes follow by `meta`. Where they have not, the graph is for one size, and says why.
namespace ashlar::graph {

namespace detail {

/// What stands for an example of other extents.
template <class A>
A resized(const A& a, const std::vector<symbol>& all, const sizes& to, int argument) {
  if constexpr (Tensor<A>) {
    shape extents(a.shape());
    for (std::size_t s = 0; s < all.size(); ++s) {
      for (const symbol::place& p : all[s].places) {
        if (p.argument == argument) {
          extents[p.axis] = to[s];
        }
      }
    }
    if (!same_shape(extents.span(), a.shape())) {
      return A(body_of<typename A::keys>::make(contiguous_spec(element_type<A>, extents.span())));
    }
  }
  return a;
}

}  // namespace detail

/// A graph for a range of sizes. `symbols` names extents of the examples.
///
/// Loops and branches that depend on a size, and numbers that fit no expression, make the graph one
/// for the example's size: `guards` lists them. A range ends where captures become others, as they
/// often do at an extent of 1; what differs between two sizes that were captured and neither of
/// them shows it is not noticed.
/// Throws: `argument_error` where a symbol has no place, or an example is not in its range; as
///         `capture`.
/// Cost:   seven captures per symbol; a few more where a range is found by halves.
template <class F, class... A>
[[nodiscard]] symbolic_graph capture(const F& f, const named_tensors& names,
                                     const std::vector<symbol>& symbols, const A&... examples) {
  std::vector<tensor_handle> tensors;
  const auto add = [&]<class X>(const X& x) {
    if constexpr (Tensor<X>) {
      tensors.push_back(x);
    }
  };
  (add(examples), ...);
  sizes base;
  for (const symbol& s : symbols) {
    for (const symbol::place& p : s.places) {
      const bool there = p.argument >= 0 && p.argument < static_cast<int>(tensors.size()) &&
                         p.axis >= 0 &&
                         p.axis < tensors[static_cast<std::size_t>(p.argument)].rank();
      const std::int64_t n =
          there ? tensors[static_cast<std::size_t>(p.argument)].extent(p.axis) : -1;
      if (!there || n < s.least || n > s.most || (&p != &s.places[0] && n != base.back())) {
        throw argument_error("ashlar::graph::capture",
                             s.name + " is not axis " + std::to_string(p.axis) + " of argument " +
                                 std::to_string(p.argument) + "; an example has one extent in " +
                                 std::to_string(s.least) + " to " + std::to_string(s.most) +
                                 " at all places of a size");
      }
      if (&p == &s.places[0]) {
        base.push_back(n);
      }
    }
    if (s.places.empty()) {
      throw argument_error("ashlar::graph::capture",
                           s.name + " is no extent; say which with of(argument, axis)");
    }
  }
  const auto take = [&](const sizes& at) {
    int argument = 0;
    const auto one = [&]<class X>(const X& x) {
      const int mine = argument;
      argument += Tensor<X> ? 1 : 0;
      return detail::resized(x, symbols, at, mine);
    };
    const std::tuple<A...> all{one(examples)...};  // braces: from left to right
    return std::apply([&](const A&... x) { return capture(f, names, x...); }, all);
  };
  return detail::generaliser(take, symbols, base).run();
}
template <class F, class... A>
[[nodiscard]] symbolic_graph capture(const F& f, const std::vector<symbol>& symbols,
                                     const A&... examples) {
  return capture(f, named_tensors{}, symbols, examples...);
}

/// A graph for a range of sizes that can be called: a backend compiles it for each size that comes,
/// and the latest few are kept. Nothing is captured again.
template <class Backend>
class resizing {
 public:
  using callable = decltype(std::declval<const Backend&>().compile(std::declval<graph>()));

  /// `most`: how many sizes are kept.
  explicit resizing(symbolic_graph g, Backend backend = {}, std::size_t most = 64)
      : graph_(std::move(g)), backend_(std::move(backend)), most_(std::max<std::size_t>(most, 1)) {}

  [[nodiscard]] const symbolic_graph& source() const { return graph_; }
  [[nodiscard]] std::size_t kept() const { return made_.size(); }

  /// Throws: `guard_error`.
  [[nodiscard]] std::vector<tensor_handle> operator()(std::span<const tensor_handle> arguments) {
    sizes at = graph_.sizes_of(arguments);
    auto found =
        std::find_if(made_.begin(), made_.end(), [&](const auto& m) { return m.first == at; });
    if (found == made_.end()) {
      callable made = backend_.compile(graph_.at(at));
      made_.emplace_front(std::move(at), std::move(made));
      if (made_.size() > most_) {
        made_.pop_back();
      }
    } else {
      made_.splice(made_.begin(), made_, found);
    }
    return made_.front().second(arguments);
  }
  template <Tensor... X>
  [[nodiscard]] std::vector<tensor_handle> operator()(const X&... arguments) {
    const std::array<tensor_handle, sizeof...(X)> all{arguments...};
    return (*this)(std::span<const tensor_handle>(all));
  }

 private:
  symbolic_graph graph_;
  Backend backend_;
  std::size_t most_;
  std::list<std::pair<sizes, callable>> made_;  ///< the latest first
};

}  // namespace ashlar::graph

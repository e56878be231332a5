// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/expression.hpp"
#include "ashlar/graph/graph.hpp"

/// One graph for a range of sizes.
///
/// A function is captured at a few sizes, which costs microseconds as nothing is computed. Where
/// the graphs have the same calls, their attributes are fitted as expressions of the sizes, and
/// shapes follow by `meta`. Where they have not, the graph is for one size, and says why.
namespace ashlar::graph {

/// A size with a name: an extent of one or several arguments that takes any value in a range.
struct symbol {
  struct place {
    int argument;  ///< among the tensors
    int axis;
  };
  std::string name;
  std::int64_t least = 1, most = 1;
  std::vector<place> places{};

  /// Returns: the same size as one more extent, axis `axis` of tensor `argument`.
  [[nodiscard]] symbol of(int argument, int axis) const {
    symbol more = *this;
    more.places.push_back({argument, axis});
    return more;
  }
};
/// `dim("T", 1, 2048).of(0, 1)`: axis 1 of the first argument.
[[nodiscard]] inline symbol dim(std::string name, std::int64_t least, std::int64_t most) {
  return {std::move(name), least, most};
}

/// What must hold for a graph to be the right one.
struct guard {
  std::string holds;    ///< `T == 16`
  std::string because;  ///< how the graph is another one otherwise
};

/// A graph, and how its attributes follow from sizes.
struct symbolic_graph {
  /// An attribute of a node, or one extent of it, that is not the same at all sizes.
  struct varying {
    std::size_t node, attribute;
    int extent;  ///< -1: the attribute itself
    expression is;
  };

  graph base;                   ///< at the sizes of the examples
  std::vector<symbol> symbols;  ///< with the ranges that the graph is for
  std::vector<varying> attributes;
  std::vector<guard> guards;  ///< where a range is less than was asked for

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const symbol& s : symbols) {
      all.push_back(s.name);
    }
    return all;
  }
  /// A node's attributes at some sizes.
  [[nodiscard]] std::vector<attribute> attributes_of(std::size_t node,
                                                     std::span<const std::int64_t> at) const {
    std::vector<attribute> all = base.nodes[node].attributes;
    for (const varying& v : attributes) {
      if (v.node != node) {
        continue;
      }
      attribute& a = all[v.attribute];
      if (v.extent >= 0) {
        auto extents = a.as<shape>();
        extents[v.extent] = v.is.whole(at);
        a = attribute(extents);
      } else if (v.is.real) {
        a = attribute(v.is.value(at));
      } else {
        a = attribute(v.is.whole(at));
      }
    }
    return all;
  }
  /// The graph at some sizes, which is what a capture there would give.
  ///
  /// Cost: a `meta` per node. Throws: what those throw.
  [[nodiscard]] graph at(std::span<const std::int64_t> size) const;
  /// Throws: `guard_error` where arguments disagree on a size or it is out of the graph's range.
  [[nodiscard]] sizes sizes_of(std::span<const tensor_handle> arguments) const;
};

inline graph symbolic_graph::at(std::span<const std::int64_t> size) const {
  graph g;
  int argument = 0;
  for (std::size_t i = 0; i < base.nodes.size(); ++i) {
    const node& n = base.nodes[i];
    if (n.kind == node_kind::call) {
      g.call(n.op, n.in, attributes_of(i, size), n.where);
      continue;
    }
    tensor_spec s = base.spec(n.out[0]);
    if (n.kind == node_kind::placeholder) {
      shape extents(s.shape());
      bool changed = false;
      for (std::size_t k = 0; k < symbols.size(); ++k) {
        for (const symbol::place& p : symbols[k].places) {
          if (p.argument == argument) {
            changed = changed || extents[p.axis] != size[k];
            extents[p.axis] = size[k];
          }
        }
      }
      if (changed) {
        s = contiguous_spec(s.type, extents.span());
      }
      ++argument;
    }
    g.add(n, std::array{s});
  }
  g.outputs = base.outputs;
  return g;
}

inline sizes symbolic_graph::sizes_of(std::span<const tensor_handle> arguments) const {
  sizes found;
  for (const symbol& s : symbols) {
    for (const symbol::place& p : s.places) {
      const auto a = static_cast<std::size_t>(p.argument);
      if (a >= arguments.size() || !arguments[a] || arguments[a].rank() <= p.axis) {
        throw guard_error(s.name + " is axis " + std::to_string(p.axis) + " of argument " +
                          std::to_string(p.argument));
      }
      const std::int64_t n = arguments[a].extent(p.axis);
      if (&p == &s.places[0]) {
        found.push_back(n);
      } else if (n != found.back()) {
        throw guard_error(s.name + " is one size, not " + std::to_string(found.back()) + " and " +
                          std::to_string(n));
      }
    }
    if (found.back() < s.least || found.back() > s.most) {
      std::string range = s.least == s.most ? s.name + " == " + std::to_string(s.least)
                                            : s.name + " from " + std::to_string(s.least) + " to " +
                                                  std::to_string(s.most);
      for (const guard& g : guards) {
        range += g.holds == range ? ", because " + g.because : "";
      }
      throw guard_error(range + "; it is " + std::to_string(found.back()));
    }
  }
  return found;
}

namespace detail {

/// How two graphs differ beside attributes and shapes, if they do.
[[nodiscard]] inline std::optional<std::string> structural_difference(const graph& a,
                                                                      const graph& b) {
  const auto named = [](std::size_t i, const node& n) {
    return "node " + std::to_string(i) +
           (n.op             ? " (" + std::string(n.op->name) + ")"
            : n.name.empty() ? ""
                             : " " + n.name);
  };
  const std::size_t common = std::min(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < common; ++i) {
    const node& x = a.nodes[i];
    const node& y = b.nodes[i];
    if (x.kind != y.kind || x.op != y.op) {
      return named(i, x) + " is " + named(i, y);
    }
    if (x.in != y.in) {
      return named(i, x) + " has other arguments";
    }
    if (x.data && &x.data.body()->root() != &y.data.body()->root()) {
      return named(i, x) +
             " is made anew in each capture; make it once outside, or with the arguments' type";
    }
    if (x.data && x.data.spec() != y.data.spec()) {
      return named(i, x) + " is " + to_string(x.data.shape()) + " and " + to_string(y.data.shape());
    }
  }
  if (a.nodes.size() != b.nodes.size()) {
    return "there are " + std::to_string(a.nodes.size()) + " nodes and " +
           std::to_string(b.nodes.size());
  }
  if (a.outputs != b.outputs) {
    return "other values come out";
  }
  return std::nullopt;
}

/// Makes one graph of several captures.
class generaliser {
 public:
  using capture_at = std::function<graph(const sizes&)>;

  generaliser(capture_at take, std::vector<symbol> all, sizes base)
      : take_(std::move(take)), base_(std::move(base)) {
    made_.symbols = std::move(all);
    made_.base = take_(base_);
  }
  symbolic_graph run() && {
    while (!attempt()) {
    }
    return std::move(made_);
  }

 private:
  /// A capture that differs: which symbol is to blame, and how.
  struct difference {
    std::size_t symbol;
    std::string how;
  };

  bool attempt() {
    made_.attributes.clear();
    points_ = {base_};
    graphs_ = {made_.base};
    std::vector<std::size_t> blamed{0};
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      for (const std::int64_t n : near(s)) {
        sizes there = base_;
        there[s] = n;
        points_.push_back(std::move(there));
        blamed.push_back(s);
      }
    }
    if (blamed.size() > 1 && blamed.back() != blamed[1]) {  // products show where both differ
      points_.push_back(beside());
      blamed.push_back(blamed.back());
    }
    for (std::size_t i = 1; i < points_.size(); ++i) {
      std::string how;
      if (!captured(points_[i], how)) {
        return give_up(blamed[i], how);
      }
    }
    for (std::size_t n = 0; n < made_.base.nodes.size(); ++n) {
      for (std::size_t a = 0; a < made_.base.nodes[n].attributes.size(); ++a) {
        for (std::size_t i = 1; i < points_.size(); ++i) {
          if (!(graphs_[i].nodes[n].attributes[a] == made_.base.nodes[n].attributes[a])) {
            if (!fit_attribute(n, a)) {
              return give_up(blamed[i], text_of(n, a) + " fits no expression of sizes");
            }
            break;
          }
        }
      }
    }
    return check_ends();
  }

  /// Two sizes beside the example's, which differ in their divisors.
  [[nodiscard]] std::vector<std::int64_t> near(std::size_t s) const {
    std::vector<std::int64_t> found;
    for (const std::int64_t step : {1, 3, 2, -1, -2}) {
      const std::int64_t n = base_[s] + step;
      if (found.size() < 2 && n >= made_.symbols[s].least && n <= made_.symbols[s].most) {
        found.push_back(n);
      }
    }
    return found;
  }
  /// All sizes others than the example's.
  [[nodiscard]] sizes beside() const {
    sizes there = base_;
    for (std::size_t s = 0; s < there.size(); ++s) {
      const std::vector<std::int64_t> all = near(s);
      there[s] = all.empty() ? there[s] : all[0];
    }
    return there;
  }
  /// Adds the capture at some sizes where it has the same calls.
  bool captured(const sizes& there, std::string& how) {
    try {
      graph g = take_(there);
      if (auto different = structural_difference(made_.base, g)) {
        how = std::move(*different);
        return false;
      }
      graphs_.push_back(std::move(g));
      return true;
    } catch (const std::exception& e) {
      how = e.what();
      return false;
    }
  }
  bool fit_attribute(std::size_t n, std::size_t a) {
    const auto each = [&](const auto& get) {
      std::vector<decltype(get(attribute()))> is;
      for (const graph& g : graphs_) {
        is.push_back(get(g.nodes[n].attributes[a]));
      }
      return is;
    };
    const auto keep = [&](int extent, std::optional<expression> e) {
      if (e) {
        made_.attributes.push_back({n, a, extent, std::move(*e)});
      }
      return e.has_value();
    };
    switch (made_.base.nodes[n].attributes[a].what()) {
      case attribute::kind::integer:
        return keep(-1,
                    fit(points_, each([](const attribute& x) { return x.as<std::int64_t>(); })));
      case attribute::kind::real:
        return keep(-1, fit(points_, each([](const attribute& x) { return x.as<double>(); })));
      case attribute::kind::extents: {
        const std::vector<shape> is = each([](const attribute& x) { return x.as<shape>(); });
        bool all = std::all_of(is.begin(), is.end(),
                               [&](const shape& x) { return x.rank() == is[0].rank(); });
        for (int k = 0; all && k < is[0].rank(); ++k) {
          std::vector<std::int64_t> extent;
          std::transform(is.begin(), is.end(), std::back_inserter(extent),
                         [&](const shape& x) { return x[k]; });
          if (std::any_of(extent.begin(), extent.end(),
                          [&](std::int64_t x) { return x != extent[0]; })) {
            all = keep(k, fit(points_, extent));
          }
        }
        return all;
      }
      default:
        return false;
    }
  }
  [[nodiscard]] std::string text_of(std::size_t n, std::size_t a) const {
    return "attribute " + std::to_string(a) + " of node " + std::to_string(n) + " (" +
           std::string(made_.base.nodes[n].op->name) + ")";
  }

  /// How the capture at some sizes differs from what the expressions say.
  [[nodiscard]] std::optional<std::string> differs(const sizes& there) const {
    try {
      const graph g = take_(there);
      if (auto how = structural_difference(made_.base, g)) {
        return how;
      }
      for (std::size_t n = 0; n < g.nodes.size(); ++n) {
        const std::vector<attribute> said = made_.attributes_of(n, there);
        for (std::size_t a = 0; a < said.size(); ++a) {
          if (!(said[a] == g.nodes[n].attributes[a])) {
            return text_of(n, a) + " is something else";
          }
        }
      }
      return std::nullopt;
    } catch (const std::exception& e) {
      return e.what();
    }
  }

  /// Sizes that are far away; where the graph is not for those, the range is as wide as can be.
  bool check_ends() {
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      symbol& here = made_.symbols[s];
      const symbol asked = here;
      std::string because;
      here.least = last_that_agrees(s, here.least, because);
      here.most = last_that_agrees(s, here.most, because);
      if (here.least != asked.least || here.most != asked.most) {
        made_.guards.push_back(
            {here.name + " from " + std::to_string(here.least) + " to " + std::to_string(here.most),
             because});
      }
    }
    sizes least, most;
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      least.push_back(made_.symbols[s].least);
      most.push_back(made_.symbols[s].most);
    }
    for (const sizes& corner : {beside(), least, most}) {
      if (const auto how = differs(corner)) {  // each alone agrees: the sizes depend on each other
        for (std::size_t s = made_.symbols.size(); s-- > 0;) {
          if (made_.symbols[s].least != made_.symbols[s].most) {
            return give_up(s, "with other sizes, " + *how);
          }
        }
      }
    }
    return true;
  }
  /// From the example's size towards `end`, by halves.
  [[nodiscard]] std::int64_t last_that_agrees(std::size_t s, std::int64_t end,
                                              std::string& because) const {
    sizes there = base_;
    there[s] = end;
    auto how = differs(there);
    if (!how) {
      return end;
    }
    std::int64_t good = base_[s];
    while (std::abs(end - good) > 1) {
      there[s] = good + (end - good) / 2;
      if (auto still = differs(there)) {
        end = there[s];
        how = std::move(still);
      } else {
        good = there[s];
      }
    }
    because += (because.empty() ? "" : "; ") + ("at " + std::to_string(end) + ", " + *how);
    return good;
  }
  bool give_up(std::size_t s, const std::string& how) {
    symbol& here = made_.symbols[s];
    std::erase_if(made_.guards,
                  [&](const guard& g) { return g.holds.starts_with(here.name + " "); });
    here.least = here.most = base_[s];
    made_.guards.push_back({here.name + " == " + std::to_string(base_[s]), how});
    return false;
  }

  capture_at take_;
  sizes base_;
  symbolic_graph made_;
  std::vector<sizes> points_;
  std::vector<graph> graphs_;
};

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

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/functionalise.hpp"
#include "ashlar/graph/passes/match.hpp"
#include "ashlar/graph/passes/propagate.hpp"
#include "ashlar/graph/recorder.hpp"

namespace ashlar::graph {

/// What `replace_pattern` made, and of what.
struct replaced {
  graph result;
  std::vector<match> matches;       ///< in the graph before
  std::vector<value_id> stand_ins;  ///< for each match the value of `result` in its place
};

namespace detail {

/// Captures `f` on placeholders like `specs`; examples give types, and what is no tensor.
template <class F, class... A>
graph capture_on(const F& f, const std::vector<tensor_spec>& specs, const A&... examples) {
  graph g;
  recorder to(g);
  std::size_t count = 0;
  const auto argument = [&]<class X>(const X& a) -> decltype(auto) {
    if constexpr (Tensor<X>) {
      const std::int32_t place =
          g.add({.kind = node_kind::placeholder, .name = "x" + std::to_string(count)},
                std::span(&specs[count], 1));
      ++count;
      return to.stand_in<capturable<X>>(g.nodes[static_cast<std::size_t>(place)].out[0]);
    } else {
      return (a);
    }
  };
  const std::tuple<decltype(argument(examples))...> arguments{argument(examples)...};
  const auto result = std::apply(f, arguments);
  each_tensor(result, [&](const auto& x) { g.outputs.push_back(to.value_of(x)); });
  return is_functional(g) ? g : functionalise(g);
}

/// The parameter or constant of `g` with the tensor of `n`, or `no_value`.
inline value_id find_data(const graph& g, const node& n) {
  for (const node& m : g.nodes) {
    if (m.kind == n.kind && m.data.body() == n.data.body()) {
      return m.out[0];
    }
  }
  return no_value;
}

/// Appends `part` to `to`, its placeholders being `arguments`. Returns: what stands for its output.
inline value_id insert(graph& to, const graph& part, const std::vector<value_id>& arguments,
                       std::source_location where) {
  copier map(part, to);
  std::size_t next = 0;
  for (const node& n : part.nodes) {
    if (n.kind == node_kind::placeholder) {
      map.set(n.out[0], arguments[next++]);
    } else if (const value_id known = n.data ? find_data(to, n) : no_value; known != no_value) {
      map.set(n.out[0], known);
    } else {
      call_again(map, to, n);
      to.nodes.back().where = where;
    }
  }
  return map(part.outputs[0]);
}

}  // namespace detail

/// Puts calls of `replacement` in the place of calls like those of `pattern`.
///
/// Both are ordinary functions of the same tensors, `[](const auto& x, const auto& y) {...}`, and
/// are captured on tensors like `examples` (no elements are read; arguments that are no tensors go
/// in as they are). Writes within them become functional calls, as `functionalise` makes them of
/// the graph. Matches are those of `find_matches`, for the shapes of each: extents among the
/// attributes are worked out again by capturing `pattern` and `replacement` on the values found.
/// Parameters that `replacement` uses become the graph's. Match by match, the guard is asked before
/// `replacement` is captured, which may use what the guard has found.
/// Requires: examples on the chip of the graph, of the element types to be found.
/// Returns:  the graph, the matches as they were before, and what stands in their place.
/// Throws:   `pattern_error` for a pattern with no call, not one output, or an argument that it
///           does not use; for a replacement whose result has another shape or type.
/// Source:   Reed et al., "torch.fx" (2022), `replace_pattern`.
template <class P, class R, class... A>
  requires(!std::is_same_v<P, graph>)
[[nodiscard]] replaced replace_pattern(const graph& g, const P& pattern, const R& replacement,
                                       const match_options& options, const A&... examples) {
  std::vector<tensor_spec> specs;
  const auto add_spec = [&]<class X>(const X& a) {
    if constexpr (Tensor<X>) {
      specs.push_back(a.spec());
      specs.back().offset = 0;
    }
  };
  (add_spec(examples), ...);
  const graph wanted = detail::capture_on(pattern, specs, examples...);
  const std::vector<std::vector<std::int32_t>> users = wanted.users();
  for (const value_id v : wanted.made_by(node_kind::placeholder)) {
    if (users[static_cast<std::size_t>(v)].empty()) {
      throw pattern_error("it does not use argument " + wanted.maker(v).name + "; leave that out");
    }
  }
  detail::matcher find(g, wanted);
  const auto specs_of = [&](const match& m) {
    std::vector<tensor_spec> found;
    for (const value_id v : m.arguments) {
      found.push_back(g.spec(v));
      found.back().offset = 0;
    }
    return found;
  };
  const effects& of = find.elements();
  std::vector<graph> parts;
  replaced all;
  all.matches = detail::matches_in_order(g, find, options, false, [&](match& m) {
    graph exact;
    try {
      exact = detail::capture_on(pattern, specs_of(m), examples...);
    } catch (const error&) {
      return false;  // the pattern is not for these shapes
    }
    match again;
    find.use(exact);
    const bool holds =
        find.at(m.anchor, options, true, again) && (!options.guard || options.guard(g, again));
    find.use(wanted);
    if (!holds || !std::is_permutation(again.nodes.begin(), again.nodes.end(), m.nodes.begin(),
                                       m.nodes.end())) {
      return false;
    }
    graph part = detail::capture_on(replacement, specs_of(again), examples...);
    if (part.outputs.size() != 1) {
      throw pattern_error("the replacement has " + std::to_string(part.outputs.size()) +
                          " outputs; it has one, as the pattern");
    }
    const value_id old = again.output;
    const tensor_spec& made = part.spec(part.outputs[0]);
    if (made.type != g.spec(old).type || !same_shape(made, g.spec(old))) {
      throw pattern_error("the replacement makes " + std::string(name_of(made.type)) +
                          to_string(made.shape()) + " where the pattern made " +
                          std::string(name_of(g.spec(old).type)) + to_string(g.spec(old).shape()));
    }
    if (effects(part).outside(part.outputs[0]) == (of.base(old) == old)) {
      // One has elements of its own, and the other does not: nobody must be able to notice.
      bool noticed = of.written(old) || of.shown(old);
      for (const value_id v : again.arguments) {
        noticed = noticed || of.written(v);
      }
      if (noticed) {
        return false;
      }
    }
    parts.push_back(std::move(part));
    m = std::move(again);
    return true;
  });

  std::vector<std::int32_t> match_of(g.nodes.size(), -1);
  for (std::size_t k = 0; k < all.matches.size(); ++k) {
    for (const std::int32_t n : all.matches[k].nodes) {
      if (n >= 0) {
        match_of[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(k);
      }
    }
  }
  copier to(g, all.result);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (match_of[i] < 0) {
      detail::call_again(to, all.result, g.nodes[i]);
      continue;
    }
    const auto k = static_cast<std::size_t>(match_of[i]);
    const match& m = all.matches[k];
    if (m.anchor != static_cast<std::int32_t>(i)) {
      continue;
    }
    std::vector<value_id> arguments;
    for (const value_id v : m.arguments) {
      arguments.push_back(to(v));
    }
    all.stand_ins.push_back(detail::insert(all.result, parts[k], arguments, g.nodes[i].where));
    to.set(m.output, all.stand_ins.back());
  }
  to.copy_outputs();
  return all;
}
/// The same without guards and wildcards.
template <class P, class R, Tensor First, class... A>
  requires(!std::is_same_v<P, graph>)
[[nodiscard]] replaced replace_pattern(const graph& g, const P& pattern, const R& replacement,
                                       const First& example, const A&... examples) {
  return replace_pattern(g, pattern, replacement, match_options{}, example, examples...);
}

}  // namespace ashlar::graph

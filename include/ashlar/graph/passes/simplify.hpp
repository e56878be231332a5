// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/overlap.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/effects.hpp"
#include "ashlar/ops/fwd.hpp"

namespace ashlar::graph {

namespace detail {

/// The rules of `simplify` on one graph.
class simplifier {
 public:
  explicit simplifier(const graph& g)
      : g_(g), of_(g), users_(g.users()), elements_(g.values.size()), comes_out_(g.values.size()) {
    for (std::size_t v = 0; v < g.values.size(); ++v) {
      elements_[v] = static_cast<value_id>(v);
      comes_out_[v] = of_.shown(static_cast<value_id>(v));
    }
  }

  /// The value that stands in the place of the only result of node `i` from now on, or `no_value`.
  /// Requires: nodes are asked for in order.
  [[nodiscard]] value_id same_as(std::size_t i) {
    const node& n = g_.nodes[i];
    if (n.kind != node_kind::call || n.op->writes != 0 || n.out.size() != 1 || n.in.empty()) {
      return no_value;
    }
    if (n.op->view) {
      return seen_before(n.out[0]);
    }
    const value_id x = equal_value(n, static_cast<std::int32_t>(i));
    if (x == no_value || !may_stand_for(n.out[0], x)) {
      return no_value;
    }
    const value_id e = elements_of(x);
    elements_[static_cast<std::size_t>(n.out[0])] = e;
    comes_out_[static_cast<std::size_t>(e)] =
        comes_out_[static_cast<std::size_t>(e)] || of_.shown(n.out[0]);
    return x;
  }

  /// An argument that the first argument of node `i` may be skipped for, or `no_value`.
  [[nodiscard]] value_id skipped_to(std::size_t i) const {
    const node& n = g_.nodes[i];
    if (n.kind != node_kind::call || n.op->writes != 0 || n.in.empty()) {
      return no_value;
    }
    const node& inner = g_.maker(n.in[0]);
    if (inner.kind != node_kind::call || inner.in.empty()) {
      return no_value;
    }
    if (n.op->view && inner.op->view) {
      return sees_the_same(n, inner.in[0]) ? inner.in[0] : no_value;
    }
    const bool even = is_call_of<ops::abs>(n) || is_call_of<ops::square>(n);
    return even && is_call_of<ops::neg>(inner) && exact(inner.in[0]) && still(n.in[0], i)
               ? inner.in[0]
               : no_value;
  }

 private:
  // ---- when one value may stand for another ----

  /// Arithmetic of the type neither rounds to another nor has NaNs of its own making.
  [[nodiscard]] bool exact(value_id v) const {
    const dtype t = g_.spec(v).type;
    return is_integer(t) || t == dtype::float32 || t == dtype::float64;
  }
  [[nodiscard]] static bool is_integer(dtype t) { return is_integral(t) && t != dtype::boolean; }
  /// Whether a call's result is still what it was, and so is the call's first argument, when node
  /// `at` runs.
  [[nodiscard]] bool still(value_id result, std::size_t at) const {
    const std::int32_t made = g_.values[static_cast<std::size_t>(result)].node;
    const value_id x = g_.nodes[static_cast<std::size_t>(made)].in[0];
    return !of_.written(result) &&
           of_.writes_before(x, made) == of_.writes_before(x, static_cast<std::int32_t>(at));
  }
  /// Whose elements `x` has by now.
  [[nodiscard]] value_id elements_of(value_id x) const {
    return elements_[static_cast<std::size_t>(of_.base(x))];
  }
  /// `y` has elements of its own; whether nobody would notice that they are those of `x`.
  [[nodiscard]] bool may_stand_for(value_id y, value_id x) const {
    const tensor_spec& a = g_.spec(y);
    const tensor_spec& b = g_.spec(x);
    const value_id e = elements_of(x);
    if (a.type != b.type || !same_shape(a, b) || !a.contiguous || !b.contiguous || of_.written(e) ||
        of_.written(y) ||
        (of_.shown(y) && (of_.outside(e) || comes_out_[static_cast<std::size_t>(e)]))) {
      return false;
    }
    // An argument may lie otherwise than the example did, and then some views of it are none.
    if (g_.maker(e).kind == node_kind::placeholder) {
      for (const std::int32_t user : users_[static_cast<std::size_t>(y)]) {
        if (g_.nodes[static_cast<std::size_t>(user)].op->view) {
          return false;
        }
      }
    }
    return true;
  }

  // ---- views ----

  /// The value that the view `v` came from, directly or not, and that it shows all of.
  [[nodiscard]] value_id seen_before(value_id v) const {
    for (value_id x = g_.maker(v).in[0];; x = g_.maker(x).in[0]) {
      if (g_.spec(x) == g_.spec(v) && !geometry::repeats_elements(g_.spec(x))) {
        return x;
      }
      const node& n = g_.maker(x);
      if (n.kind != node_kind::call || !n.op->view) {
        return no_value;
      }
    }
  }
  /// Whether the view `n` shows of `x` what it shows of its own argument, a view of `x`.
  [[nodiscard]] bool sees_the_same(const node& n, value_id x) const {
    const bool any_layout =
        !is_call_of<ops::view_as>(n) || g_.maker(elements_of(x)).kind != node_kind::placeholder;
    if (geometry::repeats_elements(g_.spec(x)) || !any_layout) {
      return false;
    }
    try {
      const tensor_spec whole = g_.spec(x);
      return n.op->meta(std::span(&whole, 1), n.attributes)[0] == g_.spec(n.out[0]);
    } catch (const error&) {
      return false;
    }
  }

  // ---- numbers ----

  /// The number that a tensor holds everywhere when node `at` runs.
  [[nodiscard]] std::optional<double> number(value_id v, std::int32_t at) const {
    const auto& writers = of_.writers(v);
    const node& n = g_.maker(v);
    if (writers.empty()) {
      return is_call_of<ops::fill>(n) ? std::optional(n.attributes[0].as<double>()) : std::nullopt;
    }
    const node& w = g_.nodes[static_cast<std::size_t>(writers[0])];
    const bool filled_once = writers.size() == 1 && writers[0] < at && is_blank(n) &&
                             is_call_of<ops::fill>(w) && w.op->form == form::in_place &&
                             w.in[0] == v;
    return filled_once ? std::optional(w.attributes[0].as<double>()) : std::nullopt;
  }
  [[nodiscard]] bool holds(value_id v, double wanted, std::int32_t at) const {
    const std::optional<double> x = number(v, at);
    if (!x) {
      return false;
    }
    return is_integer(g_.spec(v).type) ? std::trunc(*x) == wanted : same_bits(*x, wanted);
  }
  [[nodiscard]] static bool same_bits(double a, double b) {
    return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
  }

  [[nodiscard]] value_id equal_value(const node& n, std::int32_t at) const {
    const value_id x = n.in[0];
    const bool is_exact = exact(x);
    const bool integer = is_integer(g_.spec(x).type);
    const auto argument_of = [&](const auto& is_inner) -> value_id {
      const node& inner = g_.maker(x);
      return is_inner(inner) && still(x, static_cast<std::size_t>(at)) ? inner.in[0] : no_value;
    };
    if (is_call_of<ops::clone>(n)) {
      return x;
    }
    if (is_call_of<ops::copy>(n)) {
      return n.in[1];
    }
    if (is_cast(n)) {
      return g_.spec(n.out[0]).type == g_.spec(x).type ? x : argument_of([&](const node& inner) {
        return is_cast(inner) && widens(g_.spec(inner.in[0]).type, g_.spec(x).type) &&
               g_.spec(inner.in[0]).type == g_.spec(n.out[0]).type;
      });
    }
    if (is_call_of<ops::logical_not>(n)) {
      return argument_of([&](const node& inner) {
        return is_call_of<ops::logical_not>(inner) && g_.spec(inner.in[0]).type == dtype::boolean;
      });
    }
    if (is_call_of<ops::where>(n) && n.in[1] == n.in[2]) {
      return n.in[1];
    }
    if (!is_exact) {
      return no_value;
    }
    if (is_call_of<ops::neg>(n)) {
      return argument_of([](const node& inner) { return is_call_of<ops::neg>(inner); });
    }
    if (is_call_of<ops::relu>(n) || is_call_of<ops::abs>(n) || is_call_of<ops::sign>(n)) {
      return g_.maker(x).op && g_.maker(x).op->id == n.op->id && g_.maker(x).op->writes == 0
                 ? x
                 : no_value;
    }
    if ((is_call_of<ops::maximum>(n) || is_call_of<ops::minimum>(n)) && x == n.in[1]) {
      return x;
    }
    if (is_call_of<ops::pow>(n)) {
      return same_bits(n.attributes[0].as<double>(), 1.0) ? x : no_value;
    }
    if (is_call_of<ops::scale>(n)) {
      const double alpha = n.attributes[0].as<double>();
      const double beta = n.attributes[1].as<double>();
      const bool keeps = integer ? std::trunc(alpha) == 1.0 && std::trunc(beta) == 0.0
                                 : alpha == 1.0 && same_bits(beta, -0.0);
      return keeps ? x : no_value;
    }
    if (is_call_of<ops::sub>(n)) {
      return holds(n.in[1], 0.0, at) ? x : no_value;
    }
    if (is_call_of<ops::div>(n)) {
      return holds(n.in[1], 1.0, at) ? x : no_value;
    }
    if (is_call_of<ops::add>(n) || is_call_of<ops::mul>(n)) {
      const double neutral = is_call_of<ops::mul>(n) ? 1.0 : integer ? 0.0 : -0.0;
      return holds(n.in[1], neutral, at) ? x : holds(x, neutral, at) ? n.in[1] : no_value;
    }
    return no_value;
  }
  /// Whether every value of `from` is one of `to`, so that the way there and back changes nothing.
  [[nodiscard]] static bool widens(dtype from, dtype to) {
    return (from == dtype::float32 && to == dtype::float64) ||
           (is_integer(from) && to == dtype::int64) || (from == dtype::boolean && is_integer(to)) ||
           (from == dtype::boolean && to == dtype::float32);
  }

  const graph& g_;
  effects of_;
  std::vector<std::vector<std::int32_t>> users_;
  std::vector<value_id> elements_;  // of a base: the one in whose place it stands, or itself
  std::vector<bool> comes_out_;     // of a base, or what stands in its place
};

}  // namespace detail

/// Without calls whose result is an argument bit for bit, and without detours.
///
/// | call | in place of it | where |
/// |---|---|---|
/// | `x * 1`, `1 * x`, `x / 1`, `x ^ 1` | `x` | |
/// | `x + 0`, `0 + x` | `x` | integers; of floats only with -0, as -0 + 0 is 0 |
/// | `x - 0` | `x` | floats: not with -0 |
/// | `scale(x, 1, 0)` | `x` | integers; of floats only `scale(x, 1, -0)` |
/// | `-(-x)`, `!!b` | `x`, `b` | `b` of `bool` |
/// | `relu`, `abs`, `sign` of themselves | the inner call | |
/// | `abs(-x)`, `square(-x)` | `abs(x)`, `square(x)` | |
/// | `max(x, x)`, `min(x, x)`, `where(c, x, x)` | `x` | |
/// | `cast` to the own type, to a wider one and back | `x` | |
/// | `clone(x)`, `copy(y, x)` | `x` | `x` is dense |
/// | a view of a view | one view | the same operator says it |
/// | views that show what they came from | that | two transposes, `squeeze(unsqueeze)` ... |
///
/// Only float32, float64 and integers take part in arithmetic rules; a signalling NaN stays one
/// where the call would have made it quiet. A call stays where its result has to be a tensor of its
/// own: where someone writes to it or to the argument, or both come out.
/// Returns: the graph, with dead code where calls lost their readers.
[[nodiscard]] inline graph simplify(const graph& g) {
  detail::simplifier rules(g);
  graph now;
  copier to(g, now);
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    if (const value_id x = rules.same_as(i); x != no_value) {
      to.set(g.nodes[i].out[0], to(x));
    } else if (const value_id y = rules.skipped_to(i); y != no_value) {
      node n = g.nodes[i];
      n.in[0] = y;
      to.copy(n);
    } else {
      to.copy(g.nodes[i]);
    }
  }
  to.copy_outputs();
  return now;
}

}  // namespace ashlar::graph

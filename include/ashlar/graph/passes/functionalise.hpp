// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/passes/effects.hpp"
#include "ashlar/graph/passes/propagate.hpp"
#include "ashlar/ops/fwd.hpp"

namespace ashlar::graph {

/// A base with one of its views replaced: `with_view(base, part)` is a copy of `base` that shows
/// `part` where the view looks. What a write through a view becomes; attributes are the view's.
class with_view final : public operation {
 public:
  with_view(operation_ref view_of, operation_ref cloning_it, operation_ref copying_it)
      : view_(std::move(view_of)),
        clone_(std::move(cloning_it)),
        copy_(std::move(copying_it)),
        types_{view_->argument_types[0], view_->argument_types[0]},
        text_("with_" + std::string(view_->name)) {
    name = text_;
    argument_types = types_;
    result_types = std::span(types_).first(1);
    attribute_kinds = view_->attribute_kinds;
  }

  [[nodiscard]] const operation& view_of() const { return *view_; }
  void run(std::span<const tensor_handle> in, std::span<const attribute> attributes,
           std::span<tensor_handle> out) const override {
    std::array<tensor_handle, 2> parts;
    clone_->run(in.first(1), {}, out);
    view_->run(out, attributes, std::span(parts).first(1));
    parts[1] = in[1];
    copy_->run(parts, {}, {});
  }
  [[nodiscard]] std::vector<tensor_spec> meta(
      std::span<const tensor_spec> in, std::span<const attribute> attributes) const override {
    std::vector<tensor_spec> whole = clone_->meta(in.first(1), {});
    const tensor_spec part = view_->meta(whole, attributes)[0];
    if (!same_shape(part, in[1])) {
      throw shape_error(name, part.shape(), in[1].shape(), "the part must have the view's shape");
    }
    return whole;
  }
  [[nodiscard]] operation_ref cloning() const override { return clone_; }

 private:
  operation_ref view_, clone_, copy_;
  std::array<dtype, 2> types_;
  std::string text_;
};

namespace detail {

class functionaliser {
 public:
  explicit functionaliser(const graph& g)
      : g_(g),
        of_(g),
        copy_(g, to_),
        literal_(g.values.size()),
        now_(g.values.size(), no_value),
        seen_(g.values.size(), {no_value, no_value}),
        tools_(g.values.size(), nullptr) {
    find_literal();
  }

  graph run() {
    for (const node& n : g_.nodes) {
      const bool plain = n.kind != node_kind::call || n.op->writes == 0;
      if (plain) {
        if (n.kind != node_kind::call) {
          copy_.copy(n);
        } else if (!n.op->view || !changed(n.in[0])) {
          call(n);
        }  // a view of what has changed is made where it is asked for
      } else if (literal_[base(n.in[0])] || !n.op->functional()) {
        call(n);
      } else {
        write(n);
      }
    }
    finish();
    return std::move(to_);
  }

 private:
  [[nodiscard]] std::size_t base(value_id v) const { return static_cast<std::size_t>(of_.base(v)); }
  /// Whether a functional call has taken the place of the elements of `v`.
  [[nodiscard]] bool changed(value_id v) const { return now_[base(v)] != no_value; }

  /// Elements that two parameters look at stay as they are: neither is a view of the other here.
  void find_literal() {
    for (const value_id v : g_.made_by(node_kind::parameter)) {
      literal_[base(v)] = literal_[base(v)] || of_.base(v) != v;
    }
    for (const node& n : g_.nodes) {
      each_written(n, [&](value_id v) {
        if (n.op->functional() && tools_[base(v)] == nullptr) {
          tools_[base(v)] = n.op.get();
          literal_[base(v)] = literal_[base(v)] || !n.op->cloning() || !n.op->copying();
        }
      });
    }
  }

  void call(const node& n) {
    std::vector<value_id> in;
    for (const value_id v : n.in) {
      in.push_back(value(v));
    }
    const std::vector<value_id> made =
        n.op->view ? std::vector{look(to_, n, in[0])} : to_.call(n.op, in, n.attributes, n.where);
    for (std::size_t r = 0; r < made.size(); ++r) {
      copy_.set(n.out[r], made[r]);
    }
  }
  /// What stands for `v` in the new graph at this point.
  value_id value(value_id v) {
    if (!changed(v)) {
      return copy_(v);
    }
    const value_id whole = now_[base(v)];
    if (of_.base(v) == v) {
      return whole;
    }
    auto& [of_whole, seen] = seen_[static_cast<std::size_t>(v)];
    if (of_whole != whole) {
      const node& n = g_.maker(v);
      seen = look(to_, n, value(n.in[0]));
      of_whole = whole;
    }
    return seen;
  }

  void write(const node& n) {
    const value_id self = n.in[0];
    const bool out = n.op->form == form::out;
    std::vector<value_id> in;
    for (std::size_t a = out ? 1 : 0; a < n.in.size(); ++a) {
      in.push_back(value(n.in[a]));
    }
    const value_id made = to_.call(n.op->functional(), in, n.attributes, n.where)[0];
    if (!same_shape(to_.spec(made), g_.spec(self))) {
      throw shape_error(n.op->name, to_.spec(made).shape(), g_.spec(self).shape(),
                        "what is written has another shape than where it goes");
    }
    now_[base(self)] = replaced(self, made, n);
  }
  /// The elements of the base once `v`, a look at them, shows `part`.
  value_id replaced(value_id v, value_id part, const node& writer) {
    const node& view = g_.maker(v);
    if (of_.base(v) == v) {
      return part;
    }
    operation_ref& op = with_[view.op.get()];
    if (!op) {
      op = std::make_shared<with_view>(view.op, writer.op->cloning(), writer.op->copying());
    }
    const value_id from = view.in[0];
    const value_id whole = to_.call(op, {value(from), part}, view.attributes, writer.where)[0];
    return replaced(from, whole, writer);
  }

  /// What outlives the run is written where it was, and outputs that looked there look there.
  void finish() {
    for (std::size_t b = 0; b < now_.size(); ++b) {
      const auto v = static_cast<value_id>(b);
      if (now_[b] != no_value && of_.outside(v) && g_.spec(v).size > 0) {
        to_.call(tools_[b]->copying(), {copy_(v), now_[b]});
        now_[b] = no_value;
        put_back_.push_back(v);
      }
    }
    for (const value_id v : put_back_) {  // views made of old values show new ones from now on
      now_[static_cast<std::size_t>(v)] = copy_(v);
    }
    for (const value_id v : g_.outputs) {
      to_.outputs.push_back(value(v));
    }
  }

  const graph& g_;
  effects of_;
  graph to_;
  copier copy_;
  std::vector<bool> literal_;  // of a base: writes stay
  std::vector<value_id> now_;  // of a base that has changed: its elements in the new graph
  std::vector<std::pair<value_id, value_id>> seen_;  // of a view: the latest look, and at what
  std::vector<const operation*> tools_;              // of a base: someone who writes to it
  std::map<const operation*, operation_ref> with_;
  std::vector<value_id> put_back_;
};

}  // namespace detail

/// The same graph without writes to what it makes itself.
///
/// In-place and `out=` calls become functional ones, and whoever reads later reads their results.
/// A write through a view becomes a new base, by `with_view`, and other views look at that. Writes
/// to placeholders and parameters become one `copy.in_place` each at the end; outputs that looked
/// at those still do. Left as they are: operators without a schema, which do not say what they
/// write, and writes to parameters that share elements with another one.
/// Requires: placeholders share no elements, and no parameter looks at a placeholder's.
/// Throws:   `shape_error` where an `out=` call would have replaced its output.
/// Cost:     linear, and as many copies of bases at run time as there are writes through views.
[[nodiscard]] inline graph functionalise(const graph& g) { return detail::functionaliser(g).run(); }

/// Whether nothing writes but `copy.in_place` to what outlives the run, after all else, and
/// operators without a schema.
[[nodiscard]] inline bool is_functional(const graph& g) {
  const effects of(g);
  bool ending = false;
  for (const node& n : g.nodes) {
    if (n.kind != node_kind::call) {
      continue;
    }
    const bool writes = n.op->writes != 0;
    const bool last_copy = writes && is_call_of<ops::copy>(n) && n.op->form == form::in_place &&
                           of.base(n.in[0]) == n.in[0] && of.outside(n.in[0]);
    if (last_copy) {
      ending = true;
    } else if ((writes && n.op->functional()) || (ending && !n.op->view)) {
      return false;
    }
  }
  return true;
}

}  // namespace ashlar::graph

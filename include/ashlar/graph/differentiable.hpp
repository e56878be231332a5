// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/autograd/leaf.hpp"
#include "ashlar/autograd/record.hpp"
#include "ashlar/autograd/saved.hpp"
#include "ashlar/autograd/typed_node.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/dead_code.hpp"
#include "ashlar/graph/passes/functionalise.hpp"
#include "ashlar/graph/passes/split_joint.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"

/// Compiled functions through which gradients flow.
namespace ashlar::graph {

namespace detail {

/// A tensor from outside, and whether a gradient of it was wanted.
struct outside_tensor {
  tensor_handle value;
  bool wanted;
};

/// A forward graph, the backward graph of the same capture, and whose gradients that makes.
struct two_graphs {
  using callable = std::function<std::vector<tensor_handle>(std::span<const tensor_handle>)>;

  guards must_hold;
  std::vector<bool> wanted;               ///< which tensor arguments want a gradient
  std::vector<outside_tensor> outside{};  ///< those that could want one
  callable forward{};                     ///< the result, then what is kept
  callable backward{};  ///< of what was kept and the result's gradient; null: there is none
  std::vector<tensor_handle> parameters{};  ///< leaves from outside that want gradients
  std::vector<tensor_handle> given{};       ///< what the forward graph has from outside
  std::vector<tensor_handle> read{};        ///< what the backward graph does
};

/// One call, as the tape has it. Its edges are those of the arguments that want gradients, then
/// those of the parameters: the backward graph's results.
template <class Y>
class compiled_call final : public autograd::typed_node<Y> {
  using kept_tensor = autograd::detail::saved_tensor<tensor_handle>;
  static constexpr std::string_view called = "compiled function";

 public:
  compiled_call(const tensor_spec& result, const std::shared_ptr<const two_graphs>& graphs,
                const std::vector<ref<autograd::node>>& edges,
                const std::vector<tensor_handle>& kept)
      : autograd::typed_node<Y>(called, result), graphs_(graphs), edges_(edges) {
    this->next = std::span(edges_);
    this->sequence = autograd::detail::next_sequence(this->next);
    for (const tensor_handle& x : kept) {
      kept_.emplace_back(x);
    }
    for (const tensor_handle& x : graphs->read) {
      read_.emplace_back(x);
    }
  }

  void apply(autograd::sender& to, tensor_handle& cotangent) override {
    if (grad_enabled()) {
      throw capture_error("differentiable",
                          "the backward pass of a compiled function is not recorded; call the "
                          "function itself where gradients of gradients are wanted");
    }
    if (released_) {
      throw not_recordable(called,
                           "a backward pass released what this node saved; pass retain_graph");
    }
    for (const kept_tensor& x : read_) {
      static_cast<void>(x.checked(called, "a tensor from outside"));
    }
    std::vector<tensor_handle> given;
    for (const kept_tensor& x : kept_) {
      given.push_back(x.checked(called, "a saved tensor"));
    }
    const Y seed(std::move(cotangent));
    given.push_back(seed.contiguous() ? seed : call<ops::clone>(seed));
    std::vector<tensor_handle> made = graphs_->backward(given);
    for (std::size_t i = 0; i < edges_.size(); ++i) {
      if (to.wanted(i)) {
        to.send(i, std::move(made[i]));
      }
    }
  }
  void release() noexcept override {
    kept_.clear();
    read_.clear();
    released_ = true;
  }
  void destroy() noexcept override { this->destroy_as(this); }

 private:
  std::shared_ptr<const two_graphs> graphs_;
  std::vector<ref<autograd::node>> edges_;
  std::vector<kept_tensor> kept_{}, read_{};
  bool released_ = false;
};

/// A leaf that collects gradients of its own for as long as this lives: the user's, and its hooks,
/// see nothing.
template <class Y>
class own_gradient {
 public:
  explicit own_gradient(const Y& leaf)
      : leaf_(leaf), before_(leaf.template state<keys::autograd>()) {
    autograd::detail::set_gradient(leaf_, autograd::make_node<autograd::accumulate_grad<Y>>(leaf_));
  }
  own_gradient(const own_gradient&) = delete;
  own_gradient& operator=(const own_gradient&) = delete;
  ~own_gradient() { leaf_.template state<keys::autograd>() = before_; }

 private:
  Y leaf_;
  key_state<keys::autograd> before_;
};

/// Throws: `capture_error` where gradients would flow past `leaves`.
inline void expect_ends(autograd::node& root, std::span<autograd::node* const> leaves) {
  std::set<autograd::node*> seen{&root};
  std::vector<autograd::node*> ahead{&root};
  while (!ahead.empty()) {
    autograd::node& n = *ahead.back();
    ahead.pop_back();
    if (n.is_leaf() && std::find(leaves.begin(), leaves.end(), &n) == leaves.end()) {
      throw capture_error("differentiable",
                          "gradients would flow into a tensor from outside that is no leaf of the "
                          "result's type, or has another one over its elements; make it an "
                          "argument");
    }
    for (const ref<autograd::node>& m : n.next) {
      if (m && seen.insert(m.get()).second) {
        ahead.push_back(m.get());
      }
    }
  }
}

}  // namespace detail

/// A function of tensors that returns one, captured with its backward pass and compiled as two
/// graphs: the first makes the result and what is kept for the second (`split_joint`). On the tape
/// a call is one operation.
///
/// Gradients flow into arguments, and into leaves that `f` reads from outside, as modules do. A
/// graph is for the types, shapes and strides of `compiled`, and for which arguments and outside
/// tensors want gradients. Passes may run on several threads; calls may not.
/// Requires: a stack with `through<keys::capture>`; outside tensors that want gradients are of that
///           stack; what `f` writes to is its own.
/// Throws:   as `capture`, also where an outside tensor that wants a gradient is no leaf of the
///           result's type; in the backward pass `modified_in_place`, `not_recordable` where an
///           earlier one has released what was kept, and `capture_error` where that would have to
///           be recorded.
template <class F, class B = eager>
class differentiable {
 public:
  explicit differentiable(F f, B backend = {}, std::size_t entries = 8)
      : f_(std::move(f)), backend_(std::move(backend)), most_(std::max<std::size_t>(entries, 1)) {}

  template <class... A>
  auto operator()(const A&... args) -> std::invoke_result_t<const F&, const A&...> {
    using Y = std::invoke_result_t<const F&, const A&...>;
    static_assert(Recorded<Y> && contains<typename Y::keys, keys::capture>,
                  "ashlar::graph::differentiable: the function returns one tensor of a stack with "
                  "`differentiate` and `through<keys::capture>`");
    detail::call_seen now{
        &detail::signature_id<A...>, detail::switched_off(call_keys<A...>{}), {}, {}};
    std::vector<bool> wanted;
    const auto look = [&]<class X>(const X& x) {
      if constexpr (Tensor<X>) {
        wanted.push_back(grad_enabled() && requires_grad(x));
        now.tensors.push_back(x);
      } else {
        now.others.emplace_back(x);
      }
    };
    (look(args), ...);
    const entry graphs = graphs_for<Y>(now, wanted, args...);
    std::vector<tensor_handle> made = [&] {
      const no_grad off;
      return graphs->forward(now.tensors);
    }();
    Y y(std::move(made[0]));
    if (graphs->backward) {
      made.erase(made.begin());
      put_on_tape(y, graphs, made, now.tensors, args...);
    }
    return y;
  }

  /// How often a graph was captured.
  [[nodiscard]] std::size_t compiled() const { return compiled_; }

 private:
  using entry = std::shared_ptr<const detail::two_graphs>;

  /// Those of an earlier call that was alike, or new ones: the first of `entries_` from now on.
  template <class Y, class... A>
  const entry& graphs_for(const detail::call_seen& now, const std::vector<bool>& wanted,
                          const A&... args) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) {
      bool good = e->wanted == wanted &&
                  std::all_of(e->outside.begin(), e->outside.end(),
                              [](const auto& o) { return wants<Y>(o.value) == o.wanted; });
      e->must_hold.check(now, [&](const auto&) {
        good = false;
        return true;
      });
      return good;
    });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return entries_.front();
    }
    ++compiled_;
    entries_.push_front(make<Y>(now, wanted, args...));
    if (entries_.size() > most_) {
      entries_.pop_back();
    }
    return entries_.front();
  }
  /// Makes `y` the result of one operation, for which `kept` is kept.
  template <class Y, class... A>
  static void put_on_tape(Y& y, const entry& graphs, const std::vector<tensor_handle>& kept,
                          const std::vector<tensor_handle>& given, const A&... args) {
    std::vector<ref<autograd::node>> edges;
    std::size_t tensor = 0;
    const auto add_edge = [&]<class X>(const X& x) {
      if constexpr (Tensor<X>) {
        if (graphs->wanted[tensor++]) {
          edges.push_back(autograd::detail::edge_of(x));
        }
      }
    };
    (add_edge(args), ...);
    for (const tensor_handle& p : graphs->parameters) {
      edges.push_back(autograd::detail::edge_of(Y(p)));
    }
    // A result that is somebody else's, or is kept, goes on in a body of its own.
    const auto among = [&](const std::vector<tensor_handle>& all) {
      return std::any_of(all.begin(), all.end(),
                         [&](const tensor_handle& x) { return x.body() == y.body(); });
    };
    if (among(given) || among(graphs->given)) {
      y = autograd::detail::with_gradient(y, {});
    } else if (among(kept)) {
      autograd::detail::give_alias(y);
    }
    const auto node = autograd::make_node<detail::compiled_call<Y>>(y.spec(), graphs, edges, kept);
    autograd::detail::locate(*node);
    autograd::detail::set_gradient(y, node);
  }
  template <class Y, class... A>
  entry make(const detail::call_seen& now, const std::vector<bool>& wanted, const A&... args) {
    auto made = std::make_shared<detail::two_graphs>(detail::guards(now), wanted);
    const graph plain = [&] {
      const no_grad off;
      return capture(f_, args...);
    }();
    std::vector<Y> parameters;
    for (const node& n : plain.nodes) {
      if (!n.data || n.data.body()->type != &body_of<typename Y::keys>::runtime_type ||
          !is_floating(n.data.spec().type)) {
        continue;
      }
      made->outside.push_back({n.data, wants<Y>(n.data)});
      if (made->outside.back().wanted && n.data.spec().type == element_type<Y>) {
        const Y p(n.data);
        const auto same = [&](const Y& q) { return q.body() == p.body(); };
        if (is_leaf(p) && std::none_of(parameters.begin(), parameters.end(), same)) {
          parameters.push_back(p);
        }
      }
    }
    made->parameters.assign(parameters.begin(), parameters.end());
    const bool any =
        std::any_of(made->outside.begin(), made->outside.end(), [](auto& o) { return o.wanted; });
    if (!any && std::find(wanted.begin(), wanted.end(), true) == wanted.end()) {
      made->forward = shared(backend_.compile(plain));
      return made;
    }
    const Y seed = empty<Y>(shape(plain.spec(plain.outputs[0]).shape()));
    const graph joint = [&] {
      std::list<detail::own_gradient<Y>> own;
      for (const Y& p : parameters) {
        own.emplace_back(p);
      }
      return capture(
          [&](const auto&... all) { return both_ways<Y>(parameters, wanted, std::tie(all...)); },
          args..., seed);
    }();
    const split two = split_joint(dead_code(functionalise(joint)), 1, 1);
    const auto data_of = [](const graph& g) {
      std::vector<tensor_handle> all;
      for (const node& n : g.nodes) {
        if (n.data) {
          all.push_back(n.data);
        }
      }
      return all;
    };
    made->given = data_of(two.forward);
    made->read = data_of(two.backward);
    made->forward = shared(backend_.compile(two.forward));
    made->backward = shared(backend_.compile(two.backward));
    return made;
  }
  /// Whether calls on a tensor from outside, whatever its elements, are recorded now.
  template <class Y>
  static bool wants(const tensor_handle& x) {
    return grad_enabled() && requires_grad(Y(x));
  }
  /// The result, then the gradients of arguments and parameters. The last of `all` is the result's.
  template <class Y, class... X>
  std::vector<Y> both_ways(const std::vector<Y>& parameters, const std::vector<bool>& wanted,
                           const std::tuple<X...>& all) const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      std::size_t tensor = 0;
      std::vector<autograd::node*> leaves;
      const auto want = [&](const auto& x) {
        using T = std::remove_cvref_t<decltype(x)>;
        if constexpr (Tensor<T>) {
          if constexpr (Recorded<T>) {
            if (wanted[tensor]) {
              require_grad(x);
              leaves.push_back(&autograd::node_of(x, "differentiable"));
            }
          }
          ++tensor;
        }
      };
      (want(std::get<I>(all)), ...);
      for (const Y& p : parameters) {
        leaves.push_back(&autograd::node_of(p, "differentiable"));
      }
      const Y y = f_(std::get<I>(all)...);
      if (requires_grad(y)) {
        detail::expect_ends(autograd::node_of(y, "differentiable"), leaves);
        backward(y, Y(std::get<sizeof...(I)>(all)));
      }
      std::vector<Y> out{detach(y)};
      tensor = 0;
      const auto take = [&](const auto& x) {
        using T = std::remove_cvref_t<decltype(x)>;
        if constexpr (Tensor<T>) {
          if constexpr (Recorded<T>) {
            if (wanted[tensor]) {
              out.push_back(defined(Y(gradient(x)), x.shape()));
            }
          }
          ++tensor;
        }
      };
      (take(std::get<I>(all)), ...);
      for (const Y& p : parameters) {
        out.push_back(defined(gradient(p), p.shape()));
      }
      return out;
    }(std::make_index_sequence<sizeof...(X) - 1>{});
  }
  /// Zeros where nothing depends on an argument.
  template <class Y>
  static Y defined(const Y& g, std::span<const std::int64_t> extents) {
    return g ? g : zeros<Y>(shape(extents));
  }
  /// One run at a time: a backend may have one arena for all.
  template <class Callable>
  static auto shared(Callable made) {
    struct one_at_a_time {
      Callable run;
      std::mutex turn{};
      explicit one_at_a_time(Callable made_of) : run(std::move(made_of)) {}
    };
    return [held = std::make_shared<one_at_a_time>(std::move(made))](
               std::span<const tensor_handle> x) {
      const std::lock_guard hold(held->turn);
      return held->run(x);
    };
  }

  F f_;
  B backend_;
  std::size_t most_;
  std::size_t compiled_ = 0;
  std::list<entry> entries_;  ///< the latest first
};

}  // namespace ashlar::graph

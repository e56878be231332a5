// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/saved.hpp"
#include "ashlar/autograd/typed_node.hpp"
#include "ashlar/config.hpp"
#include "ashlar/dispatch/derivative.hpp"

namespace ashlar::autograd {

namespace detail {

struct unsaved {};

template <class Op>
inline constexpr unsigned all_needs = [] {
  unsigned all = 0;
  for (const unsigned n : Op::derivative::needs) {
    all |= n;
  }
  return all;
}();
template <class Op, unsigned Bit>
inline constexpr bool ever_needed = (all_needs<Op> & Bit) != 0;

/// What a node keeps of an argument: a tensor if some gradient needs it, an attribute as it is.
template <class Op, class A, unsigned Bit>
struct slot {
  using type = A;
};
template <class Op, Tensor A, unsigned Bit>
struct slot<Op, A, Bit> {
  using type = std::conditional_t<ever_needed<Op, Bit>, saved_tensor<A>, unsaved>;
};

/// Tensor arguments are kept with the call's full key set, so that one node type serves all
/// mixtures.
template <class A, class Full>
struct recorded {
  using type = std::remove_cv_t<A>;
};
template <Tensor A, class Full>
struct recorded<A, Full> {
  using type = tensor<typename A::value_type, Full>;
};

/// Looks again at elements that a recorded call has written to.
template <class A>
[[gnu::noinline]] void follow(const A& x) {
  auto& s = x.template state<keys::autograd>();
  const tensor_body& root = x.body()->root();
  s.epoch = root.epoch;
  if (s.from == lineage::own && root.history) {
    s.gradient = static_cast<const history&>(*root.history).look(root.spec, x.spec());
  }
}

/// Whether a gradient of `x` is wanted.
template <class A>
[[nodiscard]] ASHLAR_INLINE bool wants_gradient(const A& x) {
  if constexpr (FloatingTensor<A> && requires { x.template state<keys::autograd>(); }) {
    if (!x) {
      return false;  // an output that is still to be made
    }
    auto& s = x.template state<keys::autograd>();
    if (x.body()->root().epoch != s.epoch) [[unlikely]] {
      follow(x);
    }
    return static_cast<bool>(s.gradient);
  } else {
    return false;
  }
}
/// Of several outputs: whether one of them does.
template <class... X>
[[nodiscard]] bool wants_gradient(const std::tuple<X...>& outs) {
  return std::apply([](const auto&... x) { return (wants_gradient(x) || ...); }, outs);
}

/// The gradient edge of an argument.
template <class A>
[[nodiscard]] ASHLAR_INLINE ref<node> edge_of(const A& x) {
  if constexpr (FloatingTensor<A> && requires { x.template state<keys::autograd>(); }) {
    return wants_gradient(x) ? x.template state<keys::autograd>().gradient : ref<node>{};
  } else {
    return {};
  }
}
template <class Out>
ASHLAR_INLINE void set_gradient(const Out& out, ref<node> n) {
  auto& s = out.template state<keys::autograd>();
  s.gradient = std::move(n);
  s.epoch = out.body()->root().epoch;
}
/// The same elements in a body of their own, with the gradient `n`.
template <class X>
[[nodiscard]] X with_gradient(const X& x, ref<node> n) {
  if constexpr (FloatingTensor<X> && requires { x.template state<keys::autograd>(); }) {
    X y = alias_of(x);
    y.template state<keys::autograd>().from = lineage::outside;
    set_gradient(y, std::move(n));
    return y;
  } else {
    return x;
  }
}

/// Whether result number `K` of several is kept where results are needed.
template <class Op>
consteval bool keeps_output(std::size_t k) {
  if constexpr (requires { Op::derivative::kept; }) {
    constexpr auto& kept = Op::derivative::kept;
    return std::find(kept.begin(), kept.end(), static_cast<int>(k)) != kept.end();
  } else {
    return ever_needed<Op, result_tag::bit>;
  }
}

/// What is saved of a result: of each output where there are several.
template <class Op, class Result>
struct result_slot {
  using type = typename slot<Op, Result, result_tag::bit>::type;
};
template <class Op, class... Out>
struct result_slot<Op, std::tuple<Out...>> {
  using type = typename decltype([]<std::size_t... K>(std::index_sequence<K...>) {
    return std::type_identity<
        std::tuple<std::conditional_t<keeps_output<Op>(K), saved_tensor<Out>, unsaved>...>>{};
  }(std::index_sequence_for<Out...>{}))::type;
};

template <class Result>
inline constexpr std::size_t outputs_of = 1;
template <class... Out>
inline constexpr std::size_t outputs_of<std::tuple<Out...>> = sizeof...(Out);

/// The base of a node: what collects its result's cotangent, which is nobody where ports do.
template <class Result>
struct base_of {
  using type = typed_node<Result>;
};
template <class First, class... Out>
struct base_of<std::tuple<First, Out...>> {
  using type = typed_node<First>;
};

}  // namespace detail

/// The record of one call: edges to where its arguments came from, and what their gradients need.
template <class Op, class Result, class Indices, class... A>
class op_node;
template <class Op, class Result, std::size_t... I, class... A>
class op_node<Op, Result, std::index_sequence<I...>, A...> final
    : public detail::base_of<Result>::type {
  using base = typename detail::base_of<Result>::type;
  static constexpr std::size_t tensors = (0 + ... + std::size_t{Tensor<A>});
  static constexpr auto needs = [] {
    // Variadic operators say once what each of their tensors needs.
    std::array<unsigned, tensors> each{};
    for (std::size_t i = 0; i < tensors; ++i) {
      each[i] = Op::derivative::needs[std::min(i, Op::derivative::needs.size() - 1)];
    }
    return each;
  }();
  static constexpr bool several = !Tensor<Result>;

 public:
  template <std::size_t J>
  using argument = std::tuple_element_t<J, std::tuple<A...>>;
  static constexpr std::size_t tensor_count = tensors;

  template <class... Args>
  explicit op_node(const tensor_spec& output, const Args&... args)
      : base(Op::name, output), edges_{detail::edge_of(args)...} {
    for (std::size_t i = 0; i < tensors; ++i) {
      needs_ |= edges_[i] ? needs[i] : 0;
    }
    this->next = std::span(edges_).template first<tensors>();
    this->sequence = detail::next_sequence(this->next);
    (keep<I>(args), ...);
  }

  [[nodiscard]] bool needs_result() const { return (needs_ & result_tag::bit) != 0; }
  /// Requires: `x` wants no gradient, else the node would own itself.
  void keep_result(const Result& x) {
    if constexpr (several && detail::ever_needed<Op, result_tag::bit>) {
      const auto keep_one = [&]<std::size_t K>(std::integral_constant<std::size_t, K>) {
        if constexpr (detail::keeps_output<Op>(K)) {
          save(tensors + K, std::get<K>(result_), std::get<K>(x));
        }
      };
      [&]<std::size_t... K>(std::index_sequence<K...>) {
        (keep_one(std::integral_constant<std::size_t, K>{}), ...);
      }(std::make_index_sequence<std::tuple_size_v<Result>>{});
    } else if constexpr (detail::ever_needed<Op, result_tag::bit>) {
      save(tensors, result_, x);
    }
  }
  /// The shapes of several outputs, for the zeros that stand for cotangents that do not come.
  void keep_shapes(const Result& x) {
    if constexpr (several) {
      shapes_ =
          std::apply([](const auto&... each) { return decltype(shapes_){each.spec()...}; }, x);
    }
  }

  void apply(sender& to, tensor_handle& cotangent) override {
    if (released_ && needs_ != 0) {
      throw not_recordable(Op::name,
                           "a backward pass released what this node saved; pass retain_graph");
    }
    if (packed_) [[unlikely]] {
      unpack();
    }
    if constexpr (several) {
      send_all(to, cotangents(to));
    } else {
      send_all(to, Result(std::move(cotangent)));
    }
    if (packed_) [[unlikely]] {
      drop();
    }
  }
  void release() noexcept override {
    drop();
    packed_.reset();
    released_ = true;
  }
  void destroy() noexcept override { this->destroy_as(this); }

  // ---- what a derivative sees ----

  template <int J>
  [[nodiscard]] const auto& operator()(argument_tag<J>) const {
    constexpr auto at = static_cast<std::size_t>(J);
    if constexpr (Tensor<argument<at>>) {
      return std::get<at>(saved_).checked(Op::name, name_of_argument(at));
    } else {
      return std::get<at>(saved_);
    }
  }
  /// Of an operator with several results: a tuple, with empty handles of those that are not kept.
  [[nodiscard]] Result operator()(result_tag) const {
    const ref<node> self = ref<node>::share(const_cast<op_node*>(this));
    if constexpr (several) {
      return [&]<std::size_t... K>(std::index_sequence<K...>) {
        return Result{output<K>(self)...};
      }(std::make_index_sequence<std::tuple_size_v<Result>>{});
    } else {
      const Result& x = result_.checked(Op::name, "result");
      return grad_enabled() ? detail::with_gradient(x, self) : x;
    }
  }
  template <int J>
  [[nodiscard]] ashlar::shape shape(argument_tag<J>) const {
    constexpr auto at = static_cast<std::size_t>(J);
    if constexpr (detail::ever_needed<Op, argument_tag<J>::bit>) {
      if (std::get<at>(saved_).value) {
        return ashlar::shape(std::get<at>(saved_).value.shape());
      }
    }
    return ashlar::shape(edges_[at]->shape());
  }

 private:
  static constexpr std::string_view name_of_argument(std::size_t at) {
    return Op::arguments[std::min(at, Op::arguments.size() - 1)].name;
  }
  template <std::size_t J>
  ASHLAR_INLINE void keep(const auto& x) {
    if constexpr (J >= tensors) {
      std::get<J>(saved_) = x;
    } else if constexpr (detail::ever_needed<Op, 1u << J>) {
      if ((needs_ & (1u << J)) != 0) {
        save(J, std::get<J>(saved_), argument<J>(x));
      }
    }
  }
  template <class T>
  ASHLAR_INLINE void save(std::size_t place, detail::saved_tensor<T>& to, T x) {
    if (detail::here.packing != nullptr) [[unlikely]] {
      return pack(place, x);
    }
    to = detail::saved_tensor<T>(std::move(x));
  }
  template <class T>
  [[gnu::noinline]] void pack(std::size_t place, const T& x) {
    if (!packed_) {
      packed_ = std::make_unique<packed_tensors>();
      packed_->hooks = detail::here.packing->shared_from_this();
    }
    packed_->pack(place, detail::with_gradient(x, {}));
  }
  /// `f(place, saved tensor, edge)` for each that may be saved.
  template <class F>
  void each_saved(const F& f) {
    const auto argument_at = [&]<std::size_t J>(std::integral_constant<std::size_t, J>) {
      if constexpr (J < tensors && detail::ever_needed<Op, 1u << (J < tensors ? J : 0)>) {
        f(J, std::get<J>(saved_), edges_[J]);
      }
    };
    (argument_at(std::integral_constant<std::size_t, I>{}), ...);
    if constexpr (several && detail::ever_needed<Op, result_tag::bit>) {
      const auto output_at = [&]<std::size_t K>(std::integral_constant<std::size_t, K>) {
        if constexpr (detail::keeps_output<Op>(K)) {
          f(tensors + K, std::get<K>(result_), ref<node>{});
        }
      };
      [&]<std::size_t... K>(std::index_sequence<K...>) {
        (output_at(std::integral_constant<std::size_t, K>{}), ...);
      }(std::make_index_sequence<std::tuple_size_v<Result>>{});
    } else if constexpr (detail::ever_needed<Op, result_tag::bit>) {
      f(tensors, result_, ref<node>{});
    }
  }
  void drop() noexcept {
    each_saved([](std::size_t, auto& s, const ref<node>&) { s.value = {}; });
  }
  [[gnu::noinline]] void unpack() {
    each_saved([&]<class T>(std::size_t place, detail::saved_tensor<T>& s, const ref<node>& edge) {
      if (tensor_handle x = packed_->unpack(place)) {
        s = detail::saved_tensor<T>(detail::with_gradient(T(std::move(x)), edge));
      }
    });
  }
  template <std::size_t K>
  auto output(const ref<node>& self) const {
    using out = std::tuple_element_t<K, Result>;
    if constexpr (!detail::keeps_output<Op>(K)) {
      return out{};
    } else {
      const out& x = std::get<K>(result_).checked(Op::name, "result");
      if constexpr (FloatingTensor<out>) {
        if (grad_enabled()) {
          return detail::with_gradient(
              x, make_node<port_node<out>>(x.spec(), self, K, std::tuple_size_v<Result>));
        }
      }
      return x;
    }
  }
  /// The cotangents of several outputs, zeros where none came; empty handles of integers.
  [[nodiscard]] auto cotangents(sender& to) const {
    auto parts = to.take_parts();
    return [&]<std::size_t... K>(std::index_sequence<K...>) {
      return Result{whole<K>(parts[K])...};
    }(std::make_index_sequence<std::tuple_size_v<Result>>{});
  }
  template <std::size_t K>
  auto whole(tensor_handle& part) const {
    using out = std::tuple_element_t<K, Result>;
    if constexpr (FloatingTensor<out>) {
      return detail::or_zeros<out>(std::move(part), shapes_[K]);
    } else {
      return out(std::move(part));
    }
  }
  /// A gradient has the element type of what it is the gradient of, also where a key's rule
  /// (autocast) gave an operator on the way another one.
  template <std::size_t J, class G>
  ASHLAR_INLINE static tensor_handle in_type_of_argument(G gradient) {
    using own = typename argument<J>::value_type;
    if constexpr (std::is_same_v<own, typename G::value_type>) {
      return gradient;
    } else {
      return gradient ? tensor_handle(call<ops::cast<own>>(gradient)) : tensor_handle{};
    }
  }
  template <std::size_t J, class G>
  ASHLAR_INLINE void send(sender& to, const G& g) {
    if constexpr (J < tensors && FloatingTensor<argument<J>>) {
      if (to.wanted(J)) {
        to.send(
            J, in_type_of_argument<J>(Op::derivative::template vjp<static_cast<int>(J)>(g, *this)));
      }
    }
  }
  template <std::size_t J, class All>
  void send_part_of(sender& to, All& all) {
    if constexpr (J < tensors && FloatingTensor<argument<J>>) {
      if (to.wanted(J)) {
        to.send(J, in_type_of_argument<J>(std::get<J>(std::move(all))));
      }
    }
  }
  template <class G>
  ASHLAR_INLINE void send_all(sender& to, const G& g) {
    if constexpr (requires(const op_node& saved, const std::array<bool, tensors>& wanted) {
                    Op::derivative::vjp_all(g, saved, wanted);
                  }) {
      std::array<bool, tensors> wanted{};
      for (std::size_t i = 0; i < tensors; ++i) {
        wanted[i] = to.wanted(i);
      }
      auto all = Op::derivative::vjp_all(g, std::as_const(*this), wanted);
      [&]<std::size_t... J>(std::index_sequence<J...>) {
        (send_part_of<J>(to, all), ...);
      }(std::make_index_sequence<std::tuple_size_v<decltype(all)>>{});
    } else {
      (send<I>(to, g), ...);
    }
  }

  std::array<ref<node>, sizeof...(A)> edges_;
  std::tuple<typename detail::slot<Op, A, 1u << I>::type...> saved_;
  [[no_unique_address]] typename detail::result_slot<Op, Result>::type result_;
  std::unique_ptr<packed_tensors> packed_;
  unsigned needs_ = 0;
  bool released_ = false;
  struct none {};
  [[no_unique_address]] std::conditional_t<
      several, std::array<tensor_spec, detail::outputs_of<Result>>, none>
      shapes_;
};

/// The end of a path through an operator that has no derivative: fine, until a gradient comes by.
template <class Result>
class blocked_node final : public typed_node<Result> {
 public:
  blocked_node(std::string_view op, const tensor_spec& output) : typed_node<Result>(op, output) {
    this->sequence = detail::next_sequence();
  }
  void apply(sender&, tensor_handle&) override {
    throw not_recordable(this->name, "has no derivative; leave it out of the loss or use no_grad");
  }
  void destroy() noexcept override { this->destroy_as(this); }
};

}  // namespace ashlar::autograd

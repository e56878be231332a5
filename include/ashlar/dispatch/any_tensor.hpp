// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/dispatch/device.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/resolve.hpp"

/// A tensor whose element type, chip and keys are values, out of the lists of a stack.
namespace ashlar {

/// What run-time tensors range over: `chips`, `element_types` and `keys`, as `stack` has them. Of
/// `keys` those count that are no backends.
template <class S>
concept AnyStack = requires {
  typename S::chips;
  typename S::element_types;
  typename S::keys;
};

/// A tensor that is not of the type that was asked for, or cannot be one of a stack's.
struct any_type_error final : error {
  std::string is;     ///< what the tensor is
  std::string asked;  ///< what it should be

  any_type_error(std::string what, std::string wanted,
                 std::source_location at = std::source_location::current())
      : error(at), is(std::move(what)), asked(std::move(wanted)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::any_tensor: a tensor of " + is + " is not one of " + asked +
           "; look at type(), where() and carries<Key>() first";
  }
};

enum class form;

namespace detail {

template <class Op, form F, class... A>
struct any_call;
template <class Stack, class X>
class lent;

template <class T, class List>
inline constexpr std::size_t place_in = 0;
template <class T, template <class...> class List, class... X>
inline constexpr std::size_t place_in<T, List<X...>> = [] {
  std::size_t at = 0;
  static_cast<void>(((std::is_same_v<T, X> ? true : (++at, false)) || ...));
  return at;
}();

template <class Set>
struct functionality;
template <class... K>
struct functionality<key_set<K...>> {
  using type = set_union<std::conditional_t<BackendKey<K>, key_set<>, key_set<K>>...>;
};

/// The keys of a set that scopes of this thread add and take away, by their places.
template <class Set>
struct scoped_keys;
template <class... K>
struct scoped_keys<key_set<K...>> {
  static key_bits included() { return (key_bits{0} | ... | flag<K, true>()); }
  static key_bits excluded() { return (key_bits{0} | ... | flag<K, false>()); }

 private:
  template <class Key, bool Included>
  static key_bits flag() {
    if constexpr (Excludable<Key>) {
      const bool set = Included ? ashlar::detail::included<Key> : ashlar::detail::excluded<Key>;
      return key_bits{set} << place_in<Key, key_set<K...>>;
    } else {
      return 0;
    }
  }
};

template <class Chips, class Elements, class Keys>
struct any_lists;
/// The lists of a stack, and places in them.
template <class... C, class... T, class... K>
struct any_lists<chip_list<C...>, element_list<T...>, key_set<K...>> : scoped_keys<key_set<K...>> {
  static constexpr std::size_t chips = sizeof...(C);
  static constexpr std::size_t elements = sizeof...(T);
  static constexpr std::size_t key_count = sizeof...(K);
  static_assert(chips > 0 && chips < 255 && elements > 0 && elements < 255 && key_count <= 16,
                "ashlar::any_tensor: a stack has 1 to 254 chips and element types, and at most 16 "
                "keys beside backends");

  template <std::size_t I>
  using chip = std::tuple_element_t<I, std::tuple<C...>>;
  template <std::size_t I>
  using element = std::tuple_element_t<I, std::tuple<T...>>;
  /// What every tensor on a chip carries by type; which keys it has is a value.
  template <class Chip>
  using keys_on = set_union<key_set<K...>, key_set<ashlar::keys::backend<Chip>>>;

  static constexpr std::array<std::string_view, chips> chip_names{C::description.name...};
  static constexpr std::array<dtype, elements> types{dtype_of<T>...};
  static constexpr std::size_t place_of(dtype d) {
    std::size_t at = 0;
    while (at < elements && types[at] != d) {
      ++at;
    }
    return at;
  }
  template <class Set>
  static constexpr key_bits bits_of =
      (key_bits{0} | ... | (contains<Set, K> ? key_bits{1} << place_in<K, key_set<K...>> : 0));
  template <class Set>
  static constexpr bool has_all_of = is_subset<typename functionality<Set>::type, key_set<K...>>;

  static std::string names_of([[maybe_unused]] key_bits keys) {
    std::string names;
    ((keys & bits_of<key_set<K>> ? void(names.append(" ").append(readable<K>())) : void()), ...);
    return names;
  }
  /// The element rules of the keys in a set.
  template <class Op>
  static constexpr bool has_element_rule =
      (requires { K::template element<Op>(dtype::float32); } || ...);
  template <class Op>
  static constexpr dtype by_rules(dtype d, [[maybe_unused]] key_bits set) {
    [[maybe_unused]] const auto one = [&]<class Key>(std::type_identity<Key>) {
      if constexpr (requires { Key::template element<Op>(d); }) {
        d = (set & bits_of<key_set<Key>>) != 0 ? Key::template element<Op>(d) : d;
      }
    };
    (one(std::type_identity<K>{}), ...);
    return d;
  }
};

template <class Stack>
using lists_of = any_lists<typename Stack::chips, typename Stack::element_types,
                           typename functionality<typename Stack::keys>::type>;

/// Chip, element type and keys in one word, so that calls compare words.
struct any_tag {
  static constexpr std::uint32_t nothing = 0xff000000;  // the chip of an empty handle
  std::uint32_t word = nothing;

  static constexpr any_tag of(std::size_t chip, std::size_t element, key_bits keys) {
    return {static_cast<std::uint32_t>(chip << 24 | element << 16 | keys)};
  }
  [[nodiscard]] constexpr std::size_t chip() const { return word >> 24; }
  [[nodiscard]] constexpr std::size_t element() const { return word >> 16 & 0xff; }
  [[nodiscard]] constexpr key_bits keys() const { return word & 0xffff; }
};

}  // namespace detail

/// Handle to a tensor of which types say only the stack.
///
/// Its body always has room for the states of all keys of the stack; which keys it carries is a
/// value. Tensors come in by conversion, `as<X>()` takes them out. Functions take it as they take
/// typed tensors; include `ashlar/dispatch/any.hpp`.
/// Cost: one word more than a typed handle; coming in with fewer keys than the stack has is an
/// alias.
template <class Stack>
class any_tensor : public tensor_handle {
  static_assert(AnyStack<Stack>,
                "ashlar::any_tensor<Stack>: Stack must name `chips` (a chip_list), `element_types` "
                "(an element_list) and `keys`");
  using lists = detail::lists_of<Stack>;

 public:
  using stack_type = Stack;

  any_tensor() = default;
  template <class T, class K>
  any_tensor(const tensor<T, K>& x) : any_tensor(x, lists::template bits_of<K>) {}
  /// With keys that are a value: bits in the order of the stack's.
  template <class T, class K>
  any_tensor(const tensor<T, K>& x, key_bits keys)
      : tensor_handle(tensor<T, full<K>>(x)), tag_(x ? tag_of<T, K>(keys) : detail::any_tag{}) {}
  /// The tensor that a call made: nothing is counted twice.
  template <class T, class K>
    requires std::is_same_v<K, typename lists::template keys_on<chip_of<K>>>
  any_tensor(tensor<T, K>&& x, key_bits keys)
      : tensor_handle(std::move(static_cast<tensor_handle&>(x))),
        tag_(*this ? tag_of<T, K>(keys) : detail::any_tag{}) {}

  [[nodiscard]] dtype type() const { return spec().type; }
  [[nodiscard]] device where() const { return {lists::chip_names[tag_.chip()], ordinal()}; }
  template <class Key>
  [[nodiscard]] bool carries() const {
    return (tag_.keys() & lists::template bits_of<key_set<Key>>) != 0;
  }
  [[nodiscard]] detail::any_tag tag() const { return tag_; }

  /// The tensor by type. Throws: `any_type_error` where it is another one, or has a key that `X`
  /// leaves out.
  template <Tensor X>
  [[nodiscard]] X as() const {
    using T = typename X::value_type;
    using K = typename X::keys;
    const detail::any_tag asked = tag_of<T, K>(lists::template bits_of<K>);
    if (tag_.chip() != asked.chip() || tag_.element() != asked.element() ||
        (tag_.keys() & ~asked.keys()) != 0) {
      throw any_type_error(*this ? text(tag_) : "nothing", text(asked));
    }
    return X(static_cast<const tensor_handle&>(*this));
  }

  /// `f(x)` with the tensor by type, all keys of the stack in it. Requires: no empty handle.
  template <class F>
  decltype(auto) visit(const F& f) const {
    return on_chip<0>(f);
  }
  /// The same elements without a key.
  template <class Key>
  [[nodiscard]] any_tensor without() const {
    return visit([&]<class T, class K>(const tensor<T, K>& x) {
      return any_tensor(ashlar::without<Key>(x),
                        tag_.keys() & ~lists::template bits_of<key_set<Key>>);
    });
  }
  /// The same elements with a key.
  template <class Key>
  [[nodiscard]] any_tensor with() const {
    static_assert(lists::template has_all_of<key_set<Key>>,
                  "ashlar::any_tensor: the stack does not have this key; add it to Stack::keys");
    any_tensor x = *this;
    x.tag_.word |= lists::template bits_of<key_set<Key>>;
    return x;
  }

  // Here as in `tensor`; the infix calls of two operands need not be.
  friend auto operator-(detail::handed_over<any_tensor> x) { return infix_negative(x); }

 private:
  template <class Op, form F, class... A>
  friend struct detail::any_call;
  template <class S, class X>
  friend class detail::lent;

  /// What a call wrote to, back in its handle, which is empty: there is nothing to let go of.
  template <class T, class K>
  void take_back(tensor<T, K>&& x, key_bits keys) {
    tag_ = x ? tag_of<T, K>(keys) : detail::any_tag{};
    std::construct_at(static_cast<tensor_handle*>(this), std::move(x));
  }
  template <class K>
  using full = typename lists::template keys_on<chip_of<K>>;
  template <class T, class K>
  static constexpr detail::any_tag tag_of(key_bits keys) {
    constexpr std::size_t chip = detail::place_in<chip_of<K>, typename Stack::chips>;
    constexpr std::size_t element = detail::place_in<T, typename Stack::element_types>;
    static_assert(chip < lists::chips,
                  "ashlar::any_tensor: the stack does not list this chip; add it to on<...>");
    static_assert(element < lists::elements,
                  "ashlar::any_tensor: the stack does not list this element type; add it to "
                  "elements<...>");
    static_assert(lists::template has_all_of<K>,
                  "ashlar::any_tensor: the tensor has a key that the stack does not have; leave it "
                  "with without<Key>(x)");
    return detail::any_tag::of(chip, element, keys);
  }
  static std::string text(detail::any_tag t) {
    return std::string(name_of(lists::types[t.element()])) + " on " +
           std::string(lists::chip_names[t.chip()]) +
           (t.keys() == 0 ? "" : " with" + lists::names_of(t.keys()));
  }

  template <std::size_t C, class F>
  decltype(auto) on_chip(const F& f) const {
    if constexpr (C + 1 < lists::chips) {
      if (tag_.chip() != C) {
        return on_chip<C + 1>(f);
      }
    }
    return of_element<C, 0>(f);
  }
  template <std::size_t C, std::size_t E, class F>
  decltype(auto) of_element(const F& f) const {
    if constexpr (E + 1 < lists::elements) {
      if (tag_.element() != E) {
        return of_element<C, E + 1>(f);
      }
    }
    using keys = typename lists::template keys_on<typename lists::template chip<C>>;
    return f(tensor<typename lists::template element<E>, keys>(
        static_cast<const tensor_handle&>(*this)));
  }

  detail::any_tag tag_;
};

/// Where a run-time tensor is. Requires: `x` is no empty handle.
template <class Stack>
[[nodiscard]] device device_of(const any_tensor<Stack>& x) {
  return x.where();
}

}  // namespace ashlar

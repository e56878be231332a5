// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ashlar/dispatch/keys.hpp"

/// What is written about an operator and its kernels, and the rules that pick one.
namespace ashlar {

struct missing {};      ///< base of what nobody wrote
struct fallthrough {};  ///< base of a kernel that leaves the answer to the next key

template <class K>
inline constexpr bool exists = !std::is_base_of_v<missing, K>;

/// One argument in an operator's schema. Tensors stand before attributes.
struct argument {
  std::string_view name;
  bool fixed = false;  ///< the element type is the argument's own (indices, masks): no promotion
};

/// The kernels that a chip brings: `using kernels = ashlar::kernels<my_softmax, my_matmul>;` in the
/// chip, where each entry has `using op = ...` and `impl`. Being part of the chip's definition, the
/// list is the same in every file; a specialisation that one file sees and another does not is not.
template <class... Entries>
struct kernels {};

namespace detail {
template <class Op, class List>
struct listed : missing {};
template <class Op, class Entry, class... Rest>
struct listed<Op, kernels<Entry, Rest...>>
    : std::conditional_t<std::is_same_v<Op, typename Entry::op>, Entry,
                         listed<Op, kernels<Rest...>>> {};

template <class Key>
struct kernel_list {
  using type = kernels<>;
};
template <BackendKey Key>
  requires requires { typename Key::chip::kernels; }
struct kernel_list<Key> {
  using type = typename Key::chip::kernels;
};
}  // namespace detail

/// The kernel of one operator for one key. Specialised only beside the operator or beside the key.
///
/// For a backend key it computes, with outputs first:
/// `impl(context<Chip>&, view<T> out..., view<const T> in..., attributes...)`.
/// For any other key it interposes: `impl(auto next, auto&... args)`; `next(args...)` goes on
/// below.
template <class Op, class Key>
struct kernel : detail::listed<Op, typename detail::kernel_list<Key>::type> {};

/// One kernel for every operator under `Key`, where there is no `kernel<Op, Key>`: the boxed form.
///
/// `impl(auto next, auto&... args)` gets the typed arguments; `decltype(next)::op` names the
/// operator and its schema.
template <class Key>
struct fallback : missing {};

/// The library's own kernel of an operator on chips that can run its tile program.
template <class Op, class Chip>
struct tile_kernel : missing {};

/// An operator in terms of others: `decomposition<Op>{}(args...)` takes what the operator takes and
/// gives what it gives. The tape records the parts where `Op` itself says no derivative, on chips
/// that have all of `parts`, where that list is given.
template <class Op>
struct decomposition : missing {};

/// Has a schema and a `meta`; all forms follow from them and one kernel.
template <class Op>
concept Structured = requires {
  Op::arguments;
  { Op::name } -> std::convertible_to<std::string_view>;
};
/// A structured operator whose result looks at its first argument's elements: needs no kernel.
template <class Op>
concept View = Structured<Op> && requires { Op::aliases; };
/// Written in terms of other operators: `composite{}(args...)`.
template <class Op>
concept Composite = requires { typename Op::composite; };
/// Has a `derivative`; see `dispatch/derivative.hpp`.
template <class Op>
concept Differentiable = Structured<Op> && requires { typename Op::derivative; };
/// Each result element depends on the elements at its own place only: may write over an argument.
template <class Op>
concept Elementwise = requires { Op::elementwise; };

enum class form { functional, out, in_place };
/// Which rule answers an operator under a key.
enum class found { direct, view, tile, composite, fallback, fallthrough, missing };

/// The rules in their order.
template <class Op, class Key>
consteval found rule() {
  if (exists<kernel<Op, Key>>) {
    return std::is_base_of_v<fallthrough, kernel<Op, Key>> ? found::fallthrough : found::direct;
  }
  if constexpr (BackendKey<Key>) {
    if (View<Op>) {
      return found::view;
    }
    if (exists<tile_kernel<Op, typename Key::chip>>) {
      return found::tile;
    }
  }
  if (Composite<Op>) {
    return found::composite;
  }
  if (exists<fallback<Key>>) {
    return std::is_base_of_v<fallthrough, fallback<Key>> ? found::fallthrough : found::fallback;
  }
  return found::missing;
}

/// The key that answers `Op` under a set, by which rule, and the keys below it.
template <class Op, class Set>
struct resolution;
template <class Op, class K, class... Rest>
struct resolution<Op, key_set<K, Rest...>> {
  static constexpr found how = rule<Op, K>();
  using key = K;
  using below = key_set<Rest...>;
};
template <class Op, class K, class... Rest>
  requires(rule<Op, K>() == found::fallthrough)
struct resolution<Op, key_set<K, Rest...>> : resolution<Op, key_set<Rest...>> {};

/// The first key on a call's way that has no answer, or void: all levels are checked at once.
template <class Op, class Set>
struct unanswered {
  using here = resolution<Op, Set>;
  using key = typename decltype([] {
    if constexpr (here::how == found::missing) {
      return std::type_identity<typename here::key>{};
    } else if constexpr (BackendKey<typename here::key> || here::how == found::composite) {
      return std::type_identity<void>{};
    } else {
      return std::type_identity<typename unanswered<Op, typename here::below>::key>{};
    }
  }())::type;
};

}  // namespace ashlar

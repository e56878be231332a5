// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/resolve.hpp"

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
  bool whole = false;  ///< integers alone, where no kernel's signature says so
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

/// An operator in terms of others, in the end of `ops::prims`: `decomposition<Op>{}(args...)` takes
/// what the operator takes. Specialised beside the operator or in `ashlar/ops/decompositions.hpp`.
///
/// A backend uses it where `decomposition<Op>::answers<Key>` holds. The tape records the parts
/// where `Op` itself says no derivative and the decomposition says its `parts`, on chips that have
/// those.
template <class Op>
struct decomposition : missing {};

/// Which outputs a kernel can write to: `static constexpr output_kind outputs = ...;` in the
/// kernel.
///
/// A caller may give an output with any strides. One that the kernel cannot take is replaced by a
/// proxy, which is copied there afterwards.
enum class output_kind {
  raw_strided,  ///< any strides: the default
  strided,      ///< the strides of `meta` and no others
  contiguous    ///< row-major
};

/// Has a schema and a `meta`; all forms follow from them and one kernel.
template <class Op>
concept Structured = requires {
  Op::arguments;
  { Op::name } -> std::convertible_to<std::string_view>;
};
/// Its kernels get `Op::precompute(specs..., attributes...)`, an `Op::precomputed`, in place of the
/// attributes: what `meta` worked out about them is not worked out again.
template <class Op>
concept Precomputes = Structured<Op> && requires { typename Op::precomputed; };
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

namespace detail {
template <class Kernel>
consteval found unless_fallthrough(found how) {
  return std::is_base_of_v<fallthrough, Kernel> ? found::fallthrough : how;
}
template <class Op, class Key>
consteval bool decomposes() {
  if constexpr (exists<decomposition<Op>>) {
    return decomposition<Op>::template answers<Key>;
  }
  return false;
}

/// What computes `Op` on a chip before anything is taken apart; or missing.
template <class Op, class Key>
consteval found own_rule() {
  // What is not asked is not instantiated: a decomposition asks for the kernels of all prims.
  if constexpr (BackendKey<Key>) {
    if constexpr (exists<kernel<Op, Key>>) {
      return unless_fallthrough<kernel<Op, Key>>(found::direct);
    } else if constexpr (View<Op>) {
      return found::view;
    } else if constexpr (exists<tile_kernel<Op, typename Key::chip>>) {
      return found::tile;
    } else if constexpr (decomposes<Op, Key>()) {
      return found::decomposition;
    }
  }
  return found::missing;
}

/// The kernel of `Key` for `Op` on one chip; missing without a chip.
template <class Op, class Key, class Backend>
struct kernel_on : missing {};
template <class Op, class Key, BackendKey Backend>
  requires(!BackendKey<Key>)
struct kernel_on<Op, Key, Backend> : kernel<Op, keys::on_chip<Key, typename Backend::chip>> {};
}  // namespace detail

/// The rules in their order, for a key of a set whose backend is `Backend`:
///
/// | | a backend | a key that records | any other key | no tensor |
/// |---|---|---|---|---|
/// | 1 | `kernel<Op, Key>` | `kernel<Op, on_chip<Key, Chip>>` | as beside | |
/// | 2 | view, tile program, decomposition | | | |
/// | 3 | composite | composite, if the backend has nothing of rows 1 and 2 | | composite |
/// | 4 | | `kernel<Op, Key>` | as beside | |
/// | 5 | `fallback<Key>` | `fallback<Key>` | `fallback<Key>` | |
///
/// A kernel or fallback that derives from `fallthrough` takes the key out of the call.
template <class Op, class Key, class Backend = void>
consteval found rule() {
  if constexpr (std::is_same_v<Key, keys::undefined>) {
    return Composite<Op> ? found::composite : found::missing;
  } else {
    if constexpr (BackendKey<Key>) {
      if (detail::own_rule<Op, Key>() != found::missing) {
        return detail::own_rule<Op, Key>();
      }
      if (Composite<Op>) {
        return found::composite;
      }
    } else {
      using here = detail::kernel_on<Op, Key, Backend>;
      if (exists<here>) {
        return detail::unless_fallthrough<here>(found::direct);
      }
      if (RecordingKey<Key> && Composite<Op> && detail::own_rule<Op, Backend>() == found::missing) {
        return found::composite;
      }
      if (exists<kernel<Op, Key>>) {
        return detail::unless_fallthrough<kernel<Op, Key>>(found::direct);
      }
    }
    if (exists<fallback<Key>>) {
      return detail::unless_fallthrough<fallback<Key>>(found::fallback);
    }
    return found::missing;
  }
}

namespace detail {
template <class Set>
struct rules_of;
template <class... K>
struct rules_of<key_set<K...>> {
  template <class Op, class Backend>
  static consteval auto row() {
    return rule_row<sizeof...(K)>({rule<Op, K, Backend>()...});
  }
};
template <>
struct rules_of<key_set<>> {
  template <class Op, class>
  static consteval auto row() {
    return rule_row<1>({rule<Op, keys::undefined>()});
  }
};
template <class Set, std::size_t From>
struct keys_after;
template <class... K, std::size_t From>
struct keys_after<key_set<K...>, From> {
  template <std::size_t... I>
  static auto list(std::index_sequence<I...>)
      -> key_set<std::tuple_element_t<From + I, std::tuple<K...>>...>;
  using type = decltype(list(std::make_index_sequence<sizeof...(K) - From>{}));
};
}  // namespace detail

/// An operator's row of the table over the keys of a set.
template <class Op, class Set>
inline constexpr auto rules =
    detail::rules_of<Set>::template row<Op, typename backend_of<Set>::key>();

/// The key that answers `Op` under a set, by which rule, and the keys below it.
template <class Op, class Set>
struct resolution;
template <class Op>
struct resolution<Op, key_set<>> {
  static constexpr found how = rules<Op, key_set<>>.resolve(1).how;
  using key = keys::undefined;
  using below = key_set<>;
};
template <class Op, class First, class... K>
struct resolution<Op, key_set<First, K...>> {
  using set = key_set<First, K...>;
  static constexpr kernel_id id = rules<Op, set>.resolve(~key_bits{0});
  static constexpr found how = id.how;
  static constexpr std::size_t place = id.key < sizeof...(K) ? id.key : sizeof...(K);
  using key = std::tuple_element_t<place, std::tuple<First, K...>>;
  using below = typename detail::keys_after<set, place + 1>::type;
};

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

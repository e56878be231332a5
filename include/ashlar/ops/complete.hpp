// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops.hpp"

/// Whether a stack has a kernel for everything that a model calls, asked where it is composed.
namespace ashlar {

/// A model that says which operators it calls: `using operators = ops::operators<...>;`.
template <class M>
concept ListsOperators = requires { typename M::operators; };

namespace detail {

template <class Model>
struct called_by {
  static_assert(ListsOperators<Model>,
                "ashlar::complete<Stack, Model>: Model must list the operators that it calls "
                "(`using operators = ops::operators<...>`), or be such a list");
  using type = ops::operators<>;
};
template <ListsOperators Model>
struct called_by<Model> {
  using type = typename Model::operators;
};
template <class... Op>
struct called_by<ops::operators<Op...>> {
  using type = ops::operators<Op...>;
};

/// As `unanswered`, also on the chips that a chip falls back to.
template <class Op, class Keys>
struct without_answer : unanswered<Op, Keys> {};
template <class Op, class Keys>
  requires std::is_void_v<typename unanswered<Op, Keys>::key> &&
           requires { typename chip_of<Keys>::falls_back_to; } &&
           (rule<Op, typename backend_of<Keys>::key>() == found::fallback)
struct without_answer<Op, Keys>
    : without_answer<Op, key_set<keys::backend<typename chip_of<Keys>::falls_back_to>>> {};

/// The missing kernels, as types.
template <class... Kernel>
struct kernel_types {};
template <class Keys, class... Found>
constexpr auto missing_among(ops::operators<>, kernel_types<Found...> found) {
  return found;
}
template <class Keys, class Op, class... Rest, class... Found>
constexpr auto missing_among(ops::operators<Op, Rest...>, kernel_types<Found...>) {
  using key = typename without_answer<Op, Keys>::key;
  if constexpr (std::is_void_v<key>) {
    return missing_among<Keys>(ops::operators<Rest...>{}, kernel_types<Found...>{});
  } else {
    return missing_among<Keys>(ops::operators<Rest...>{},
                               kernel_types<Found..., kernel<Op, key>>{});
  }
}

// The rest is made for what compilers print when they give up on a constant expression: the calls
// under way, one line each. g++ shows their template arguments and literals, clang the values of
// their arguments. At most 15 lines come of it. The literals are `ways_out_of_missing_kernel`.
#ifdef __clang__

struct lack {
  const char* op;
  const char* key;
  bool (*line)(const char* op, const char* key, const char* what_to_do, const lack* next);
};

// clang shows the source once for calls from one place, so the failing call is made from it too: it
// goes to the null pointer behind the last line.
constexpr bool no_kernel(const char*, const char*, const char*, const lack* next) {
  const auto line = next->line;
  return line(next->op, next->key,
              "list one in the chip, or give Op a tile program or a composite, or define "
              "fallback<Key>",
              next + 1);
}

template <class Key>
constexpr const char* text_of_key() {
  if constexpr (BackendKey<Key>) {
    return Key::chip::description.name.data();
  } else if constexpr (requires { Key::name.data(); }) {
    return Key::name.data();
  } else {
    return "a key without fallback<Key>";
  }
}

template <class List>
struct lacks;
template <class... Op, class... Key>
struct lacks<kernel_types<kernel<Op, Key>...>> {
  static constexpr std::size_t shown = std::min(sizeof...(Op), std::size_t{3});
  static constexpr auto rows = [] {
    const std::array<lack, sizeof...(Op)> all{
        lack{Op::name.data(), text_of_key<Key>(), &no_kernel}...};
    std::array<lack, shown + 1> lines{};
    std::copy_n(all.begin(), shown, lines.begin());
    if (shown < all.size()) {
      lines[0] = {"and others", "see dispatch::coverage<Stack>().text()",
                  &no_kernel};  // printed last
    }
    return lines;
  }();
};

#else

/// More than there are lines for: `dispatch::coverage<Stack>().text()` has them all.
struct and_others;

template <class First, class... Rest>
struct lacks {
  static constexpr bool no_kernel(const char* what_to_do) {
    if constexpr (sizeof...(Rest) > 0) {
      return lacks<Rest...>::no_kernel(
          "list one in the chip, or give Op a tile program or a composite, or define "
          "fallback<Key>");
    } else {
      return what_to_do != nullptr ? throw what_to_do : true;
    }
  }
};

template <class List>
struct in_few_lines;
template <class... Kernel>
struct in_few_lines<kernel_types<Kernel...>> {
  using type = lacks<Kernel...>;
};
template <class A, class B, class C, class D, class E, class F, class G, class... More>
struct in_few_lines<kernel_types<A, B, C, D, E, F, G, More...>> {
  using type = lacks<A, B, C, D, E, and_others>;
};

#endif

template <class Stack, class Model>
struct completeness {
  using missing = decltype(missing_among<typename Stack::keys>(typename called_by<Model>::type{},
                                                               kernel_types<>{}));
  constexpr operator bool() const {
    if constexpr (std::is_same_v<missing, kernel_types<>>) {
      return true;
    } else {
#ifdef __clang__
      const lack* const first = lacks<missing>::rows.data();
      return no_kernel(first->op, first->key,
                       "list one in the chip, or give Op a tile program or a composite, or define "
                       "fallback<Key>",
                       first + 1);
#else
      return in_few_lines<missing>::type::no_kernel(
          "list one in the chip, or give Op a tile program or a composite, or define "
          "fallback<Key>");
#endif
    }
  }
};

}  // namespace detail

/// `static_assert(complete<stack, model>)`: every operator of the model has an answer under every
/// key of the stack. What has none is named, one line each; `dispatch::coverage<stack>().text()` is
/// the whole picture.
///
/// Model: has `using operators = ops::operators<...>;`, or is such a list (`ops::all`).
/// What it says is about operators as a whole: a kernel may still lack an element type, and a
/// composite is as complete as its parts, which the list should have too.
/// Requires: what the chip's header includes is included, `ashlar/ops/tile.hpp` for tile programs.
template <class Stack, class Model = ops::all>
inline constexpr detail::completeness<Stack, Model> complete{};

}  // namespace ashlar

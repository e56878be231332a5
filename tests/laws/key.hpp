// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <type_traits>

#include "ashlar/dispatch/keys.hpp"

/// Laws of `Key`: what sets do with one, whatever else is in them.
namespace ashlar::laws {

/// Laws of a semilattice, for three sets.
template <class A, class B, class C>
consteval bool semilattice() {
  return std::is_same_v<set_union<A, B>, set_union<B, A>> && std::is_same_v<set_union<A, A>, A> &&
         std::is_same_v<set_union<A, set_union<B, C>>, set_union<set_union<A, B>, C>> &&
         std::is_same_v<set_union<A, key_set<>>, A>;
}

/// Whether `A` has its turn before `B`.
template <class A, class B>
inline constexpr bool before = std::is_same_v<make_key_set<B, A>, key_set<A, B>>;

/// For a key beside another one and two sets.
template <Key K, Key Other, class A, class B>
consteval bool key_laws() {
  static_assert(!std::is_same_v<K, Other>);
  using with = set_union<A, key_set<K>>;
  // One form however it is written, and once.
  return std::is_same_v<make_key_set<K, Other, K>, make_key_set<Other, K>> &&
         std::is_same_v<set_union<with, key_set<K>>, with> && semilattice<key_set<K>, A, B>() &&
         semilattice<with, key_set<K, Other>, B>() &&
         // The higher priority has the first turn; of two backends always the same.
         before<K, Other> != before<Other, K> &&
         (K::priority == Other::priority ? BackendKey<K> && BackendKey<Other>
                                         : before<K, Other> == (K::priority > Other::priority)) &&
         // What is excluded is gone, and nothing else.
         contains<with, K> && !contains<exclude<with, K>, K> &&
         std::is_same_v<exclude<exclude<with, K>, K>, exclude<with, K>> &&
         std::is_same_v<set_union<exclude<with, K>, key_set<K>>, with> &&
         is_subset<exclude<with, K>, with> &&
         // A backend stands below everything.
         (!BackendKey<K> || K::priority == 0);
}

}  // namespace ashlar::laws

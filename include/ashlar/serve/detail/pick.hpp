// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <type_traits>

namespace ashlar::serve::detail {

/// The first of `P...` for which `Is` holds, or `Default`.
template <template <class> class Is, class Default, class... P>
struct pick : std::type_identity<Default> {};
template <template <class> class Is, class Default, class First, class... P>
struct pick<Is, Default, First, P...>
    : std::conditional_t<Is<First>::value, std::type_identity<First>, pick<Is, Default, P...>> {};

template <template <class> class Is, class... P>
inline constexpr int count_of = (0 + ... + int{Is<P>::value});

}  // namespace ashlar::serve::detail

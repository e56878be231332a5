// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/record.hpp"
#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/meta.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/fwd.hpp"
#include "ashlar/memory/caching_allocator.hpp"

/// The composition: a stack is a list of policies, in any order.
namespace ashlar {

namespace detail {
template <class Kind, class Type>
struct policy_of_type {
  using kind = Kind;
  using type = Type;
};
}  // namespace detail

/// The chip that the stack runs on, and others that its run-time tensors may be on.
template <class Chip, class... Others>
struct on : detail::policy_of_type<kinds::chip, Chip> {
  using chips = chip_list<Chip, Others...>;
};
/// The element types of run-time tensors (`any_tensor`).
template <class... T>
struct elements {
  using kind = kinds::elements;
  using list = element_list<T...>;
};
/// Where tensors get their elements from: `memory::caching<...>`.
template <class Policy>
struct allocate : detail::policy_of_type<kinds::allocate, Policy> {};
/// Calls are recorded: `autograd::tape<>`.
template <class Tape>
struct differentiate : detail::policy_of_type<kinds::differentiate, Tape> {};
/// Keys that the calls of the stack's tensors pass through: `through<keys::profile, my_log>`.
template <class... Key>
struct through {
  using kind = kinds::through;
  using keys = make_key_set<Key...>;
};
/// How serving keeps keys and values: `kv::paged<16>`.
template <class Cache>
struct cache : detail::policy_of_type<kinds::cache, Cache> {};
/// How serving batches requests: `serve::continuous<...>`.
template <class Schedule>
struct schedule : detail::policy_of_type<kinds::schedule, Schedule> {};
/// How ranks talk: a transport and the algorithm of their collectives.
template <class Transport, class Algorithm>
struct communicate {
  using kind = kinds::communicate;
  using transport = Transport;
  using algorithm = Algorithm;
};

namespace autograd {
/// Backward passes run independent branches on `N` threads: see `threads_scope`.
template <unsigned N>
struct threads {
  static constexpr unsigned count = N;
};
/// Define-by-run reverse mode.
template <class... Policies>
struct tape {
  static constexpr unsigned thread_count = std::max({1u, unsigned{Policies::count}...});
};
}  // namespace autograd

template <class... P>
class stack;

template <class P>
concept Policy = requires { typename P::kind; };

namespace detail {

template <class P>
struct kind_of {
  using type = void;
};
template <Policy P>
struct kind_of<P> {
  using type = typename P::kind;
};
template <class Kind, class... P>
inline constexpr int policies_of = (0 + ... + int{std::is_same_v<Kind, typename kind_of<P>::type>});

template <class Kind, class Default, class... P>
struct find_policy {
  using type = Default;
};
template <class Kind, class Default, class First, class... P>
struct find_policy<Kind, Default, First, P...>
    : std::conditional_t<std::is_same_v<Kind, typename kind_of<First>::type>,
                         std::type_identity<First>, find_policy<Kind, Default, P...>> {};

/// The stack of `P...` without the policies of a kind.
template <class Kind, class Kept, class... P>
struct strip {
  using type = Kept;
};
template <class Kind, class... Kept, class First, class... P>
struct strip<Kind, stack<Kept...>, First, P...>
    : strip<Kind,
            std::conditional_t<std::is_same_v<Kind, typename kind_of<First>::type>, stack<Kept...>,
                               stack<Kept..., First>>,
            P...> {};

}  // namespace detail

// For messages.
template <class P>
inline constexpr bool is_policy = Policy<P>;
template <class Kind, class... P>
inline constexpr bool given = detail::policies_of<Kind, P...> > 0;
template <class Kind, class... P>
inline constexpr bool given_once = detail::policies_of<Kind, P...> <= 1;

/// Composes a library for one chip out of policies; their order does not matter.
template <class... P>
class stack {
  static_assert((is_policy<P> && ...),
                "ashlar::stack: an argument is no policy (`using kind = ...`); wrap it, e.g. "
                "on<Chip>, allocate<Allocator>, cache<Cache>");
  static_assert(given<kinds::chip, P...>, "ashlar::stack: no chip; add on<Chip>");
  static_assert((given_once<typename detail::kind_of<P>::type, P...> && ...),
                "ashlar::stack: two policies of one kind; keep one");

 public:
  /// The policy of a kind, or `Default`.
  template <class Kind, class Default = void>
  using policy = typename detail::find_policy<Kind, Default, P...>::type;
  template <class Kind>
  static constexpr bool has = given<Kind, P...>;

  using chip = typename policy<kinds::chip, on<ashlar::chip::meta>>::type;
  using chips = typename policy<kinds::chip, on<ashlar::chip::meta>>::chips;
  using element_types =
      typename policy<kinds::elements, elements<float, std::int32_t, std::int64_t, bool>>::list;
  using keys = set_union<
      std::conditional_t<given<kinds::differentiate, P...>,
                         make_key_set<ashlar::keys::backend<chip>, ashlar::keys::autograd>,
                         make_key_set<ashlar::keys::backend<chip>>>,
      typename policy<kinds::through, through<>>::keys>;

  template <class T>
  using tensor = ashlar::tensor<T, keys>;
  /// A tensor whose element type, chip and keys are values; see `ashlar/dispatch/any.hpp`.
  using any = any_tensor<stack>;

  /// The same policies without the tape: what serving instantiates.
  using inference = typename detail::strip<kinds::differentiate, stack<>, P...>::type;

  /// The allocator of the stack's policy; it lives as long as the program.
  static memory::resource& allocator(int device = 0) {
    using policy_type = typename policy<kinds::allocate, allocate<memory::caching<>>>::type;
    return memory::shared_allocator<typename chip::memory, policy_type, device_count<chip>>(device);
  }

  /// This thread's tensors come from the stack's allocator for as long as it lives, and its
  /// backward passes have the threads of the stack's tape.
  struct session {
    session() : session(std::make_integer_sequence<int, device_count<chip>>{}) {}

   private:
    template <int... Device>
    explicit session(std::integer_sequence<int, Device...>)
        : allocations{{{allocator(Device), Device}...}} {}

    std::array<typename context<chip>::use_allocator, static_cast<std::size_t>(device_count<chip>)>
        allocations;
    autograd::threads_scope branches{thread_count()};
  };

 private:
  static unsigned thread_count() {
    using tape = typename policy<kinds::differentiate, differentiate<void>>::type;
    if constexpr (requires { tape::thread_count; }) {
      return std::max(tape::thread_count, autograd::detail::here.threads);
    }
    return autograd::detail::here.threads;
  }
};

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/concept.hpp"
#include "ashlar/core/tensor.hpp"

namespace ashlar {

namespace keys {
/// The chip that holds a tensor. A chip without memory (`chip::meta`) is a chip like any other.
template <class Chip>
struct backend {
  static constexpr int priority = 0;
  using chip = Chip;
};
/// In the place of a key: what `Key` does on one chip. `kernel<Op, keys::on_chip<Key, Chip>>` goes
/// before `kernel<Op, Key>`, which is for all chips.
template <class Key, class Chip>
struct on_chip;
/// In the place of a key: a call without tensors.
struct undefined {};
}  // namespace keys

/// Which queues use the elements of a tensor, on a chip with several; see dispatch/queues.hpp.
struct queue_uses {
  memory::queue_id home = 0;              ///< whose block it is
  memory::queue_id writer = 0;            ///< that wrote last
  std::vector<memory::queue_id> behind;   ///< others that go on after that write
  std::vector<memory::queue_id> readers;  ///< others that read what it wrote
  std::vector<memory::queue_id> told;     ///< others that the allocator knows of

  queue_uses() = default;
  queue_uses(const queue_uses&) = delete;
  /// A view has none of its own: what counts are those of its base.
  queue_uses& operator=(const queue_uses&) { return *this; }
};
template <class Chip>
  requires HasQueues<Chip>
struct key_state<keys::backend<Chip>> : queue_uses {};

/// Chips and element types as lists, in the order in which run-time tensors number them.
template <class... C>
struct chip_list {};
template <class... T>
struct element_list {};

/// A key is a type with a `priority`; the highest one in a call's set has the first turn. No two
/// keys of a set have the same one; backends have 0.
/// Optional: `state`, kept in every tensor that carries the key; `element<Op>(dtype)`, a rule for
/// the element type in which calls happen; `excludable`, see `excluding`; `records`, see
/// `RecordingKey`; `withholds()`, whether tensors that are made now get no elements, and with it
/// `require_elements(op, x)` in the state, called before elements are read.
template <class K>
concept Key = requires {
  { K::priority } -> std::convertible_to<int>;
};
template <class K>
concept BackendKey = Key<K> && requires { typename K::chip; };
/// A key that a scope may switch off: `static constexpr bool excludable = true;`.
template <class K>
concept Excludable = Key<K> && !BackendKey<K> && requires { requires K::excludable; };
/// A key that writes down calls to undo them: `static constexpr bool records = true;`. It sees the
/// parts of a composite where the chip has nothing better, as the alias key Autograd in PyTorch.
template <class K>
concept RecordingKey = Key<K> && !BackendKey<K> && requires { requires K::records; };

/// For messages: whether two keys can be in one set. Backends can, though no call takes two.
template <class A, class B>
inline constexpr bool priorities_differ =
    std::is_same_v<A, B> || A::priority != B::priority || (BackendKey<A> && BackendKey<B>);

namespace detail {

template <class T>
constexpr std::string_view type_name() {
  return __PRETTY_FUNCTION__;
}
/// A type as messages show it.
template <class T>
constexpr std::string_view readable() {
  constexpr std::string_view whole = type_name<T>();
  constexpr std::size_t first = whole.find("T = ") + 4;
  return whole.substr(first, whole.find_first_of(";]", first) - first);
}

/// Insertion sort of keys by (priority, name); the name orders backends, equal ones are one.
/// Cost: 1.7 ms of compile time per new set; a sort of types takes nine times that.
template <class... K>
struct canonical {
  struct plan {
    std::array<std::size_t, sizeof...(K)> index{};
    std::size_t size = 0;
  };
  static constexpr plan sorted = [] {
    const std::array<std::pair<int, std::string_view>, sizeof...(K)> rank{
        std::pair{-K::priority, type_name<K>()}...};
    plan p;
    for (std::size_t i = 0; i < rank.size(); ++i) {
      std::size_t j = 0;
      while (j < p.size && rank[p.index[j]] < rank[i]) {
        ++j;
      }
      if (j == p.size || rank[p.index[j]] != rank[i]) {
        std::move_backward(&p.index[j], &p.index[p.size], &p.index[p.size] + 1);
        p.index[j] = i;
        ++p.size;
      }
    }
    return p;
  }();
  /// Two neighbours of one priority, or one key twice.
  static constexpr std::array<std::size_t, 2> tie = [] {
    constexpr std::array<int, sizeof...(K)> priority{K::priority...};
    constexpr std::array<bool, sizeof...(K)> backend{BackendKey<K>...};
    for (std::size_t i = 1; i < sorted.size; ++i) {
      const std::size_t a = sorted.index[i - 1];
      const std::size_t b = sorted.index[i];
      if (priority[a] == priority[b] && !(backend[a] && backend[b])) {
        return std::array{a, b};
      }
    }
    return std::array<std::size_t, 2>{};
  }();
  static_assert(priorities_differ<std::tuple_element_t<tie[0], std::tuple<K...>>,
                                  std::tuple_element_t<tie[1], std::tuple<K...>>>,
                "ashlar::key_set: two keys have the same priority, so no rule says whose turn it "
                "is; change one (only backends have 0)");
  template <std::size_t... I>
  static auto list(std::index_sequence<I...>)
      -> key_set<std::tuple_element_t<sorted.index[I], std::tuple<K...>>...>;
  using type = decltype(list(std::make_index_sequence<sorted.size>{}));
};
template <>
struct canonical<> {
  using type = key_set<>;
};

template <class... Sets>
struct join {
  using type = key_set<>;
};
template <class A>
struct join<A> {
  using type = A;
};
template <class... A, class... Rest>
struct join<key_set<A...>, key_set<>, Rest...> : join<key_set<A...>, Rest...> {};
template <class B, class... BRest, class... Rest>
struct join<key_set<>, key_set<B, BRest...>, Rest...> : join<key_set<B, BRest...>, Rest...> {};
template <class A, class... ARest, class... Rest>
struct join<key_set<A, ARest...>, key_set<A, ARest...>, Rest...>  // the usual case: nothing to sort
    : join<key_set<A, ARest...>, Rest...> {};
template <class A, class... ARest, class B, class... BRest, class... Rest>
struct join<key_set<A, ARest...>, key_set<B, BRest...>, Rest...>
    : join<typename canonical<A, ARest..., B, BRest...>::type, Rest...> {};

template <class A>
struct argument_traits {
  static constexpr bool is_tensor = false;
  using keys = key_set<>;
};
template <class T, class K>
struct argument_traits<tensor<T, K>> {
  static constexpr bool is_tensor = true;
  using keys = K;
};
/// Several results, as the output of a call.
template <class... A>
struct argument_traits<std::tuple<A...>> {
  static constexpr bool is_tensor = false;
  using keys = typename join<typename argument_traits<A>::keys...>::type;
};

}  // namespace detail

/// The set of some keys: highest priority first, each once.
template <class... K>
using make_key_set = typename detail::canonical<K...>::type;
template <class... Sets>
using set_union = typename detail::join<Sets...>::type;

namespace detail {
template <class Set, class Key>
struct remove;
template <class... K, class Key>
struct remove<key_set<K...>, Key> {
  using type = set_union<std::conditional_t<std::is_same_v<K, Key>, key_set<>, key_set<K>>...>;
};
}  // namespace detail

template <class Set, class Key>
using exclude = typename detail::remove<Set, Key>::type;

template <class A>
concept Tensor = detail::argument_traits<std::remove_cv_t<A>>::is_tensor;
template <class A>
concept FloatingTensor = Tensor<A> && Floating<typename A::value_type>;

/// The chip of a set. Backends have the lowest priority, so it stands last.
template <class Set>
struct backend_of {
  using key = void;
  static constexpr bool is_one = false;
};
template <class First, class... K>
struct backend_of<key_set<First, K...>> {
  using key = std::tuple_element_t<sizeof...(K), std::tuple<First, K...>>;
  static constexpr bool is_one = int{BackendKey<First>} + (0 + ... + int{BackendKey<K>}) == 1;
};
template <class Keys>
using chip_of = typename backend_of<Keys>::key::chip;

namespace detail {
/// Whether a key of the set keeps elements from new tensors.
template <class... K>
[[nodiscard]] bool withheld(key_set<K...>) {
  const auto asked = []<class Key>(std::type_identity<Key>) {
    if constexpr (requires { Key::withholds(); }) {
      return Key::withholds();
    }
    return false;
  };
  return (asked(std::type_identity<K>{}) || ...);
}
template <class Set>
inline constexpr bool can_withhold = false;
template <class... K>
inline constexpr bool can_withhold<key_set<K...>> = (requires { K::withholds(); } || ...);
/// Where `x` has no elements to read, a key of it says so.
template <class T, class... K>
void require_elements(std::string_view op, const tensor<T, key_set<K...>>& x) {
  const auto ask = [&]<class Key>(std::type_identity<Key>) {
    if constexpr (requires { Key::withholds(); }) {
      x.template state<Key>().require_elements(op, x);
    }
  };
  (ask(std::type_identity<K>{}), ...);
}
}  // namespace detail

namespace detail {
template <class K>
inline constinit thread_local bool excluded = false;
template <class K>
inline constinit thread_local bool included = false;

/// Sets a flag for as long as it lives. Takes back what it set and nothing else, so scopes may end
/// in any order.
class flag_scope {
 public:
  explicit flag_scope(bool& flag) noexcept : set_(std::exchange(flag, true) ? nullptr : &flag) {}
  ~flag_scope() {
    if (set_ != nullptr) {
      *set_ = false;
    }
  }
  flag_scope(const flag_scope&) = delete;
  flag_scope& operator=(const flag_scope&) = delete;

 private:
  bool* set_;
};
}  // namespace detail

/// Calls on this thread pass by `K` for as long as it lives: what is below has the turn.
///
/// Types stay as they are, so a key's `element` rule goes on where types decide. Scopes nest.
/// Cost: keys that are `excludable` read a flag in each call; all others cost nothing.
template <class K>
class excluding : detail::flag_scope {
  static_assert(Excludable<K>,
                "ashlar::excluding: the key does not let scopes switch it off; give it `static "
                "constexpr bool excludable = true;`, or leave it by type with without<Key>(x)");

 public:
  excluding() noexcept : flag_scope(detail::excluded<K>) {}
};

/// Calls with an `any_tensor` on this thread have `K` in their set for as long as it lives, whether
/// their tensors carry it or not; where `K` is excluded too, it is not.
///
/// Calls by type say it by type: `with<Key>(x)`.
template <class K>
class including : detail::flag_scope {
  static_assert(Excludable<K>,
                "ashlar::including: the key does not let scopes switch it; give it `static "
                "constexpr bool excludable = true;`, or add it by type with with<Key>(x)");

 public:
  including() noexcept : flag_scope(detail::included<K>) {}
};

/// The same elements without a key, by type: `without<keys::autograd>(x)` leaves the tape.
template <class Key, class T, class K>
[[nodiscard]] tensor<T, exclude<K, Key>> without(const tensor<T, K>& x) {
  return tensor<T, exclude<K, Key>>(static_cast<const tensor_handle&>(x));
}
/// The same elements with one more key, by type; its state starts empty.
template <class Key, class T, class K>
[[nodiscard]] tensor<T, set_union<K, key_set<Key>>> with(const tensor<T, K>& x) {
  return tensor<T, set_union<K, key_set<Key>>>(x);
}

namespace detail {
/// Leaves a key, whatever `a` is.
template <class Key, class A>
decltype(auto) without_key(const A& a) {
  if constexpr (Tensor<A>) {
    return without<Key>(a);
  } else {
    return (a);
  }
}
}  // namespace detail

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/config.hpp"
#include "ashlar/dispatch/any_tensor.hpp"
#include "ashlar/dispatch/errors.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/step.hpp"

/// One level of a call whose keys are values: the same kernels as `step`, picked by bits.
namespace ashlar {

/// A call whose kernel does not take the element types. Where types tell, it is a compile error
/// instead.
struct unsupported_elements final : error {
  std::string op;
  std::string chip;
  std::string types;  ///< of the tensors

  unsupported_elements(std::string_view operation, std::string_view name, std::string elements,
                       std::source_location at = std::source_location::current())
      : error(at), op(operation), chip(name), types(std::move(elements)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::" + op + ": the kernel for " + chip + " has no `impl` for elements " + types +
           "; add an overload or cast first";
  }
};

namespace detail {

/// A key as `missing_kernel` names it.
template <class Key>
constexpr std::string_view key_name() {
  if constexpr (BackendKey<Key>) {
    return Key::chip::description.name;
  } else {
    return readable<Key>();
  }
}

template <class Set>
struct keys_in;
template <class... K>
struct keys_in<key_set<K...>> {
  static constexpr std::size_t count = sizeof...(K);
  template <std::size_t I>
  using key = std::tuple_element_t<I, std::tuple<K...>>;
};

/// An argument for the time of a call: by type over a body that the caller's handle keeps, or as it
/// is.
template <class X>
struct held {
  const X& value;
  explicit held(const X& x) : value(x) {}
  const X& get() const { return value; }
};
template <Tensor X>
class held<X> {
 public:
  explicit held(const tensor_handle& x) : x_(static_cast<body_of<typename X::keys>*>(x.body())) {}
  ~held() {}  // the reference is the caller's
  held(const held&) = delete;
  held& operator=(const held&) = delete;
  const X& get() const { return x_; }

 private:
  union {
    X x_;
  };
};

/// What is written to, by type for as long as it lives.
template <class Stack, class X>
class lent {
 public:
  lent(any_tensor<Stack>& x, key_bits keys)
      : now(std::move(static_cast<tensor_handle&>(x))), from_(x), keys_(x.tag().keys() | keys) {}
  ~lent() { from_.take_back(std::move(now), keys_); }  // which leaves nothing to destroy
  lent(const lent&) = delete;
  lent& operator=(const lent&) = delete;

  union {
    X now;
  };

 private:
  any_tensor<Stack>& from_;
  key_bits keys_;
};

/// The rest of a call under `Full`, of whose keys those in `remaining` have not had their turn; the
/// first `From` have.
template <class Op, form F, class Full, std::size_t From = 0>
struct any_step {
  using op = Op;
  using keys = Full;
  static constexpr form kind = F;
  template <class... A>
  using result = typename detail::result_by<Op, F, Full, key_set<>, A...>::type;

  key_bits carried;    ///< the keys of the arguments
  key_bits remaining;  ///< the backend's always among them

  template <class... A>
  ASHLAR_INLINE result<A...> operator()(A&... args) const {
    // Who begins a call has looked at the scopes; kernels may have opened more on the way.
    const key_bits left = From == 0 ? remaining : remaining & ~scoped_keys<Full>::excluded();
    return answer<From>(rules<Op, Full>.resolve(left).key, args...);
  }
  /// As `step::composed`.
  template <class... A>
  result<A...> composed(A&... args) const {
    return exactly<0, Full>(carried | scoped_keys<Full>::included(), args...);
  }

 private:
  using list = keys_in<Full>;
  template <std::size_t I>
  static constexpr key_bits bit = key_bits{1} << I;

  template <std::size_t I, class... A>
  ASHLAR_INLINE result<A...> answer(std::size_t at, A&... args) const {
    if constexpr (I == list::count) {
      throw missing_kernel(name_of<Op>(), key_name<typename list::template key<I - 1>>());
    } else {
      constexpr found how = rules<Op, Full>.rule[I];
      using key = typename list::template key<I>;
      if constexpr (how != found::fallthrough) {
        if (at == I) {
          if constexpr (how == found::missing) {
            throw missing_kernel(name_of<Op>(), key_name<key>());
          } else if constexpr (how == found::composite) {
            return composed(args...);
          } else {
            const any_step<Op, F, Full, I + 1> next{carried, remaining & ~(bit<I> | (bit<I> - 1))};
            return level<Op, F, Full, key_set<>>::template answer<key, how>(next, args...);
          }
        }
      }
      return answer<I + 1>(at, args...);
    }
  }

  /// The composite with the keys that the call was given, no more: its parts are calls by type.
  template <std::size_t I, class Set, class... A>
  result<A...> exactly(key_bits given, A&... args) const {
    if constexpr (I + 1 >= list::count) {
      return level<Op, F, Set, key_set<>>::template without_kernel<found::composite>(args...);
    } else {
      using key = typename list::template key<I>;
      if ((given & bit<I>) != 0) {
        return exactly<I + 1, Set>(given, args...);
      }
      if constexpr (Excludable<key>) {
        const excluding<key> off;
        return exactly<I + 1, Set>(given, args...);
      } else {
        return leaving<I + 1, exclude<Set, key>, key>(given, args...);
      }
    }
  }
  template <std::size_t I, class Fewer, class Key, class... A>
  result<A...> leaving(key_bits given, A&... args) const {
    if constexpr (F == form::functional) {
      return [&](const auto&... lower) {
        return result<A...>(exactly<I, Fewer>(given, lower...));
      }(without_key<Key>(args)...);
    } else {
      return [&](auto& out, auto&... rest) -> result<A...> {
        auto lower = without_key<Key>(out);
        const tensor_body* const before = lower.body();
        [&](const auto&... in) {
          exactly<I, Fewer>(given, lower, in...);
        }(without_key<Key>(rest)...);
        if (lower.body() != before) {  // it was still to be made
          out = lower;
        }
        return out;
      }(args...);
    }
  }
};

}  // namespace detail
}  // namespace ashlar

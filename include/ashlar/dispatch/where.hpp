// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <type_traits>

#include "ashlar/config.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/fwd.hpp"

/// Where in the user's code a call stands, for those who ask.
namespace ashlar {

namespace detail {

struct call_site {
  bool wanted = false;        ///< somebody on this thread asks
  bool under_way = false;     ///< `at` is that of a call that has not returned
  std::source_location at{};  ///< the outermost call of the user
};
inline constinit thread_local call_site site;

template <class A>
inline constexpr bool is_any = false;
template <class Stack>
inline constexpr bool is_any<any_tensor<Stack>> = true;

template <class... A>
concept CallsRecorded =
    ((is_any<std::remove_cv_t<A>> ||
      contains<typename argument_traits<std::remove_cv_t<A>>::keys, keys::autograd> ||
      contains<typename argument_traits<std::remove_cv_t<A>>::keys, keys::capture>) ||
     ...);

/// For as long as it lives, calls of `A...` stand at `at`, unless they are parts of another one.
///
/// Cost: the test of a flag, for tensors that are recorded; nothing for all others.
template <class... A>
class [[maybe_unused]] located {
 public:
  explicit constexpr located(const std::source_location&) {}
};
template <class... A>
  requires CallsRecorded<A...>
class located<A...> {
 public:
  ASHLAR_INLINE explicit located(const std::source_location& at)
      : mine_(site.wanted && !site.under_way) {
    if (mine_) [[unlikely]] {
      site.at = at;
      site.under_way = true;
    }
  }
  ASHLAR_INLINE ~located() {
    if (mine_) [[unlikely]] {
      site.at = {};
      site.under_way = false;
    }
  }
  located(const located&) = delete;
  located& operator=(const located&) = delete;

 private:
  bool mine_;
};

/// The same for a call of `out=`: at run time it has no place, as the tape does not record it.
template <class... A>
using located_output = located<std::conditional_t<is_any<A>, void, A>...>;

template <class... A>
[[gnu::noinline]] decltype(auto) placed_out_of_line(const std::source_location& at, const auto& f) {
  const located<A...> here(at);
  return f();
}
/// `f()` as a call of `A...` that stands at `at`. At run time nothing is kept for the way back
/// where nobody asks.
template <class... A>
ASHLAR_INLINE decltype(auto) placed(const std::source_location& at, const auto& f) {
  if constexpr ((is_any<A> || ...)) {
    if (site.wanted) [[unlikely]] {
      return placed_out_of_line<A...>(at, f);
    }
    return f();
  } else {
    const located<A...> here(at);
    return f();
  }
}

/// A tensor that knows where it was handed over.
template <class X>
struct handed_over {
  const X& value;
  std::source_location at;
  handed_over(const X& x, std::source_location here = std::source_location::current())
      : value(x), at(here) {}
};

}  // namespace detail
}  // namespace ashlar

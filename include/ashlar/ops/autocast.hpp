// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/dispatch/keys.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/dispatch/step.hpp"
#include "ashlar/fwd.hpp"
#include "ashlar/ops/fwd.hpp"

/// Mixed precision: a key that says in which element type each operator works.
namespace ashlar {

/// Which operators work in the lower precision, which in float32, and which in the widest type
/// among their arguments. All others take their arguments as they come, promoted as always.
///
/// Source: PyTorch's lists for CUDA (torch.amp, "Autocast Op Reference"), as far as the operators
/// exist here; `rms_norm` stands beside `layer_norm`.
struct autocast_lists {
  using lower = ops::operators<ops::matmul, ops::linear, ops::linear_bias, ops::conv2d,
                               ops::scaled_dot_product_attention>;
  using full = ops::operators<ops::exp, ops::log, ops::pow, ops::rsqrt, ops::sum, ops::sum_squares,
                              ops::cumsum, ops::softmax, ops::log_softmax, ops::cross_entropy,
                              ops::layer_norm, ops::rms_norm>;
  using widest = ops::operators<ops::cat>;
};

namespace detail {
template <class Op, class List>
inline constexpr bool is_listed = false;
template <class Op, class... Each>
inline constexpr bool is_listed<Op, ops::operators<Each...>> = (std::is_same_v<Op, Each> || ...);
}  // namespace detail

namespace keys {

/// Calls of tensors with this key happen in the element type that `Lists` says.
///
/// As in PyTorch: operators of `lower` take float32 and 16-bit floats as `L` and give `L`, those of
/// `full` take 16-bit floats as float32 and give float32; float64, integers and `bool` stay as they
/// are. Casts are ordinary calls above the tape, so gradients come back in the type of what was
/// cast. The type of a result is known to the compiler; in an `excluding<keys::autocast<L>>` scope
/// the work is done as without the key, and the result is cast to that type. The forms `out=` and
/// in place write where they are told: their output must have the result's type.
template <class L = bfloat16, class Lists = autocast_lists>
struct autocast {
  static_assert(dtype_of<L> == dtype::bfloat16 || dtype_of<L> == dtype::float16,
                "ashlar::keys::autocast<L>: L must be bfloat16 or float16");
  static constexpr int priority = 300;
  static constexpr bool excludable = true;
  static constexpr std::string_view name = "autocast";

  template <class Op>
  static constexpr dtype element(dtype d) {
    const bool narrow = d == dtype::bfloat16 || d == dtype::float16;
    if (ashlar::detail::is_listed<Op, typename Lists::lower>) {
      return narrow || d == dtype::float32 ? dtype_of<L> : d;
    }
    if (ashlar::detail::is_listed<Op, typename Lists::full>) {
      return narrow ? dtype::float32 : d;
    }
    return d;
  }
};

}  // namespace keys

namespace detail {

/// The casts of weights that a thread keeps; none while `scopes` is 0.
struct kept_casts {
  struct entry {
    tensor_handle weight;  ///< so that nothing else comes to its address
    std::uint32_t version;
    tensor_handle cast;
  };
  int scopes = 0;
  std::unordered_map<const tensor_body*, entry> all;

  static kept_casts& of_thread() {
    static thread_local kept_casts casts;
    return casts;
  }
};

/// A leaf of the tape: what a module holds and an optimizer changes.
template <class X>
[[nodiscard]] bool is_weight(const X& x) {
  if constexpr (contains<typename X::keys, keys::autograd>) {
    const auto& gradient = x.template state<keys::autograd>().gradient;
    return gradient && gradient->is_leaf() && !x.body()->base;
  } else {
    return false;
  }
}

}  // namespace detail

/// While it lives, this thread casts each weight once: calls of keys with `autocast` share the
/// result, recorded as one call, until the weight is written to.
///
/// Scopes nest; the outermost one lets go of what is kept. Let it end before `backward`, as a pass
/// through a recorded call uses it up.
class caching_casts {
 public:
  caching_casts() { ++detail::kept_casts::of_thread().scopes; }
  ~caching_casts() {
    auto& casts = detail::kept_casts::of_thread();
    if (--casts.scopes == 0) {
      casts.all.clear();
    }
  }
  caching_casts(const caching_casts&) = delete;
  caching_casts& operator=(const caching_casts&) = delete;
};

template <class L, class Lists>
struct kernel<ops::cast<L>, keys::autocast<L, Lists>> {
  template <class Step, class... A>
  static decltype(auto) impl(Step next, A&... args) {
    if constexpr (Step::kind == form::functional && contains<typename Step::keys, keys::autograd>) {
      return kept(next, args...);
    } else {
      return next(args...);
    }
  }

 private:
  template <class Step, class X>
  static auto kept(Step next, const X& x) -> typename Step::template result<const X> {
    using returned = typename Step::template result<const X>;
    auto& casts = detail::kept_casts::of_thread();
    if (casts.scopes == 0 || !detail::is_weight(x)) {
      return next(x);
    }
    const std::uint32_t version = x.body()->version;
    if (const auto found = casts.all.find(x.body());
        found != casts.all.end() && found->second.version == version) {
      return returned(found->second.cast);
    }
    returned y = next(x);
    if (y.template state<keys::autograd>().gradient) {  // else it leads to no gradient
      casts.all.insert_or_assign(x.body(), detail::kept_casts::entry{x, version, y});
    }
    return y;
  }
};
template <class L, class Lists>
struct fallback<keys::autocast<L, Lists>> : fallthrough {};

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops/fwd.hpp"

namespace ashlar::detail::parts {

template <class Key>
inline constexpr bool has_prims = []<class... Op>(ops::operators<Op...>) {
  return ((rule<Op, Key>() <= found::tile) && ...);
}(ops::prims{});

/// A backend goes on to the parts where it has kernels, or tile programs, for all prims.
struct from_prims {
  template <class Key>
  static constexpr bool answers = has_prims<Key>;
};

}  // namespace ashlar::detail::parts

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <type_traits>

#include "ashlar/ops.hpp"
#include "ashlar/ops/decompositions.hpp"

/// A chip with kernels for the core set alone.
namespace core_only {

namespace al = ashlar;
namespace ops = ashlar::ops;

using host_key = al::keys::backend<al::chip::host>;
struct core_chip;

/// The host's kernel of a prim.
template <class Op>
struct lent {
  using op = Op;
  using run = std::conditional_t<al::exists<al::kernel<Op, host_key>>, al::kernel<Op, host_key>,
                                 al::tile_kernel<Op, al::chip::host>>;
  static constexpr al::output_kind outputs = [] {
    if constexpr (requires { run::outputs; }) {
      return run::outputs;
    } else {
      return al::output_kind::raw_strided;
    }
  }();
  template <class... A>
    requires requires(al::context<al::chip::host>& host, A&... args) { run::impl(host, args...); }
  static void impl(al::context<core_chip>&, A&&... args) {
    run::impl(al::context<al::chip::host>::current(), args...);
  }
};
struct nothing {  // views need no kernel
  using op = void;
};
template <class... Op>
auto lent_all(ops::operators<Op...>)
    -> al::kernels<std::conditional_t<al::View<Op>, nothing, lent<Op>>..., lent<ops::cast<double>>,
                   lent<ops::cast<std::int64_t>>>;

struct core_chip {
  static constexpr al::chip_description description{.name = "core_chip"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = decltype(lent_all(ops::prims{}));
};

}  // namespace core_only

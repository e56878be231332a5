// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/conformance/samples/attention.hpp"
#include "ashlar/conformance/samples/elementwise.hpp"
#include "ashlar/conformance/samples/layers.hpp"
#include "ashlar/conformance/samples/reductions.hpp"
#include "ashlar/conformance/samples/shapes.hpp"

namespace ashlar::conformance {

namespace detail {
template <class Op, class List>
inline constexpr bool is_one_of = false;
template <class Op, class... Other>
inline constexpr bool is_one_of<Op, ops::operators<Other...>> = (std::is_same_v<Op, Other> || ...);
/// Still to be written.
using waiting =
    ops::operators<ops::unfold, ops::unfold_backward, ops::cumsum, ops::argsort, ops::gather,
                   ops::scatter, ops::conv2d, ops::max_pool2d, ops::avg_pool2d, ops::batch_norm,
                   ops::batch_norm_train, ops::dropout>;
template <class... Op>
consteval bool each_has_samples(ops::operators<Op...>) {
  return ((HasSamples<Op> || is_one_of<Op, waiting>)&&...);
}
}  // namespace detail

static_assert(detail::each_has_samples(ops::all{}),
              "ashlar::conformance: an operator of ashlar::ops::all has no samples; specialise "
              "samples<Op> in ashlar/conformance/samples/, see ashlar/conformance/sample.hpp");

}  // namespace ashlar::conformance

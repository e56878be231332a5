// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/conformance/samples/attention.hpp"
#include "ashlar/conformance/samples/creation.hpp"
#include "ashlar/conformance/samples/elementwise.hpp"
#include "ashlar/conformance/samples/indexing.hpp"
#include "ashlar/conformance/samples/layers.hpp"
#include "ashlar/conformance/samples/orders.hpp"
#include "ashlar/conformance/samples/reductions.hpp"
#include "ashlar/conformance/samples/shapes.hpp"
#include "ashlar/conformance/samples/windows.hpp"

namespace ashlar::conformance {

namespace detail {
template <class... Op>
consteval bool each_has_samples(ops::operators<Op...>) {
  return (HasSamples<Op> && ...);
}
}  // namespace detail

static_assert(detail::each_has_samples(ops::all{}),
              "ashlar::conformance: an operator of ashlar::ops::all has no samples; specialise "
              "samples<Op> in ashlar/conformance/samples/, see ashlar/conformance/sample.hpp");

}  // namespace ashlar::conformance

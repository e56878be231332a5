// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/autograd/node.hpp"
#include "ashlar/dispatch/where.hpp"

namespace ashlar {

/// For as long as it lives on this thread, calls note where they stand in the user's code, and
/// backward passes look at every gradient.
///
/// The place is that of a call with up to eight arguments, in any form and also at run time, or of
/// an infix operator; inside a composite that of the composite. Longer calls have none.
/// A gradient with a NaN ends the pass with `not_a_number`: the operator, the argument, and the
/// place of the forward call. Where the backward of an operator throws, the place is printed to
/// stderr first.
/// Cost: a small object per call, and a look at each element of each gradient.
class anomaly_mode {
 public:
  explicit anomaly_mode(bool on = true, bool check_nan = true) noexcept
      : notes_(on), looks_(on && check_nan), before_(ashlar::detail::site) {
    ashlar::detail::site = {on, false, {}};
  }
  ~anomaly_mode() { ashlar::detail::site = before_; }
  anomaly_mode(const anomaly_mode&) = delete;
  anomaly_mode& operator=(const anomaly_mode&) = delete;

 private:
  autograd::detail::with_state<&autograd::thread_state::anomaly> notes_;
  autograd::detail::with_state<&autograd::thread_state::check_nan> looks_;
  ashlar::detail::call_site before_;
};

}  // namespace ashlar

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "ashlar/nn/module.hpp"
#include "ashlar/ops/dropout.hpp"

namespace ashlar::nn {

/// Random numbers of one seed, each used once: calls take their blocks in turn.
///
/// Setting `used` back to what it was gives the same numbers again, for a forward pass that is
/// computed twice.
struct random_stream {
  std::uint64_t seed = 0;
  mutable std::uint64_t used = 0;  ///< blocks so far; see `random_blocks`
};

/// Zeros in a share `p` of the places in training, other ones in each call; else `x` itself.
struct dropout {
  BOOST_HANA_DEFINE_STRUCT(dropout, (double, p), (random_stream, random), (bool, training));

  template <FloatingTensor X>
  X operator()(const X& x) const {
    if (!training || p == 0.0) {
      return x;
    }
    const std::uint64_t begin = random.used;
    random.used += static_cast<std::uint64_t>(random_blocks<typename X::value_type>(x.size()));
    return ashlar::dropout(x, p, random.seed, begin);
  }

  [[nodiscard]] static dropout make(double share, std::uint64_t seed) {
    dropout made;
    made.p = share;
    made.random = {seed, 0};
    made.training = true;
    return made;
  }
};

}  // namespace ashlar::nn

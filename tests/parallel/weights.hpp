// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

#include "ashlar/nn/module.hpp"
#include "ashlar/ops/copy.hpp"

/// The elements of all parameters of a module, one after the other.
template <class Model>
std::vector<float> weights_of(const Model& m) {
  std::vector<float> all;
  for (const auto& p : ashlar::nn::parameters(m)) {
    const auto v = ashlar::to_vector(p);
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>

#include "ashlar/chip/host/gemm_args.hpp"

/// Every test begins with this (CMakeLists.txt): the host's products, thirty unrolled kernels for
/// each type, are compiled once, in the file beside this. Declared again, as `chip/host/gemm.hpp`
/// costs a second to read and not every test multiplies.
namespace ashlar::chip {
template <std::floating_point T>
void gemm(const gemm_args<T>& args);
extern template void gemm<float>(const gemm_args<float>&);
extern template void gemm<double>(const gemm_args<double>&);
}  // namespace ashlar::chip

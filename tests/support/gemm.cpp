// SPDX-License-Identifier: Apache-2.0
#include "support/gemm.hpp"

#include "ashlar/chip/host/gemm.hpp"

template void ashlar::chip::gemm<float>(const ashlar::chip::gemm_args<float>&);
template void ashlar::chip::gemm<double>(const ashlar::chip::gemm_args<double>&);

// EXPECT-ERROR: [Nn]o matching function
// SPDX-License-Identifier: Apache-2.0
#include <span>

#include "ashlar/comm.hpp"

void use(ashlar::comm::threads& t, std::span<long double> data) {
  ashlar::comm::all_reduce(t, data);
}

// EXPECT-ERROR: Transport
// SPDX-License-Identifier: Apache-2.0
#include <span>

#include "ashlar/comm/collectives.hpp"

struct one_way {
  int rank() const { return 0; }
  int size() const { return 1; }
  void send(int, std::span<const std::byte>, int) {}
};
void use(one_way& t, std::span<float> data) { ashlar::comm::all_reduce(t, data); }

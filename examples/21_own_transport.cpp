// SPDX-License-Identifier: Apache-2.0
// Collectives over a transport that the library does not know: four processes and TCP
// (own_transport/tcp.hpp). Sums have the bits that threads give, messages are as many.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/comm.hpp"
#include "own_transport/tcp.hpp"

namespace comm = ashlar::comm;

namespace {
constexpr int ranks = 4;
constexpr std::size_t count = 100003;

long long number(std::int64_t n) { return n; }

std::vector<float> values_of(int rank) {
  std::vector<float> v(count);
  for (std::size_t i = 0; i < count; ++i) {
    v[i] = static_cast<float>((i * 31 + static_cast<std::size_t>(rank) * 17) % 1009) / 7.0f;
  }
  return v;
}
}  // namespace

int main() {
  const auto expected = comm::run(ranks, [](comm::threads& t) {
    auto mine = values_of(t.rank());
    comm::all_reduce<comm::ring>(t, std::span(mine));
    return mine;
  });
  const bool right = own::on_processes(ranks, [&expected](own::tcp& t) {
    comm::logged log(t);  // as on any transport
    auto mine = values_of(t.rank());
    comm::all_reduce<comm::ring>(log, std::span(mine));
    const bool reduced = mine == expected[static_cast<std::size_t>(t.rank())];

    const auto own = comm::chunk_of(count, ranks, t.rank());
    std::vector<float> all(count);
    comm::all_gather(log, std::span(std::as_const(mine)).subspan(own.first, own.size()),
                     std::span(all));
    const bool gathered = all == mine;

    std::size_t bytes = 0;
    for (const comm::message_record& m : log.messages()) {
      bytes += m.bytes;
    }
    std::vector<std::int64_t> sum{static_cast<std::int64_t>(log.messages().size()),
                                  static_cast<std::int64_t>(bytes), reduced ? 1 : 0,
                                  gathered ? 1 : 0};
    comm::all_reduce(t, std::span(sum));
    if (t.rank() == 0) {
      std::printf("all-reduce and all-gather of %zu floats on %d processes\n", count, ranks);
      std::printf("%lld messages, %lld bytes\n", number(sum[0]), number(sum[1]));
      std::printf("sums are those of threads on %lld ranks, all have all on %lld\n", number(sum[2]),
                  number(sum[3]));
      std::fflush(stdout);
    }
    return reduced && gathered;
  });
  return right ? 0 : 1;
}

// prints: all-reduce and all-gather of 100003 floats on 4 processes
// prints: 36 messages, 3600108 bytes
// prints: sums are those of threads on 4 ranks, all have all on 4

// SPDX-License-Identifier: Apache-2.0
// A transport from outside the library: examples/own_transport/tcp.hpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/threads.hpp"
#include "laws/messages.hpp"
#include "laws/transport.hpp"
#include "own_transport/tcp.hpp"

namespace comm = ashlar::comm;

TEST_CASE("comm/own_transport: the laws of a transport hold between processes over TCP") {
  for (const int p : {1, 2, 3, 4}) {
    CAPTURE(p);
    CHECK(own::on_processes(p, [](own::tcp& t) {
      bool right = ashlar::laws::broken_transport_law(t).empty();
      for (std::uint64_t seed = 0; seed < 10; ++seed) {
        right = ashlar::laws::broken_message_group_law(t, seed).empty() && right;
      }
      return right;
    }));
  }
}

TEST_CASE("comm/own_transport: sums over TCP have the bits of threads, and as many messages") {
  const auto values = [](std::size_t n, int rank) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) {
      v[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(rank) * 13) % 101) / 3.0F;
    }
    return v;
  };
  const auto sum = [&](auto& t, std::size_t n) {
    comm::logged log(t);
    auto mine = values(n, t.rank());
    comm::all_reduce(log, std::span(mine));
    return std::pair(mine, log.messages());
  };
  for (const std::size_t n : {0u, 1u, 7u, 4099u, 300007u}) {
    CAPTURE(n);
    const auto expected = comm::run(3, [&](comm::threads& t) { return sum(t, n); });
    CHECK(own::on_processes(
        3, [&](own::tcp& t) { return sum(t, n) == expected[static_cast<std::size_t>(t.rank())]; }));
  }
}

TEST_CASE(
    "comm/own_transport: who waits for a process that has gone is told so; withdrawn receives "
    "leave memory alone") {
  CHECK(own::on_processes(2, [](own::tcp& t) {
    std::array<std::byte, 4> place{};
    if (t.rank() == 1) {
      return true;  // and leaves
    }
    try {
      auto r = t.irecv(1, place, 0);
      t.wait(r);
    } catch (const comm::peer_failed& e) {
      return e.rank == 0 && e.peer == 1;
    }
    return false;
  }));
  CHECK(own::on_processes(2, [](own::tcp& t) {
    const std::array<std::byte, 4> sent{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    std::array<std::byte, 4> first{};
    std::array<std::byte, 4> second{};
    if (t.rank() == 1) {
      auto s = t.isend(0, sent, 0);
      t.wait(s);
      return true;
    }
    { const auto withdrawn = t.irecv(1, first, 0); }
    auto r = t.irecv(1, second, 0);
    t.wait(r);
    return first == std::array<std::byte, 4>{} && second == sent;
  }));
  CHECK(!own::on_processes(2, [](own::tcp& t) -> bool {
    if (t.rank() == 1) {
      throw std::runtime_error("rank 1 is ill");
    }
    return true;
  }));
  CHECK(own::on_processes(2, [](own::tcp& t) {
    std::array<std::byte, 4> place{};
    if (t.rank() == 0) {
      usleep(20000);
      auto s = t.isend(1, place, 0);
      t.wait(s);
      return true;
    }
    std::signal(SIGALRM, [](int) {});
    ualarm(2000, 2000);  // signals while it waits
    auto r = t.irecv(0, place, 0);
    t.wait(r);
    ualarm(0, 0);
    return true;
  }));
}

TEST_CASE("comm/own_transport: a process that never comes is named in time") {
  std::vector<own::door> doors;
  for (int i = 0; i < 3; ++i) {
    doors.emplace_back(3);
  }
  try {
    const own::tcp alone(0, doors, /*patience_ms=*/20);
    FAIL("nobody else came");
  } catch (const comm::timed_out& e) {
    CHECK(e.rank == 0);
    CHECK(e.peer == 1);
    CHECK(!e.sending);
  }
  for (const own::door& d : doors) {
    close(d.fd);
  }
}

// SPDX-License-Identifier: Apache-2.0
// Runs as four processes, each of which checks what it sees.
#include "ashlar/comm/mpi.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/threads.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;

static_assert(comm::Transport<comm::mpi>);

namespace {

const comm::mpi_session session;  // before main: doctest owns that

std::vector<float> values(std::size_t n, int rank) {
  std::mt19937 random(static_cast<std::uint32_t>(rank) * 1000 + static_cast<std::uint32_t>(n));
  std::vector<float> v(n);
  for (float& x : v) {
    x = static_cast<float>(std::ldexp(static_cast<double>(random() % 100003) - 50001.0,
                                      static_cast<int>(random() % 21) - 10));
  }
  return v;
}

}  // namespace

TEST_CASE("comm/mpi: the laws of a transport hold") {
  comm::mpi on;
  CHECK(ashlar::laws::broken_transport_law(on) == "");
}

TEST_CASE_TEMPLATE("comm/mpi: processes give the bits that threads give", Algorithm, comm::ring,
                   comm::ordered) {
  comm::mpi on;
  for (const std::size_t n : {0u, 1u, 3u, 5u, 97u, 4099u, 300007u}) {
    CAPTURE(n);
    auto mine = values(n, on.rank());
    comm::all_reduce<Algorithm>(on, std::span(mine));
    const auto expected = comm::run(on.size(), [n](comm::threads& t) {
      auto x = values(n, t.rank());
      comm::all_reduce<Algorithm>(t, std::span(x));
      return x;
    });
    CHECK((n == 0 || std::memcmp(mine.data(), expected[0].data(), n * sizeof(float)) == 0));
  }
}

TEST_CASE("comm/mpi: messages of one tag come in order, tags are apart, empty ones count") {
  comm::mpi on;
  const int next = (on.rank() + 1) % on.size();
  const int before = (on.rank() + on.size() - 1) % on.size();
  const auto bytes = [](const int& x) { return std::as_bytes(std::span(&x, 1)); };
  int a = 0;
  int b = 0;
  const int first = on.rank() * 10 + 1;
  const int second = on.rank() * 10 + 2;
  on.sendrecv(next, bytes(first), before, std::as_writable_bytes(std::span(&a, 1)), 7);
  on.sendrecv(next, bytes(second), before, std::as_writable_bytes(std::span(&b, 1)), 7);
  CHECK(a == before * 10 + 1);
  CHECK(b == before * 10 + 2);
  on.sendrecv(next, {}, before, {}, 9);
  if (on.size() > 1 && on.rank() == 0) {
    on.send(1, bytes(first), 3);
    on.send(1, bytes(second), 4);
  } else if (on.rank() == 1) {
    on.recv(0, std::as_writable_bytes(std::span(&b, 1)), 4);
    on.recv(0, std::as_writable_bytes(std::span(&a, 1)), 3);
    CHECK(a == 1);
    CHECK(b == 2);
  }
}

TEST_CASE("comm/mpi: peers and tags that are not there are refused") {
  comm::mpi on;
  CHECK_THROWS_AS(on.send(on.size(), {}, 0), ashlar::argument_error);
  CHECK_THROWS_AS(on.recv(-1, {}, 0), ashlar::argument_error);
  CHECK_THROWS_AS(on.send(0, {}, -1), ashlar::argument_error);
}

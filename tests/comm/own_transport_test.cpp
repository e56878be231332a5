// SPDX-License-Identifier: Apache-2.0
// A transport from outside the library: examples/own_transport/tcp.hpp.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
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

namespace {

/// Descriptors that this process has open.
std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

}  // namespace

TEST_CASE(
    "comm/own_transport: a process that never comes, or never says who it is, is named in "
    "time and leaves nothing open") {
  const auto before = open_descriptors();
  for (const bool comes : {false, true}) {
    CAPTURE(comes);
    std::vector<own::door> doors;
    for (int i = 0; i < 3; ++i) {
      doors.emplace_back(3);
    }
    const own::descriptor mute(own::sure(socket(AF_INET, SOCK_STREAM, 0), "socket"));
    if (comes) {
      own::sure(
          connect(mute.get(), reinterpret_cast<const sockaddr*>(&doors[0].at), sizeof doors[0].at),
          "connect");
      own::sure(send(mute.get(), "\1", 1, MSG_NOSIGNAL), "send");  // of four bytes
    }
    try {
      const own::tcp alone(0, doors, /*patience_ms=*/20);
      FAIL("nobody else came");
    } catch (const comm::timed_out& e) {
      CHECK(e.rank == 0);
      CHECK(e.peer == (comes ? 0 : 1));  // behind the mute one nobody was let in
      CHECK(!e.sending);
    }
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE(
    "comm/own_transport: who goes before it has said who it is, and a rank that is none, are "
    "errors") {
  std::vector<own::door> doors;
  doors.emplace_back(3);
  const auto come = [&](std::span<const std::byte> words) {
    own::descriptor stranger(own::sure(socket(AF_INET, SOCK_STREAM, 0), "socket"));
    own::sure(connect(stranger.get(), reinterpret_cast<const sockaddr*>(&doors[0].at),
                      sizeof doors[0].at),
              "connect");
    own::sure(send(stranger.get(), words.data(), words.size(), MSG_NOSIGNAL), "send");
  };
  const int none = 7;
  come(std::as_bytes(std::span(&none, 1)).first(2));
  CHECK_THROWS_AS(own::tcp(0, doors, 1000), comm::peer_failed);
  doors.clear();
  doors.emplace_back(3);
  come(std::as_bytes(std::span(&none, 1)));
  CHECK_THROWS_AS(own::tcp(0, doors, 1000), ashlar::argument_error);
  doors.clear();
  doors.emplace_back(3);
  doors.emplace_back(3);
  const int twice = 0;
  come(std::as_bytes(std::span(&twice, 1)));  // as rank 0 says of itself
  CHECK_THROWS_AS(own::tcp(0, doors, 1000), ashlar::argument_error);
}

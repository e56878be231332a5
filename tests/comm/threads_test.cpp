// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/threads.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;

namespace {

std::span<const std::byte> out(const int& value) { return std::as_bytes(std::span(&value, 1)); }
std::span<std::byte> in(int& value) { return std::as_writable_bytes(std::span(&value, 1)); }

}  // namespace

TEST_CASE("comm/transport: the laws of a transport hold") {
  namespace laws = ashlar::laws;
  for (const int p : {1, 2, 3, 5}) {
    CAPTURE(p);
    const std::vector<std::string> none(static_cast<std::size_t>(p));
    CHECK(comm::run(p, [](comm::threads& t) { return laws::broken_transport_law(t); }) == none);
    CHECK(comm::run(p, [](comm::threads& t) {
            comm::logged<comm::threads> noted(t);
            return laws::broken_transport_law(noted);
          }) == none);
    laws::post_office office;
    CHECK(comm::run(p, [&office](comm::threads& t) {
            laws::postal_transport post(office, t.rank(), t.size());
            return laws::broken_transport_law(post);
          }) == none);
  }
}

TEST_CASE("comm/transport: collectives ask no more of a transport than the concept does") {
  ashlar::laws::post_office office;
  const auto sums = comm::run(3, [&office](comm::threads& t) {
    ashlar::laws::postal_transport post(office, t.rank(), t.size());
    std::vector<float> mine(7, static_cast<float>(t.rank() + 1));
    comm::all_reduce<comm::ring>(post, std::span(mine));
    comm::all_reduce<comm::ordered>(post, std::span(mine));
    return mine;
  });
  for (const auto& got : sums) {
    CHECK(got == std::vector<float>(7, 18.0F));  // 1 + 2 + 3, and that of three ranks
  }
}

TEST_CASE("comm/threads: a message arrives in one piece, whatever its size") {
  for (const std::size_t size : {0u, 1u, 17u, 100003u}) {
    comm::run(2, [size](comm::threads& t) {
      std::vector<std::byte> data(size, std::byte{7});
      if (t.rank() == 0) {
        t.send(1, data, 3);
      } else {
        std::vector<std::byte> got(size);
        t.recv(0, got, 3);
        if (got != data) {
          throw std::runtime_error("other bytes");
        }
      }
    });
  }
}

TEST_CASE("comm/threads: run returns what the ranks return") {
  const auto values = comm::run(5, [](comm::threads& t) { return t.rank() * 10 + t.size(); });
  CHECK(values == std::vector<int>{5, 15, 25, 35, 45});
  CHECK_THROWS_AS(comm::run(0, [](comm::threads&) {}), ashlar::argument_error);
}

TEST_CASE("comm/threads: everyone sends around a circle at once") {
  for (const int p : {1, 2, 3, 7}) {
    const auto got = comm::run(p, [p](comm::threads& t) {
      int carried = t.rank();
      int sum = 0;
      for (int i = 0; i < p; ++i) {
        int next = -1;
        t.sendrecv((t.rank() + 1) % p, out(carried), (t.rank() + p - 1) % p, in(next), 1);
        carried = next;
        sum += carried;
      }
      return sum;
    });
    CHECK(got == std::vector<int>(static_cast<std::size_t>(p), p * (p - 1) / 2));
  }
}

TEST_CASE("comm/threads: messages with one tag keep their order, tags are told apart") {
  const auto got = comm::run(3, [](comm::threads& t) {
    std::array<int, 4> values{};
    if (t.rank() == 0) {
      // A second thread of the same rank, as for overlapped communication.
      std::thread other([&t] {
        const int a = 1;
        const int b = 2;
        t.send(2, out(a), 5);
        t.send(2, out(b), 5);
      });
      const int c = 3;
      t.send(2, out(c), 6);
      other.join();
    } else if (t.rank() == 1) {
      const int d = 4;
      t.send(2, out(d), 5);
    } else {
      t.recv(0, in(values[0]), 6);
      t.recv(1, in(values[1]), 5);
      t.recv(0, in(values[2]), 5);
      t.recv(0, in(values[3]), 5);
    }
    return values;
  });
  CHECK(got[2] == std::array<int, 4>{3, 4, 1, 2});
}

TEST_CASE("comm/threads: unequal sizes are an error with both ranks and sizes, on both sides") {
  std::atomic<int> thrown = 0;
  const auto got = comm::run(3, [&thrown](comm::threads& t) {
    std::array<std::byte, 8> bytes{};
    const auto check = [&](const comm::size_mismatch& e) {
      if (e.from == 0 && e.to == 1 && e.tag == 9 && e.sent == 8 && e.expected == 4) {
        ++thrown;
      }
      return std::string(e.what());
    };
    std::string text;
    try {
      if (t.rank() == 0) {
        t.send(1, bytes, 9);
      } else if (t.rank() == 1) {
        t.recv(0, std::span(bytes).first(4), 9);
      }
    } catch (const comm::size_mismatch& e) {
      text = check(e);
    }
    // The group goes on.
    int next = 0;
    const int mine = t.rank();
    t.sendrecv((t.rank() + 1) % 3, out(mine), (t.rank() + 2) % 3, in(next), 9);
    return text + std::to_string(next);
  });
  CHECK(thrown == 2);
  CHECK(got[0] == "ashlar::comm: rank 0 sends 8 bytes with tag 9, rank 1 expects 42");
  CHECK(got[2] == "1");
}

TEST_CASE("comm/threads: when a rank throws, the others wake up and its exception comes out") {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> woken = 0;
    const auto body = [&woken](comm::threads& t) {
      int value = 0;
      try {
        if (t.rank() == 2) {
          throw std::out_of_range("rank 2 is ill");
        }
        if (t.rank() == 0) {
          t.recv(2, in(value), 0);
        } else if (t.rank() == 1) {
          t.send(2, out(value), 0);
        } else {
          t.sendrecv(0, out(value), 1, in(value), 4);  // waits for ranks that are well
        }
      } catch (const comm::peer_failed& e) {
        woken += e.rank == t.rank() && e.peer == 2 ? 1 : 100;
        throw;
      }
    };
    CHECK_THROWS_AS(comm::run(4, body), std::out_of_range);
    CHECK(woken == 3);
  }
}

TEST_CASE("comm/threads: who waits for a rank that has finished is told so") {
  const auto body = [](comm::threads& t) {
    int value = 0;
    if (t.rank() == 1) {
      t.recv(0, in(value), 0);
    }
  };
  try {
    comm::run(2, body);
    FAIL("rank 1 got a message that nobody sent");
  } catch (const comm::peer_failed& e) {
    CHECK(e.rank == 1);
    CHECK(e.peer == 0);
  }
}

TEST_CASE("comm/threads: ranks that do not exist are refused") {
  comm::thread_group group(2);
  CHECK_THROWS_AS(static_cast<void>(group.endpoint(2)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(group.endpoint(-1)), ashlar::argument_error);
  CHECK_THROWS_AS(comm::thread_group(-1), ashlar::argument_error);
  auto t = group.endpoint(0);
  CHECK_THROWS_AS(t.send(2, {}, 0), ashlar::argument_error);
  CHECK_THROWS_AS(t.recv(-1, {}, 0), ashlar::argument_error);
  CHECK(t.size() == 2);
}

TEST_CASE("comm/threads: a time-out is a time; one of many years waits") {
  using seconds = std::chrono::duration<double>;
  CHECK_THROWS_AS(comm::thread_group(1, seconds(-1)), ashlar::argument_error);
  CHECK_THROWS_AS(comm::thread_group(1, seconds(std::nan(""))), ashlar::argument_error);
  for (const double years : {1e3, 1e30, std::numeric_limits<double>::infinity()}) {
    const auto got = comm::run(
        2,
        [](comm::threads& t) {
          int value = t.rank();
          if (t.rank() == 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));  // until the other sleeps
            t.send(1, out(value), 0);
          } else {
            t.recv(0, in(value), 0);
          }
          return value;
        },
        seconds(years * 3.15e7));
    CHECK(got == std::vector<int>{0, 0});
  }
}

TEST_CASE("comm/threads: a rank may send to itself while it receives") {
  comm::thread_group group(1);
  auto t = group.endpoint(0);
  const int mine = 5;
  int got = 0;
  t.sendrecv(0, out(mine), 0, in(got), 0);
  CHECK(got == 5);
}

TEST_CASE("comm/threads: a sender puts its message in the receiver's place") {
  comm::thread_group group(2, std::chrono::seconds(5));
  auto a = group.endpoint(0);
  auto b = group.endpoint(1);
  const int sent = 7;
  int got = 0;
  auto received = b.irecv(0, in(got), 0);
  auto message = a.isend(1, out(sent), 0);
  REQUIRE(a.test(message));  // nobody else has done anything
  CHECK(got == 7);
  CHECK(b.test(received));
  // Not in one of another size: the receiver says so, to both.
  std::array<std::byte, 2> small{};
  auto wrong = b.irecv(0, small, 0);
  auto refused = a.isend(1, out(sent), 0);
  CHECK_FALSE(a.test(refused));
  CHECK_THROWS_AS(b.wait(wrong), comm::size_mismatch);
  CHECK_THROWS_AS(a.wait(refused), comm::size_mismatch);
  // Nor where there is no place, until the receiver has given it back.
  auto borrowed = b.iborrow(0, sizeof(sent), 0);
  auto lent = a.isend(1, out(sent), 0);
  CHECK_FALSE(a.test(lent));
  REQUIRE(b.test(borrowed));
  CHECK_FALSE(a.test(lent));
  CHECK(b.borrowed(borrowed).data() == out(sent).data());
  b.give_back(borrowed);
  CHECK(a.test(lent));
}

TEST_CASE("comm/threads: a receive that is withdrawn while its sender writes ends after that") {
  constexpr std::size_t bytes = 1 << 22;
  comm::thread_group group(2);
  std::atomic<bool> over = false;
  std::thread sender([&] {
    auto t = group.endpoint(0);
    const std::vector<std::byte> sent(bytes, std::byte{1});
    while (!over) {
      auto message = t.isend(1, sent, 0);
      while (!over && !t.test(message)) {
      }
    }
  });
  auto t = group.endpoint(1);
  int torn = 0;
  for (int i = 0; i < 40; ++i) {
    std::vector<std::byte> place(bytes);  // outlives its receive, and no more
    {
      const auto receive = t.irecv(0, place, 0);
      std::this_thread::sleep_for(std::chrono::microseconds(5 * i));
    }
    for (std::size_t at = 0; at < bytes; at += bytes / 8) {  // copies need not begin in front
      torn += place[at + 1000] == place[1000] ? 0 : 1;
    }
  }
  over = true;
  sender.join();
  CHECK(torn == 0);
}

TEST_CASE("comm/threads: whom a withdrawn message had met meets the next one") {
  comm::thread_group group(2, std::chrono::seconds(5));
  auto a = group.endpoint(0);
  auto b = group.endpoint(1);
  const std::array<int, 2> sent{1, 2};
  int got = 0;
  {
    auto received = b.irecv(0, in(got), 0);
    auto first = std::make_optional(a.isend(1, out(sent[0]), 0));
    auto second = a.isend(1, out(sent[1]), 0);
    first.reset();
    REQUIRE(b.test(received));
    CHECK(a.test(second));
    CHECK(got == 2);
  }
  {  // the same from the other side
    auto first = std::make_optional(b.irecv(0, in(got), 0));
    auto message = a.isend(1, out(sent[0]), 0);
    int other = 0;
    auto second = b.irecv(0, in(other), 0);
    first.reset();
    REQUIRE(b.test(second));
    CHECK(a.test(message));
    CHECK(other == 1);
  }
}

TEST_CASE("comm/threads: receives whose messages are withdrawn keep their order") {
  comm::thread_group group(2, std::chrono::seconds(5));
  auto a = group.endpoint(0);
  auto b = group.endpoint(1);
  const std::array<int, 4> sent{1, 2, 3, 4};
  std::array<int, 2> got{};
  auto r1 = b.irecv(0, in(got[0]), 0);
  auto r2 = b.irecv(0, in(got[1]), 0);
  auto s1 = std::make_optional(a.isend(1, out(sent[0]), 0));
  auto s2 = std::make_optional(a.isend(1, out(sent[1]), 0));
  s1.reset();
  s2.reset();
  auto s3 = a.isend(1, out(sent[2]), 0);
  auto s4 = a.isend(1, out(sent[3]), 0);
  REQUIRE(b.test(r1));
  REQUIRE(b.test(r2));
  CHECK(got == std::array<int, 2>{3, 4});
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/group.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/comm/any_endpoint.hpp"
#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/threads.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;

static_assert(comm::LendingTransport<comm::group<comm::threads>>);
static_assert(comm::SilentlyRecording<comm::group<comm::any_endpoint>>);
// All ranks would have to enter, and only the group's do.
static_assert(!comm::RecordingTransport<comm::group<comm::checked<comm::threads>>>);

TEST_CASE("comm/group: the laws of a transport hold in every part of a split") {
  const auto broken = comm::run(6, [](comm::threads& t) {
    comm::group world(t);
    auto part = world.split(t.rank() % 2);
    return ashlar::laws::broken_transport_law(world) + ashlar::laws::broken_transport_law(part);
  });
  CHECK(broken == std::vector<std::string>(6));
}

TEST_CASE("comm/group: rows and columns of a grid, split again, are summed at the same time") {
  const auto right = comm::run(6, [](comm::threads& t) {
    comm::group world(t);
    auto row = world.split(t.rank() / 3);                // 0 1 2 | 3 4 5
    auto column = world.split(t.rank() % 3, -t.rank());  // 3 0 | 4 1 | 5 2
    auto pair = row.split(t.rank() % 3 == 2 ? 1 : 0);    // 0 1 | 2 | 3 4 | 5
    bool good = row.size() == 3 && column.size() == 2 && column.rank() == (t.rank() < 3 ? 1 : 0);
    std::vector<std::int32_t> a(50, t.rank());
    std::vector<std::int32_t> b(70, t.rank());
    std::vector<std::int32_t> c(90, t.rank());
    auto first = comm::start_all_reduce<comm::ring>(row, std::span(a));
    auto second = comm::start_all_reduce<comm::ring>(column, std::span(b));
    auto third = comm::start_all_reduce<comm::recursive_doubling>(pair, std::span(c));
    for (bool open = true; open;) {
      open = !third.test();
      open = !second.test() || open;
      open = !first.test() || open;
    }
    const int start = t.rank() / 3 * 3;
    good = good && a == std::vector<std::int32_t>(50, 3 * start + 3);
    good = good && b == std::vector<std::int32_t>(70, 2 * (t.rank() % 3) + 3);
    good = good && c == std::vector<std::int32_t>(90, t.rank() % 3 == 2 ? t.rank() : 2 * start + 1);
    return good && pair.members().front() == (t.rank() % 3 == 2 ? t.rank() : start);
  });
  CHECK(right == std::vector<bool>(6, true));
}

TEST_CASE("comm/group: when tags run out a split is refused, and the groups go on") {
  comm::thread_group ranks(1);
  auto t = ranks.endpoint(0);
  comm::group world(t);
  auto last = world.split(0);
  for (int i = 1; i < 65535; ++i) {
    last = world.split(0);
  }
  CHECK_THROWS_AS(static_cast<void>(world.split(0)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(last.split(0)), ashlar::argument_error);
  const std::byte sent{5};
  std::byte got{};
  last.sendrecv(0, std::span(&sent, 1), 0, std::span(&got, 1), 32767);
  CHECK(got == sent);
}

TEST_CASE_TEMPLATE("comm/group: records are the transport's, with the ranks and tags of the group",
                   Endpoint, comm::threads, comm::any_endpoint) {
  std::latch all(5);  // who goes is a failure at once
  const auto told = comm::run(
      5,
      [&](comm::threads& t) -> std::string {
        Endpoint end = [&]() -> Endpoint {
          if constexpr (std::is_same_v<Endpoint, comm::threads>) {
            return std::move(t);
          } else {
            return Endpoint(t);
          }
        }();
        comm::group world(end);
        auto part = world.split(world.rank() % 2, -world.rank());  // 4 2 0 | 3 1
        std::vector<float> data(8, 1.0F);
        comm::all_reduce<comm::ring>(part, std::span(data));
        std::string words;
        try {
          if (world.rank() % 2 == 1) {
            world.rank() == 3 ? comm::all_reduce<comm::ring>(part, std::span(data), comm::max)
                              : comm::all_reduce<comm::ring>(part, std::span(data), comm::sum);
          } else if (world.rank() != 0) {  // rank 2 of its group does not come
            comm::barrier(part);
          }
        } catch (const ashlar::error& e) {
          words = e.what();
        }
        all.arrive_and_wait();
        return words;
      },
      std::chrono::milliseconds(200));
  const auto says = [&](std::size_t rank, const std::string& words) {
    CAPTURE(told[rank]);
    CHECK(told[rank].find(words) != std::string::npos);
  };
  says(1,
       "rank 1 is in all_reduce(sum, 8 float32, tag 32000), rank 0 in all_reduce(max, 8 float32, "
       "tag 32000)");
  says(3,
       "rank 0 is in all_reduce(max, 8 float32, tag 32000), rank 1 in all_reduce(sum, 8 float32, "
       "tag 32000)");
  for (const std::size_t rank : {2u, 4u}) {
    says(rank, "waited in vain in barrier(");
    says(rank, "rank 2 has not joined");
  }
}

TEST_CASE("comm/group: ranks that wait in collectives of different kinds are told so in time") {
  std::latch both(2);
  const auto told = comm::run(
      2,
      [&](comm::threads& t) {
        comm::group world(t);
        std::vector<float> data(8);
        std::string words;
        try {
          t.rank() == 0 ? comm::barrier(world) : comm::broadcast(world, std::span(data), 0);
        } catch (const comm::collective_timed_out& e) {
          words = e.what();
        }
        both.arrive_and_wait();
        return words;
      },
      std::chrono::milliseconds(100));
  const auto says = [&](std::size_t rank, const std::string& own, const std::string& other) {
    CAPTURE(told[rank]);
    CHECK(told[rank].find("waited in vain in " + own) != std::string::npos);
    CHECK(told[rank].find("has not joined but is in " + other) != std::string::npos);
  };
  says(0, "barrier(", "broadcast(8 float32, root 0");
  says(1, "broadcast(8 float32, root 0", "barrier(");
}

TEST_CASE("comm/group: over any transport without records a time-out stays what it is") {
  std::latch both(2);
  comm::run(
      2,
      [&](comm::threads& t) {
        comm::logged log(t);
        comm::any_endpoint any(log);
        comm::group world(any);
        if (t.rank() == 0) {
          CHECK_THROWS_AS(comm::barrier(world), comm::timed_out);
        }
        both.arrive_and_wait();
        return true;
      },
      std::chrono::milliseconds(100));
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/group.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/comm/threads.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;

static_assert(comm::LendingTransport<comm::group<comm::threads>>);

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

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/messages.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/comm/check.hpp"
#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/comm/threads.hpp"
#include "laws/messages.hpp"

namespace comm = ashlar::comm;

TEST_CASE("comm/messages: what a group says arrives, in whatever order ranks post it") {
  for (const int p : {1, 2, 3, 5, 8}) {
    const auto broken = comm::run(
        p,
        [](comm::threads& t) {
          for (std::uint64_t seed = 0; seed < 40; ++seed) {
            if (auto law = ashlar::laws::broken_message_group_law(t, seed); !law.empty()) {
              return law;
            }
          }
          return std::string();
        },
        std::chrono::seconds(60));
    CHECK(broken == std::vector<std::string>(static_cast<std::size_t>(p)));
  }
}

TEST_CASE("comm/messages: a transport that has only the concept runs groups, part of a group too") {
  ashlar::laws::post_office office;
  std::vector<std::string> broken(4);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      ashlar::laws::postal_transport t(office, rank, 4);
      auto& law = broken[static_cast<std::size_t>(rank)];
      for (std::uint64_t seed = 100; seed < 120 && law.empty(); ++seed) {
        law = ashlar::laws::broken_message_group_law(t, seed);
      }
      comm::group<ashlar::laws::postal_transport> all(t);
      auto half = all.split(rank % 2);
      law += ashlar::laws::broken_message_group_law(half, static_cast<std::uint64_t>(rank % 2));
    });
  }
  for (std::thread& t : ranks) {
    t.join();
  }
  CHECK(broken == std::vector<std::string>(4));
}

TEST_CASE("comm/messages: logs of threads are those of the simulated network") {
  struct sent {
    std::vector<std::vector<comm::message_record>> by_rank;
    void arrived(int from, const comm::step& s, int to, std::size_t, const comm::step&, double,
                 double) {
      by_rank[static_cast<std::size_t>(from)].push_back(
          {from, to, s.count, comm::tags::of(comm::collective::send_receive, 3)});
    }
    void ended(int, const comm::round_steps&, double, double) {}
  };
  constexpr int p = 6;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    const auto on_threads = comm::run(p, [seed](comm::threads& t) {
      comm::logged log(t);
      const ashlar::laws::random_messages messages(p, seed);
      std::vector<std::vector<std::byte>> out;
      std::vector<std::vector<std::byte>> in;
      const auto group = messages.of(t.rank(), out, in, seed);
      comm::send_receive(log, group, 3);
      return std::pair(group.plan(), log.messages());
    });
    sent log{std::vector<std::vector<comm::message_record>>(p)};
    const comm::network net{comm::presets::ring(p, 1e-6, 1e9), 1e-6, 0, true};
    const auto o = comm::simulate(
        net, [&](int r) { return on_threads[static_cast<std::size_t>(r)].first; }, 1, log);
    CHECK(o.complete());
    const auto found = comm::check(
        p, [&](int r) { return on_threads[static_cast<std::size_t>(r)].first; },
        [](int) { return comm::extents{}; });
    CHECK(found.messages == o.messages);
    std::size_t bytes = 0;
    for (std::size_t r = 0; r < p; ++r) {
      // The simulation tells of messages when they have arrived.
      const auto by_peer = [](std::vector<comm::message_record> all) {
        std::ranges::stable_sort(all, [](const auto& a, const auto& b) {
          return std::pair(a.to, a.bytes) < std::pair(b.to, b.bytes);
        });
        return all;
      };
      CHECK(by_peer(on_threads[r].second) == by_peer(log.by_rank[r]));
      for (const comm::message_record& m : on_threads[r].second) {
        bytes += m.bytes;
      }
    }
    CHECK(bytes == o.elements);
  }
}

TEST_CASE("comm/messages: what does not meet is named, by the checker and by those who wait") {
  std::vector<float> a(4);
  std::vector<float> b(4);
  const auto plans = [&](int rank) {  // rank 1 expects nothing
    comm::message_group g;
    if (rank == 0) {
      g.send(1, std::span<const float>(a));
    }
    return g.plan();
  };
  try {
    comm::check(2, plans, [](int) { return comm::extents{}; });
    FAIL("a message that nobody receives");
  } catch (const comm::bad_schedule& e) {
    CHECK(std::string(e.what()) ==
          "ashlar::comm::check: rank 0 waits in round 0 to send to rank 1");
  }
  // Rank 1 is in something else.
  const auto texts = comm::run(
      2,
      [](comm::threads& t) {
        std::vector<std::int32_t> data(2);
        try {
          if (t.rank() == 0) {
            comm::message_group g;
            g.receive(1, std::span(data));
            comm::send_receive(t, g);
          } else {
            comm::all_reduce(t, std::span(data));
          }
        } catch (const comm::collective_timed_out& e) {
          return std::string(e.what());
        } catch (const comm::peer_failed&) {  // the other has given up
          return std::string();
        }
        return std::string("nothing wrong");
      },
      std::chrono::duration<double>(0.2));
  const std::string one =
      "ashlar::comm: rank 0 waited in vain in send_receive(tag 32007); rank 1 has not joined but "
      "is in all_reduce(sum, 2 int32, tag 32000);";
  CHECK((texts[0] == one || texts[0].empty()));
  CHECK((texts[0] == one ||
         texts[1].find("rank 0 has not joined but is in send_receive(tag 32007)") !=
             std::string::npos));
  // A message and its place differ.
  CHECK_THROWS_AS(comm::run(2,
                            [&](comm::threads& t) {
                              std::vector<float> mine(4);
                              comm::message_group g;
                              if (t.rank() == 0) {
                                g.send(1, std::span<const float>(mine));
                              } else {
                                g.receive(0, std::span(mine).first(3));
                              }
                              comm::send_receive(t, g);
                            }),
                  comm::size_mismatch);
  // Of `checked` ranks, all join.
  const auto broken = comm::run(3, [](comm::threads& t) {
    comm::checked<comm::threads> endpoint(t);
    return ashlar::laws::broken_message_group_law(endpoint, 5);
  });
  CHECK(broken == std::vector<std::string>(3));
  // Memory that overlaps.
  comm::thread_group one_rank(1);
  auto self = one_rank.endpoint(0);
  comm::message_group overlapping;
  overlapping.send(0, std::span<const float>(a).first(3)).receive(0, std::span(a).subspan(2, 2));
  CHECK_THROWS_AS(comm::send_receive(self, overlapping), ashlar::argument_error);
  comm::message_group twice;
  twice.receive(0, std::span(a)).receive(0, std::span(a).subspan(3));
  CHECK_THROWS_AS(comm::send_receive(self, twice), ashlar::argument_error);
  // The same bytes may go to several.
  comm::message_group fine;
  a = {1, 2, 3, 4};
  fine.send(0, std::span<const float>(a)).send(0, std::span<const float>(a).first(2));
  std::vector<float> c(2);
  fine.receive(0, std::span(b)).receive(0, std::span(c));
  comm::send_receive(self, fine);
  CHECK(b == a);
  CHECK(c == std::vector<float>{1, 2});
}

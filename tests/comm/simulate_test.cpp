// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/simulate.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/check.hpp"
#include "ashlar/comm/select.hpp"
#include "ashlar/comm/timeline.hpp"
#include "ashlar/trace/chrome.hpp"
#include "laws/faults.hpp"

namespace comm = ashlar::comm;

namespace {

constexpr double latency = 2e-6;
constexpr double bandwidth = 4e9;

template <class A>
comm::outcome time_of(const comm::network& net, const A& how, std::size_t count) {
  const int p = net.wires.ranks();
  return comm::simulate(
      net, [&](int r) { return how.all_reduce(comm::problem::even(p, r, count, 4)); }, 4);
}

/// A schedule of given rounds.
comm::schedule rounds_of(std::vector<comm::round_steps> rounds) {
  const int n = static_cast<int>(rounds.size());
  return {n, 0,
          [rounds](int i, comm::round_steps& out) { out = rounds[static_cast<std::size_t>(i)]; }};
}
comm::step sends(int peer, std::size_t count, std::size_t first = 0) {
  return comm::detail::send_to(peer, {first, first + count});
}
comm::step receives(int peer, std::size_t count, std::size_t first = 0) {
  return comm::detail::receive_from(peer, {first, first + count});
}

}  // namespace

TEST_CASE("comm/simulate: on free links, collectives take what the closed forms say") {
  for (const int p : {2, 4, 8, 16, 32}) {
    CAPTURE(p);
    const double a = latency + 1e-6;  // with the overhead
    const double b = 1 / bandwidth;
    const double g = 3e-11;
    const comm::network net{comm::presets::fully_connected(p, latency, bandwidth), 1e-6, g, false};
    const auto count = static_cast<std::size_t>(p) * 4096;
    const double n = static_cast<double>(count) * 4;
    const double lg = comm::detail::log2_up(p);
    const double share = (p - 1.0) / p;
    CHECK(time_of(net, comm::ring{}, count).seconds ==
          doctest::Approx(2 * (p - 1) * a + 2 * n * share * b + n * share * g).epsilon(1e-9));
    CHECK(time_of(net, comm::recursive_doubling{}, count).seconds ==
          doctest::Approx(lg * (a + n * b + n * g)).epsilon(1e-9));
    CHECK(time_of(net, comm::rabenseifner{}, count).seconds ==
          doctest::Approx(2 * lg * a + 2 * n * share * b + n * share * g).epsilon(1e-9));
    CHECK(time_of(net, comm::binomial{}, count).seconds ==
          doctest::Approx(lg * (2 * a + 2 * n * b + n * g)).epsilon(1e-9));
  }
  // No power of two: (2 floor(lg p) + 2) a and so on; parts are equal in powers of two.
  const comm::network net{comm::presets::fully_connected(6, latency, bandwidth), 0, 0, false};
  const double n = 12.0 * 4096 * 4;
  CHECK(time_of(net, comm::recursive_doubling{}, 12 * 4096).seconds ==
        doctest::Approx(4 * (latency + n / bandwidth)).epsilon(1e-9));
}

TEST_CASE("comm/simulate: costs that are none are refused") {
  const auto run = [](double overhead, double reduce_cost, double packet) {
    static_cast<void>(comm::simulate(
        comm::network{comm::presets::ring(2, latency, bandwidth), overhead, reduce_cost, true,
                      packet},
        [](int) { return rounds_of({}); }, 4));
  };
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  run(0, 0, 0);
  for (const double bad : {-1e-9, none}) {
    CHECK_THROWS_AS(run(bad, 0, 0), ashlar::argument_error);
    CHECK_THROWS_AS(run(0, bad, 0), ashlar::argument_error);
    CHECK_THROWS_AS(run(0, 0, bad), ashlar::argument_error);
  }
}

TEST_CASE("comm/simulate: messages wait for a link that another has") {
  // On a line of three, ranks 0 and 1 send 4000 bytes to rank 2: they share the last link.
  const auto run = [](bool contention) {
    const comm::network net{comm::presets::grid({3}, latency, bandwidth, false), 0, 0, contention};
    return comm::simulate(
               net,
               [](int r) {
                 return r == 2 ? rounds_of({{receives(0, 1000), receives(1, 1000, 1000)}})
                               : rounds_of({{sends(2, 1000)}});
               },
               4)
        .seconds;
  };
  const double wire = 4000 / bandwidth;
  CHECK(run(false) == doctest::Approx(2 * latency + wire));
  // Rank 1's message is first on the link; rank 0's has been stored at rank 1 before.
  CHECK(run(true) == doctest::Approx(2 * latency + 2 * wire));
  // Both at once from one rank: the second waits for the first at the first link.
  const comm::network net{comm::presets::switched(3, latency, bandwidth), 0, 0, true};
  const auto both = comm::simulate(
      net,
      [](int r) {
        return r == 0 ? rounds_of({{sends(1, 1000), sends(2, 1000)}})
                      : rounds_of({{receives(0, 1000)}});
      },
      4);
  CHECK(both.seconds == doctest::Approx(2 * latency + 3 * wire));
}

TEST_CASE("comm/simulate: routes are as long as the topology says") {
  std::vector<comm::hop> way;
  const auto hops = [&](const comm::topology& t, int a, int b) {
    t.route(a, b, way);
    return static_cast<int>(way.size());
  };
  const auto ring = comm::presets::ring(7, 1, 1);
  const auto torus = comm::presets::grid({3, 4, 5}, 1, 1, true);
  const auto mesh = comm::presets::grid({3, 4, 5}, 1, 1, false);
  const auto around = [](int d, int n) { return std::min(d, n - d); };
  for (int a = 0; a < 7; ++a) {
    for (int b = 0; b < 7; ++b) {
      CHECK(hops(ring, a, b) == around(std::abs(a - b), 7));
      CHECK(hops(comm::presets::fully_connected(7, 1, 1), a, b) == (a != b ? 1 : 0));
      CHECK(hops(comm::presets::switched(7, 1, 1), a, b) == (a != b ? 2 : 0));
    }
  }
  for (int a = 0; a < 60; ++a) {
    for (int b = 0; b < 60; ++b) {
      const int x = std::abs(a % 3 - b % 3);
      const int y = std::abs(a / 3 % 4 - b / 3 % 4);
      const int z = std::abs(a / 12 - b / 12);
      CHECK(hops(mesh, a, b) == x + y + z);
      CHECK(hops(torus, a, b) == around(x, 3) + around(y, 4) + around(z, 5));
    }
  }
  const auto tree = comm::presets::fat_tree(8, 1, 10, 2);
  CHECK(hops(tree, 0, 1) == 2);
  CHECK(hops(tree, 0, 2) == 4);
  CHECK(hops(tree, 0, 7) == 6);
  CHECK(way[2].bandwidth == 40);  // as wide as what is below
  // Nodes of four behind a slow switch.
  const comm::topology cluster(
      {{comm::wiring::full, 4, 1e-6, 1e11}, {comm::wiring::star, 3, 5e-6, 1e10}});
  CHECK(cluster.ranks() == 12);
  CHECK(hops(cluster, 0, 3) == 1);
  CHECK(hops(cluster, 0, 7) == 3);
  CHECK_THROWS_AS(comm::topology({{comm::wiring::ring, 0}}), ashlar::argument_error);
}

TEST_CASE("comm/simulate: ten thousand ranks need no thread, and every run is the same") {
  const comm::network net{comm::presets::fat_tree(10000, latency, bandwidth, 10), 0, 0, true};
  const auto o = time_of(net, comm::binomial{}, 64);
  CHECK(o.complete());
  CHECK(o.messages == 2 * 9999);
  CHECK(o == time_of(net, comm::binomial{}, 64));
  const comm::network flat{comm::presets::switched(10000, latency, bandwidth), 0, 0, false};
  CHECK(time_of(flat, comm::recursive_doubling{}, 64).rounds == 13 + 2);
}

TEST_CASE("comm/check: what cannot end, or does not fit, is named before it runs") {
  const auto room = [](int) { return comm::extents{0, 100}; };
  const auto text = [&](int ranks, auto schedules) {
    try {
      comm::check(ranks, schedules, room);
      return std::string("fine");
    } catch (const comm::bad_schedule& e) {
      return std::string(e.what());
    }
  };
  // Both send first and receive then: right only where somebody holds messages.
  CHECK(text(2,
             [](int r) {
               return rounds_of({{sends(1 - r, 1)}, {receives(1 - r, 1, 1)}});
             }) ==
        "ashlar::comm::check: rank 0 waits in round 0 to send to rank 1; "
        "rank 1 waits in round 0 to send to rank 0");
  CHECK(text(2, [](int r) {
          return rounds_of({{sends(1 - r, 1), receives(1 - r, 1, 1)}});
        }) == "fine");
  CHECK(text(2, [](int r) {
          return r == 0 ? rounds_of({{sends(1, 3)}}) : rounds_of({{receives(0, 4)}});
        }) == "ashlar::comm::check: rank 0 sends 3 elements, rank 1 expects 4");
  CHECK(text(2, [](int r) {
          return rounds_of({{sends(1 - r, 3), receives(1 - r, 3, 2)}});
        }) == "ashlar::comm::check: rank 0, round 0: what it sends overlaps what it receives");
  CHECK(text(2, [](int r) { return rounds_of({{sends(1 - r, 101)}}); }) ==
        "ashlar::comm::check: rank 0, round 0: a step leaves its memory");
  CHECK(text(2, [](int) { return rounds_of({{sends(2, 1)}}); }) ==
        "ashlar::comm::check: rank 0, round 0: a step names a rank that does not exist");
  const auto found = comm::check(
      5, [](int r) { return comm::ring{}.all_reduce(comm::problem::even(5, r, 100, 4)); }, room);
  CHECK(found.messages == 40);
  CHECK(found.elements == 800);
}

TEST_CASE("comm/simulate: random collectives with random faults end, and say why") {
  for (std::uint64_t seed = 1000000; seed < 1002000; ++seed) {
    CAPTURE(seed);
    CHECK(ashlar::laws::broken_fault_law(seed) == "");
  }
}

TEST_CASE(
    "comm/simulate: packets cut through links that are free and wait for those that are not") {
  constexpr double overhead = 1e-6;
  const auto net = [](int ranks, double packet) {
    return comm::network{comm::presets::ring(ranks, latency, bandwidth), overhead, 0, true, packet};
  };
  // One message over several links: its first packet at each hop, then the rest.
  const auto alone = [&](int hops, std::size_t bytes, double packet) {
    return comm::simulate(
               net(64, packet),
               [&](int r) {
                 return rounds_of(r == 0      ? std::vector<comm::round_steps>{{sends(hops, bytes)}}
                                  : r == hops ? std::vector<comm::round_steps>{{receives(0, bytes)}}
                                              : std::vector<comm::round_steps>{{}});
               },
               1)
        .seconds;
  };
  for (const int hops : {1, 2, 7, 32}) {
    for (const std::size_t bytes : {1u, 64u, 1000u, 4096u}) {
      const auto n = static_cast<double>(bytes);
      for (const double packet : {64.0, 256.0}) {
        const double first = std::min(n, packet);
        CHECK(alone(hops, bytes, packet) ==
              doctest::Approx(overhead + hops * (latency + first / bandwidth) +
                              (n - first) / bandwidth)
                  .epsilon(1e-12));
      }
      // Whole messages are stored, as they are where a packet is larger than they.
      CHECK(alone(hops, bytes, 0) ==
            doctest::Approx(overhead + hops * (latency + n / bandwidth)).epsilon(1e-12));
      CHECK(alone(hops, bytes, 0) == alone(hops, bytes, 1e9));
    }
  }
  // Exchanges at distance d put d messages on the link in the middle, whose bytes take d times as
  // long, however small packets are; a link's rate bounds all of them.
  for (const int d : {1, 2, 4, 8}) {
    CAPTURE(d);
    constexpr std::size_t bytes = 4096;
    constexpr double n = bytes;
    const double took =
        comm::simulate(
            net(64, 64),
            [&](int r) {
              const int peer = r ^ d;
              return rounds_of({{sends(peer, bytes), receives(peer, bytes, bytes)}});
            },
            1)
            .seconds;
    CHECK(took >= overhead + d * n / bandwidth);
    CHECK(took <= overhead + d * (latency + (n + 64) / bandwidth));
  }
}

TEST_CASE("comm/select: with contention on a ring, long messages go around it, short ones do not") {
  // 10 Gbit/s Ethernet around a ring of switches that pass on what they have of a message; with
  // 1 us per message.
  const auto ethernet = [](int ranks) {
    return comm::network{comm::presets::ring(ranks, 3e-7, 1.25e9), 1e-6, 0, true, 64};
  };
  // One way around a Blue Gene/P's torus, 425 MB/s and 0.1 us a hop.
  const auto torus = [](int ranks) {
    return comm::network{comm::presets::ring(ranks, 1e-7, 0.425e9), 1e-6, 0, true, 32};
  };
  // Links of an NVLink-like node that store messages at each hop.
  const auto stored = [](int ranks, double hop) {
    return comm::network{comm::presets::ring(ranks, hop, 25e9), 1e-6, 0, true};
  };
  for (const int p : {8, 16, 32, 64}) {
    CAPTURE(p);
    for (const auto& net : {ethernet(p), stored(p, 1e-6)}) {
      const comm::by_cost choice(net);
      CHECK(choice.pick(std::size_t{16} << 20, 4) == "ring");
      CHECK(choice.pick(256, 4) != "ring");
    }
  }
  CHECK(comm::by_cost(ethernet(32)).pick(std::size_t{64} << 20, 4) == "ring");
  // Where a kibibyte takes a link longer than twice a hop, exchanges at distance d wait for d - 1
  // others, a tree's messages for none.
  for (const auto& net : {torus(1024), torus(1500), torus(2048), ethernet(1024)}) {
    CAPTURE(net.wires.ranks());
    const auto ranked = comm::rank_candidates(net, comm::all_candidates(), 256, 4);
    CHECK(ranked[0].name == "double_tree");
    CHECK(ranked[0].exact);
  }
  // Where hops take longer than bytes, exchanges make half the hops of a tree's way up and down.
  const auto ranked = comm::rank_candidates(stored(1024, 1e-7), comm::all_candidates(), 256, 4);
  CHECK(ranked[0].name == "recursive_doubling");
  CHECK(ranked[1].name == "double_tree");
  // The cost model is the simulation: what it picks is the fastest of all.
  const comm::network net{comm::presets::switched(12, 1e-6, 1e10), 1e-6, 0, true};
  for (const std::size_t count : {16u, 4096u, 1u << 20}) {
    const auto best = comm::rank_candidates(net, comm::all_candidates(), count, 4).front();
    for (const auto& c : comm::all_candidates()) {
      CHECK(best.seconds <= time_of(net, c, count).seconds);
    }
  }
}

TEST_CASE("comm/select: a table of sizes decides, and refuses names that nobody has") {
  const comm::by_table table({{1024, "recursive_doubling"}, {1u << 20, "rabenseifner"}});
  CHECK(table.pick(0) == "recursive_doubling");
  CHECK(table.pick(1024) == "recursive_doubling");
  CHECK(table.pick(1025) == "rabenseifner");
  CHECK(table.pick(std::size_t{1} << 30) == "rabenseifner");
  CHECK(table.all_reduce(comm::problem::even(8, 0, 64, 4)).rounds() == 3);
  CHECK(table.all_reduce(comm::problem::even(8, 0, 4096, 4)).rounds() == 6);
  CHECK_THROWS_AS(comm::by_table({}), ashlar::argument_error);
  CHECK_THROWS_AS(comm::by_table({{1, "magic"}}), ashlar::argument_error);
  CHECK_THROWS_AS(comm::by_cost({comm::presets::ring(2, 0, 1)}, {}), ashlar::argument_error);
}

TEST_CASE("comm/network: as many ranks as an int counts, and no more") {
  CHECK_THROWS_AS(comm::presets::grid({65536, 65536}, 0, 1, true), ashlar::argument_error);
  CHECK(comm::presets::grid({65536, 32767}, 0, 1, true).ranks() == 65536 * 32767);
  // Of two billion nodes, the last is far from the first: up and down 31 levels.
  const int most = std::numeric_limits<int>::max();
  std::vector<comm::hop> way;
  comm::presets::fat_tree(most, 0, 1).route(0, most - 1, way);
  CHECK(way.size() == 62);
  CHECK(way[30].bandwidth == 1073741824.0);
}

TEST_CASE("comm/timeline: a simulated collective becomes a Chrome trace") {
  comm::timeline_of_simulation seen(4);
  const comm::network net{comm::presets::ring(3, latency, bandwidth), 0, 0, true};
  const auto o = comm::simulate(
      net, [](int r) { return comm::ring{}.all_reduce(comm::problem::even(3, r, 30, 4)); }, 4,
      seen);
  CHECK(seen.timeline().events().size() == 2 * o.messages);
  CHECK(static_cast<double>(seen.timeline().end()) ==
        doctest::Approx(o.seconds * 1e12).epsilon(1e-6));
  const std::string json = ashlar::trace::to_chrome_trace(seen.timeline());
  CHECK(json.find("\"reduce from 2\"") != std::string::npos);
  CHECK(json.find("\"bytes\":\"40\"") != std::string::npos);
  // Reductions take their time behind the messages: on each rank 2 of 4 rounds, 10 elements each.
  comm::timeline_of_simulation reducing(4);
  const comm::network slow{comm::presets::ring(3, latency, bandwidth), 0, 1e-9, true};
  comm::simulate(
      slow, [](int r) { return comm::ring{}.all_reduce(comm::problem::even(3, r, 30, 4)); }, 4,
      reducing);
  CHECK(reducing.timeline().events().size() == 2 * o.messages + 3 * 2);
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(reducing.timeline().busy(rank, 2) == 2 * 40 * 1000);  // picoseconds
  }
}

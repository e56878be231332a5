// SPDX-License-Identifier: Apache-2.0
// Runs as several processes, each of which checks what it sees.
#include "ashlar/comm/mpi.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/calibrate.hpp"
#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/comm/traced.hpp"
#include "laws/messages.hpp"
#include "laws/schedule.hpp"
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

TEST_CASE("comm/mpi: every algorithm sends what it sends between threads, and gives its bits") {
  comm::mpi on;
  static constexpr std::size_t n = 5003;
  const auto check = [&](auto how) {
    comm::logged log(on);
    auto mine = values(n, on.rank());
    comm::all_reduce(log, std::span(mine), comm::sum, how);
    const auto expected = comm::run(on.size(), [how](comm::threads& t) {
      comm::logged noted(t);
      auto x = values(n, t.rank());
      comm::all_reduce(noted, std::span(x), comm::sum, how);
      return std::pair(x, noted.messages());
    });
    const auto& [bits, messages] = expected[static_cast<std::size_t>(on.rank())];
    CHECK(std::memcmp(mine.data(), bits.data(), n * sizeof(float)) == 0);
    CHECK(log.messages() == messages);
    // The simulated network's log: the same schedules, without transport.
    std::vector<comm::schedule> plans;
    std::vector<std::vector<float>> data;
    for (int r = 0; r < on.size(); ++r) {
      plans.push_back(how.all_reduce(comm::problem::even(on.size(), r, n, sizeof(float))));
      data.push_back(values(n, r));
    }
    auto simulated =
        ashlar::laws::run_all(plans, data, comm::reducer_of<float, comm::sum_op>).messages;
    auto& own = simulated[static_cast<std::size_t>(on.rank())];
    for (comm::message_record& m : own) {
      m.tag = comm::tags::of(comm::collective::all_reduce, 0);
    }
    CHECK(own == messages);
    CHECK(std::memcmp(data[0].data(), bits.data(), n * sizeof(float)) == 0);
  };
  check(comm::ring{});
  check(comm::segmented_ring{4096});
  check(comm::recursive_doubling{});
  check(comm::rabenseifner{});
  check(comm::binomial{});
  check(comm::chain{4096});
  check(comm::double_tree{4096});
  check(comm::hierarchical{2});
  check(comm::fixed_order<comm::recursive_doubling>{});
}

TEST_CASE("comm/mpi: groups of sends and receives arrive, in whatever order ranks post them") {
  comm::mpi on;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    CHECK(ashlar::laws::broken_message_group_law(on, seed) == "");
  }
}

TEST_CASE("comm/mpi: processes agree on what they have measured a step to cost") {
  comm::mpi on;
  const comm::step_cost cost = comm::calibrate(on, {{0, 1024, 65536}, 3});
  std::vector<double> least{cost.alpha, cost.beta, cost.gamma};
  std::vector<double> most = least;
  comm::all_reduce(on, std::span(least), comm::min);
  comm::all_reduce(on, std::span(most), comm::max);
  CHECK(least == most);
  CHECK(cost.alpha + cost.beta > 0);
  CHECK(cost.gamma > 0);
}

TEST_CASE("comm/mpi: processes' records become one timeline") {
  comm::mpi on;
  comm::run_record record(on.rank());
  comm::traced<comm::mpi> t(on, record);
  std::vector<float> data(1000, 1.0F);
  { const auto busy = t.compute("nothing"); }
  comm::all_reduce<comm::ring>(t, std::span(data));
  CHECK(data[0] == static_cast<float>(on.size()));
  const auto all = comm::gather_timelines(on, record.timeline());
  for (int rank = 0; rank < on.size(); ++rank) {
    // Computation, the collective, and its messages.
    CHECK(std::ranges::count(all.events(), rank, &ashlar::trace::event::process) ==
          2 + 4 * (on.size() - 1));
    CHECK(comm::overlap_of(all, rank).hidden == 0);
  }
}

TEST_CASE("comm/mpi: collectives on different channels are under way at once") {
  comm::mpi on;
  std::vector<std::vector<std::int32_t>> data;
  std::vector<comm::work<comm::mpi>> under_way;
  for (int i = 0; i < 4; ++i) {
    data.emplace_back(1000, on.rank() + i);
  }
  for (int i = 0; i < 4; ++i) {
    under_way.push_back(comm::start_all_reduce<comm::ring>(
        on, std::span(data[static_cast<std::size_t>(i)]), comm::sum, {}, i));
  }
  const int p = on.size();
  for (int i = 0; i < 4; ++i) {
    const auto at = static_cast<std::size_t>((i + on.rank()) % 4);
    while (!under_way[at].test()) {
      for (auto& w : under_way) {
        w.test();
      }
    }
    CHECK(data[at] == std::vector<std::int32_t>(1000, p * (p - 1) / 2 + p * static_cast<int>(at)));
  }
}

TEST_CASE("comm/mpi: who waits for a message that nobody sends is told so in time") {
  comm::mpi on(MPI_COMM_WORLD, std::chrono::milliseconds(100));
  std::vector<std::byte> nothing(1);
  CHECK_THROWS_AS(on.recv((on.rank() + 1) % on.size(), nothing, 11), comm::timed_out);
}

TEST_CASE("comm/mpi: checked ranks name another collective, and who has joined none") {
  comm::mpi on(MPI_COMM_WORLD, std::chrono::milliseconds(500));
  comm::checked safe(on);
  std::vector<float> data(8, 1.0F);
  comm::all_reduce<comm::ring>(safe, std::span(data));
  CHECK(data == std::vector<float>(8, static_cast<float>(on.size())));
  const int last = on.size() - 1;
  try {
    on.rank() == last ? comm::all_reduce<comm::ring>(safe, std::span(data), comm::max)
                      : comm::all_reduce<comm::ring>(safe, std::span(data), comm::sum);
    FAIL("different operations");
  } catch (const comm::collective_mismatch& e) {
    CHECK(e.other_rank == (on.rank() == last ? 0 : last));
    CHECK(std::string(e.other.op) == (on.rank() == last ? "sum" : "max"));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (on.rank() != last) {  // the last rank does not come
    try {
      comm::barrier(safe);
      FAIL("a barrier without the last rank");
    } catch (const comm::collective_timed_out& e) {
      CHECK(e.absent == std::vector<comm::rank_report>{{last, ""}});
    }
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_CASE("comm/mpi: a group split in two sums in both halves") {
  comm::mpi on;
  comm::group world(on);
  auto half = world.split(on.rank() % 2);
  std::vector<std::int32_t> data(100, on.rank());
  comm::all_reduce<comm::rabenseifner>(half, std::span(data));
  std::int32_t sum = 0;
  for (int r = on.rank() % 2; r < on.size(); r += 2) {
    sum += r;
  }
  CHECK(data == std::vector<std::int32_t>(100, sum));
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

TEST_CASE("comm/mpi: a withdrawn receive leaves its memory and the message to the next") {
  comm::mpi on;
  const int next = (on.rank() + 1) % on.size();
  const int before = (on.rank() + on.size() - 1) % on.size();
  for (const std::size_t n : {1u, 1000u, 1000003u}) {  // the last is no eager message
    CAPTURE(n);
    const std::vector<std::byte> sent(n, std::byte{1});
    std::vector<std::byte> left(n);
    std::vector<std::byte> got(n);
    { const auto withdrawn = on.irecv(before, left, 12); }
    MPI_Barrier(MPI_COMM_WORLD);  // nobody sends before all have withdrawn
    on.sendrecv(next, sent, before, got, 12);
    CHECK(got == sent);
    CHECK(left == std::vector<std::byte>(n));
    // There before its receive is: taken to its end, or left to the next.
    auto early = on.isend(next, sent, 13);
    MPI_Barrier(MPI_COMM_WORLD);
    { const auto withdrawn = on.irecv(before, left, 13); }
    const bool taken = left == sent;
    auto later = on.isend(next, sent, 13);
    for (int missing = taken ? 1 : 2; missing > 0; --missing) {
      std::ranges::fill(got, std::byte{});
      on.recv(before, got, 13);
      CHECK(got == sent);
    }
    CHECK(left == (taken ? sent : std::vector<std::byte>(n)));
    on.wait(early);
    on.wait(later);
  }
}

TEST_CASE("comm/mpi: peers and tags that are not there are refused") {
  comm::mpi on;
  CHECK_THROWS_AS(on.send(on.size(), {}, 0), ashlar::argument_error);
  CHECK_THROWS_AS(on.recv(-1, {}, 0), ashlar::argument_error);
  CHECK_THROWS_AS(on.send(0, {}, -1), ashlar::argument_error);
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/program.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/any_endpoint.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/recorded.hpp"
#include "ashlar/comm/select.hpp"
#include "ashlar/comm/threads.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;
using doctest::Approx;

static_assert(comm::PlanningTransport<comm::recorded<comm::threads>>);
static_assert(comm::PlanningTransport<comm::group<comm::any_endpoint>>);
static_assert(!comm::PlanningTransport<comm::group<comm::threads>>);

namespace {

constexpr double overhead = 1e-6;

comm::network ring_of(int ranks) {
  return {comm::presets::ring(ranks, 2e-6, 4e9), overhead, 1e-11, true};
}

struct result {
  comm::rank_program program;
  std::vector<float> values;
};

/// Both halves of the ranks sum up beside a computation; then values go round.
template <class T>
void halves(T& t, comm::program_recorder* record, std::vector<float>& values) {
  comm::group world(t);
  auto half = world.split(t.rank() % 2);
  values.assign(1000, 1.0F + static_cast<float>(t.rank()));
  auto sum = comm::start_all_reduce<comm::ring>(half, std::span(values));
  if (record != nullptr) {
    record->computes("layer", 1e-3);
  }
  while (!sum.test()) {  // how often is a matter of luck, and not recorded
  }
  sum.wait();
  std::vector<float> from(values.size());
  const int next = (t.rank() + 1) % t.size();
  const int before = (t.rank() + t.size() - 1) % t.size();
  auto sent = world.isend(next, std::as_bytes(std::span<const float>(values)), 7);
  auto received = world.irecv(before, std::as_writable_bytes(std::span(from)), 7);
  world.wait(received);
  world.wait(sent);
  values = from;
  if (record != nullptr) {
    record->mark();
  }
}

std::vector<result> recorded_run(int ranks) {
  return comm::run(ranks, [](comm::threads& inner) {
    comm::program_recorder record;
    comm::recorded t(inner, record);
    comm::any_endpoint any(t);
    result r;
    halves(any, &record, r.values);
    r.program = std::move(record.program());
    return r;
  });
}

}  // namespace

TEST_CASE("comm/program: a collective alone takes what it takes in simulate") {
  for (const int p : {1, 2, 5, 8}) {
    for (const std::size_t n : {0u, 1u, 1000u, 100003u}) {
      for (const comm::candidate& c : comm::all_candidates()) {
        CAPTURE(p);
        CAPTURE(n);
        CAPTURE(c.name);
        const auto plan = [&](int r) { return c.all_reduce(comm::problem::even(p, r, n, 4)); };
        std::vector<comm::rank_program> programs(static_cast<std::size_t>(p));
        for (int r = 0; r < p; ++r) {
          auto& mine = programs[static_cast<std::size_t>(r)];
          mine.wait(mine.begin({"sum", plan(r), 4, 32000, false}));
        }
        const auto whole = comm::simulate_programs(ring_of(p), programs);
        CHECK(whole.complete());
        CHECK(whole.seconds == comm::simulate(ring_of(p), plan, 4).seconds);
      }
    }
  }
}

TEST_CASE("comm/program: what is computed meanwhile hides what moves, and a chain fills up") {
  // The transfer takes 1 us + 2 us + 1000 us.
  const auto steps_of = [](double computing) {
    std::vector<comm::rank_program> two(2);
    for (int r = 0; r < 2; ++r) {
      auto& mine = two[static_cast<std::size_t>(r)];
      const auto number = mine.begin(
          {"gather", comm::ring{}.all_gather(comm::problem::even(2, r, 2 * 4000000 / 4, 4)), 4,
           32002, false});
      mine.compute("layer", computing);
      mine.wait(number);
      mine.mark();
    }
    return comm::simulate_programs(ring_of(2), two);
  };
  const auto shorter = steps_of(400e-6), longer = steps_of(2e-3);
  CHECK(shorter.seconds == Approx(1003e-6).epsilon(1e-12));
  CHECK(longer.seconds == Approx(2e-3).epsilon(1e-12));
  CHECK(shorter.marks == std::vector<double>{shorter.seconds});
  CHECK(comm::overlap_of(shorter.timeline, 0).hidden == 400000);
  CHECK(comm::overlap_of(longer.timeline, 1).share() == 1.0);

  // m micro-batches through p stages. A message of 3 us and a byte's time sets out when its
  // receiver has come to it too.
  constexpr int p = 4, m = 6;
  constexpr double stage = 50e-6, message = 3e-6 + 1 / 4e9;
  std::vector<comm::rank_program> stages(p);
  for (int r = 0; r < p; ++r) {
    auto& mine = stages[static_cast<std::size_t>(r)];
    for (int i = 0; i < m; ++i) {
      if (r > 0) {
        mine.wait(mine.receive(r - 1, 1, i));
      }
      mine.compute("stage", stage);
      if (r + 1 < p) {
        mine.send(r + 1, 1, i);
      }
    }
  }
  CHECK(comm::simulate_programs(ring_of(p), stages).seconds ==
        Approx((m + p - 1) * stage + (m + p - 2) * message).epsilon(1e-12));
}

TEST_CASE("comm/recorded: a run on threads leaves the same program each time, and its own bits") {
  for (const int p : {2, 3, 6}) {
    CAPTURE(p);
    const auto plain = comm::run(p, [](comm::threads& t) {
      std::vector<float> values;
      halves(t, nullptr, values);
      return values;
    });
    const auto first = recorded_run(p), second = recorded_run(p);
    std::vector<comm::rank_program> one, other;
    for (std::size_t r = 0; r < first.size(); ++r) {
      CHECK(first[r].values == plain[r]);
      one.push_back(first[r].program);
      other.push_back(second[r].program);
      CHECK(one[r].transfers().size() == 4);  // the split's, the sum, two messages
      CHECK(one[r].items().size() == 4 + 4 + 2);
    }
    const auto a = comm::simulate_programs(ring_of(p), one);
    const auto b = comm::simulate_programs(ring_of(p), other);
    CHECK(a.complete());
    CHECK(a.seconds == b.seconds);
    CHECK(a.timeline == b.timeline);
    REQUIRE(a.marks.size() == 1);
    CHECK(a.marks[0] == a.seconds);
    // The split, a computation that hides its sum, and a message between neighbours.
    const double splitting = comm::simulate(
                                 ring_of(p),
                                 [p](int r) {
                                   return comm::ring{}.all_gather(comm::problem::even(
                                       p, r, static_cast<std::size_t>(3 * p), 4));
                                 },
                                 4)
                                 .seconds;
    CHECK(a.seconds == Approx(splitting + 1e-3 + 3e-6 + 4000 / 4e9).epsilon(1e-12));
  }
}

TEST_CASE("comm/recorded: with a clock, computation is what passes outside the transport") {
  static double now = 0;
  comm::thread_group alone(1);
  auto inner = alone.endpoint(0);
  comm::program_recorder record([] { return now; });
  comm::recorded t(inner, record);
  now = 2;
  record.computes("forward", 99);  // until here it was something else
  now = 5;
  std::vector<float> data(3);
  comm::all_reduce(t, std::span(data));
  now = 6;
  record.mark();
  std::vector<double> seconds;
  for (const auto& i : record.program().items()) {
    if (i.what == comm::rank_program::kind::compute && i.seconds > 0) {
      seconds.push_back(i.seconds);
    }
  }
  CHECK(seconds == std::vector<double>{2, 3, 1});
  CHECK(comm::simulate_programs(ring_of(1), {record.program()}).seconds == 6);
}

TEST_CASE("comm/program: what does not meet is named") {
  std::vector<comm::rank_program> two(2);
  two[0].wait(two[0].receive(1, 4, 1));
  two[0].compute("never", 1);
  two[1].send(0, 4, 2);
  auto found = comm::simulate_programs(ring_of(2), two);
  CHECK(found.stuck == std::vector<comm::stuck_rank>{{0, 0, false, 1, 4}, {1, 0, true, 0, 4}});
  CHECK(found.seconds == 0);
  two[1].send(0, 5, 1);
  found = comm::simulate_programs(ring_of(2), two);
  CHECK(found.unequal == std::vector<comm::unequal_steps>{{1, 0, 5, 4}});
  CHECK_THROWS_AS(static_cast<void>(comm::simulate_programs(ring_of(3), two)),
                  ashlar::argument_error);
}

TEST_CASE("comm/program: what cannot be waited for, and times that are none, are errors") {
  std::vector<comm::rank_program> two(2);
  CHECK_THROWS_AS(two[0].wait(0), ashlar::argument_error);
  for (const double seconds : {-1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(two[0].compute("never", seconds), ashlar::argument_error);
  }
  const auto run = [](double seconds, double latency) {
    std::vector<comm::rank_program> programs(2);
    programs[0].compute("long", seconds);
    programs[0].send(1, 4, 0);
    programs[1].receive(0, 4, 0);
    return comm::simulate_programs({comm::presets::ring(2, latency, 4e9)}, programs).seconds;
  };
  CHECK(run(4e9, 1e-6) > 4e9);
  for (const double endless : {1e10, 1e300, std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(static_cast<void>(run(endless, 1e-6)), ashlar::argument_error);
    CHECK_THROWS_AS(static_cast<void>(run(1, endless)), ashlar::argument_error);
  }
}

TEST_CASE("comm/recorded: the laws of a transport hold") {
  const auto broken = comm::run(3, [](comm::threads& inner) {
    comm::program_recorder record;
    comm::recorded t(inner, record);
    return ashlar::laws::broken_transport_law(t);
  });
  for (const std::string& text : broken) {
    CHECK(text == "");
  }
}

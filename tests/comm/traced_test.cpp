// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/traced.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ashlar/comm/any_endpoint.hpp"
#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/gantt.hpp"
#include "laws/transport.hpp"

namespace comm = ashlar::comm;
namespace trace = ashlar::trace;
using traced_threads = comm::traced<comm::threads>;

static_assert(comm::LendingTransport<traced_threads> && comm::RecordingTransport<traced_threads>);
static_assert(comm::TimedTransport<traced_threads> && !comm::TimedTransport<comm::threads>);
static_assert(!comm::TimedTransport<comm::group<comm::threads>>);
static_assert(!comm::LendingTransport<comm::traced<comm::checked<comm::threads>>>);

TEST_CASE("comm/traced: a run on threads becomes a timeline, the same on every rank") {
  constexpr int p = 3;
  const auto start = comm::run_record::clock::now();
  const auto all = comm::run(p, [start](comm::threads& inner) {
    comm::run_record record(inner.rank(), start);
    traced_threads t(inner, record);
    std::vector<float> a(300, 1.0F);
    std::vector<double> b(30, 2.0);
    auto first = comm::start_all_reduce<comm::ring>(t, std::span(a));
    auto second = comm::start_all_reduce<comm::ring>(t, std::span(b), comm::max, {}, 2);
    {
      const auto busy = t.compute("layer 0");
      first.test();
    }
    first.wait();
    second.wait();
    CHECK(a[299] == 3.0F);
    return comm::gather_timelines(inner, record.timeline());
  });
  CHECK(all[0] == all[1]);
  CHECK(all[0] == all[2]);
  const trace::timeline& t = all[0];
  const auto count = [&](const std::string& category, int rank) {
    return std::ranges::count_if(t.events(), [&](const trace::event& e) {
      return e.category == category && e.process == rank;
    });
  };
  for (int rank = 0; rank < p; ++rank) {
    CHECK(count("compute", rank) == 1);
    CHECK(count("collective", rank) == 2);
    CHECK(count("send", rank) == 2 * 2 * (p - 1));
    CHECK(count("receive", rank) == 2 * 2 * (p - 1));
    const comm::overlap o = comm::overlap_of(t, rank);
    CHECK(o.communication > 0);
    CHECK(o.hidden >= 0);
    CHECK(o.hidden <= o.communication);
    CHECK(o.hidden <= t.busy(rank, 0));
  }
  for (const trace::event& e : t.events()) {  // messages lie within some collective of their rank
    CHECK(e.start >= 0);
    CHECK(e.duration >= 0);
    if (e.category == "send" || e.category == "receive") {
      CHECK(std::ranges::any_of(t.events(), [&](const trace::event& c) {
        return c.category == "collective" && c.process == e.process && c.start <= e.start &&
               e.end() <= c.end();
      }));
    }
  }
  const std::string json = trace::to_chrome_trace(t);
  CHECK(json.find("\"all_reduce(max, 30 float64, tag 32016)\"") != std::string::npos);
  CHECK(json.find("\"rank 1 collectives, channel 2\"") != std::string::npos);
  CHECK(json.find("\"bytes\":\"1200\"") != std::string::npos);
  CHECK(trace::to_svg(t).find("layer 0") != std::string::npos);
}

TEST_CASE("comm/traced: collectives of groups are noted, each group's in lanes of its own") {
  comm::run(4, [](comm::threads& inner) {
    comm::run_record record(inner.rank());
    traced_threads t(inner, record);
    comm::group all(t);
    auto half = all.split(inner.rank() % 2);  // an all-gather
    std::vector<float> data(100, 1.0F);
    comm::all_reduce(half, std::span(data), comm::sum, {}, 2);
    comm::all_reduce(all, std::span(data));
    CHECK(data[99] == 8.0F);
    std::vector<std::pair<std::string, int>> seen;
    for (const trace::event& e : record.timeline().events()) {
      if (e.category == "collective") {
        seen.emplace_back(e.name, e.lane);
      }
    }
    CHECK(seen == std::vector<std::pair<std::string, int>>{
                      {"all_gather(12 int32, tag 32002)", 3},
                      {"all_reduce(sum, 100 float32, tag 32016)", 3 + 95 + 2},
                      {"all_reduce(sum, 100 float32, tag 32000)", 3}});
    CHECK(trace::to_chrome_trace(record.timeline()).find(" collectives, group 1, channel 2\"") !=
          std::string::npos);
    CHECK(comm::overlap_of(record.timeline(), inner.rank()).share() == 0.0);
  });
}

TEST_CASE(
    "comm/traced: collectives of groups over any_endpoint are noted, and their steps logged") {
  comm::run(3, [](comm::threads& inner) {
    comm::logged<comm::threads> log(inner);
    comm::run_record record(inner.rank());
    comm::traced<comm::logged<comm::threads>> t(log, record);
    comm::any_endpoint any(t);
    comm::group world(any);
    std::vector<float> data(30, 1.0F);
    comm::all_reduce<comm::ring>(world, std::span(data));
    std::vector<std::string> seen;
    for (const trace::event& e : record.timeline().events()) {
      if (e.category == comm::lanes::collective) {
        seen.push_back(e.name);
      }
    }
    CHECK(seen == std::vector<std::string>{"all_reduce(sum, 30 float32, tag 32000)"});
    std::vector<int> steps;
    for (const comm::message_record& m : log.messages()) {
      steps.push_back(m.step);
    }
    CHECK(steps == std::vector{0, 1, 2, 3});
  });
}

TEST_CASE("comm/traced: what a rank computes from here on is split where it waits") {
  comm::run(2, [](comm::threads& inner) {
    comm::run_record record(inner.rank());
    traced_threads t(inner, record);
    const int other = 1 - t.rank();
    std::array<std::byte, 4> out{}, in{};
    t.sendrecv(other, out, other, in, 1);
    record.computes("a");
    std::thread([&] { t.sendrecv(other, out, other, in, 4); }).join();  // whose wait splits nothing
    t.sendrecv(other, out, other, in, 2);                               // waits twice
    record.computes("b");
    auto small = t.irecv(t.rank(), std::span(in).first(3), 5);
    auto refused = t.isend(t.rank(), out, 5);
    CHECK_THROWS_AS(t.wait(small), comm::size_mismatch);  // has waited, too
    record.computes("");
    t.sendrecv(other, out, other, in, 3);
    std::string names;
    std::int64_t last = 0;
    for (const trace::event& e : record.timeline().events()) {
      if (e.category == comm::lanes::compute) {
        names += e.name;
        CHECK(e.start >= last);
        last = e.end();
      }
    }
    CHECK(names == "aaabb");
  });
}

TEST_CASE("comm/traced: the laws of a transport hold, also without records and loans") {
  const auto broken = comm::run(3, [](comm::threads& inner) {
    comm::run_record record(inner.rank());
    traced_threads t(inner, record);
    // A request need only be movable.
    comm::any_endpoint any(inner);
    comm::traced<comm::any_endpoint> narrow(any, record);
    return ashlar::laws::broken_transport_law(t) + ashlar::laws::broken_transport_law(narrow);
  });
  CHECK(broken == std::vector<std::string>(3));
  ashlar::laws::post_office office;
  std::vector<std::string> found(2);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      ashlar::laws::postal_transport inner(office, rank, 2);
      comm::run_record record(rank);
      comm::traced<ashlar::laws::postal_transport> t(inner, record);
      found[static_cast<std::size_t>(rank)] = ashlar::laws::broken_transport_law(t);
    });
  }
  for (std::thread& t : ranks) {
    t.join();
  }
  CHECK(found == std::vector<std::string>(2));
}

TEST_CASE("comm/timeline: overlap is communication behind computation, each counted once") {
  trace::timeline t;
  const auto add = [&](const char* category, std::int64_t start, std::int64_t end, int rank = 0) {
    t.add({"", category, rank, 0, start, end - start});
  };
  CHECK(comm::overlap_of(t, 0).share() == 1.0);
  add("compute", 0, 10);
  add("compute", 20, 30);
  add("collective", 5, 25);
  CHECK(comm::overlap_of(t, 0).communication == 20);
  CHECK(comm::overlap_of(t, 0).hidden == 10);
  CHECK(comm::overlap_of(t, 0).share() == 0.5);
  add("collective", 8, 22);  // another at the same time
  add("compute", 5, 9);      // on another thread
  add("send", 0, 100);
  add("collective", 0, 50, 1);
  CHECK(comm::overlap_of(t, 0).communication == 20);
  CHECK(comm::overlap_of(t, 0).hidden == 10);
  CHECK(comm::overlap_of(t, 1).share() == 0.0);
  // Ends and begins at one tick.
  add("collective", 25, 27);
  CHECK(comm::overlap_of(t, 0).communication == 22);
  CHECK(comm::overlap_of(t, 0).hidden == 12);
}

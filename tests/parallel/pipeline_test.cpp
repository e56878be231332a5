// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/pipeline.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/gantt.hpp"

namespace pp = ashlar::parallel::pipeline;
namespace trace = ashlar::trace;
using pp::work;

namespace {

/// Every schedule that ships, for one number of ranks and micro-batches.
std::vector<pp::schedule> shipped(int p, int m) {
  std::vector<pp::schedule> all = {pp::gpipe(p, m), pp::one_f_one_b(p, m), pp::zero_bubble_h1(p, m),
                                   pp::zero_bubble_h2(p, m)};
  if (m % p == 0) {
    for (const int chunks : {1, 2, 3}) {
      all.push_back(pp::interleaved(p, chunks, m));
    }
  }
  return all;
}

/// Makespan by sweeping over all actions until nothing moves: the same rules, no order to rely on.
std::int64_t naive_makespan(const pp::schedule& s, const pp::timing& t) {
  using key = std::tuple<int, work, int>;
  std::map<key, std::int64_t> finished;
  std::map<int, int> owner;
  std::vector<std::size_t> next(s.ranks.size());
  std::vector<std::int64_t> now(s.ranks.size());
  std::map<std::pair<int, int>, std::int64_t> link;
  std::map<key, std::int64_t> arrives;
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    for (const auto& a : s.ranks[r]) {
      owner[a.stage] = static_cast<int>(r);
    }
  }
  const int last = owner.rbegin()->first;
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < s.ranks.size(); ++r) {
      if (next[r] == s.ranks[r].size()) {
        continue;
      }
      const auto a = s.ranks[r][next[r]];
      const auto& d =
          t.stages.size() == 1 ? t.stages[0] : t.stages[static_cast<std::size_t>(a.stage)];
      const bool back = a.what == work::backward || a.what == work::input_gradient;
      std::int64_t ready = now[r];
      const auto wait_for = [&](int stage, work w) {
        const auto found = arrives.find({stage, w, a.micro_batch});
        ready = found == arrives.end() || ready < 0 ? -1 : std::max(ready, found->second);
      };
      if (a.what == work::forward && a.stage > 0) {
        wait_for(a.stage - 1, work::forward);
      }
      if (back && a.stage < last) {
        wait_for(a.stage + 1, work::input_gradient);
      }
      if (ready < 0) {
        continue;
      }
      const std::int64_t end =
          ready + (a.what == work::forward           ? d.forward
                   : a.what == work::input_gradient  ? d.input_gradient
                   : a.what == work::weight_gradient ? d.weight_gradient
                                                     : d.input_gradient + d.weight_gradient);
      now[r] = end;
      ++next[r];
      moved = true;
      const int peer = a.what == work::forward ? a.stage + 1 : a.stage - 1;
      if ((a.what == work::forward || back) && peer >= 0 && peer <= last) {
        std::int64_t there = end;
        if (owner[peer] != static_cast<int>(r)) {
          auto& free = link[{static_cast<int>(r), owner[peer]}];
          free = std::max(free, end) + t.transfer;
          there = free + t.latency;
        }
        arrives[{a.stage, back ? work::input_gradient : work::forward, a.micro_batch}] = there;
      }
    }
  }
  for (std::size_t r = 0; r < s.ranks.size(); ++r) {
    REQUIRE(next[r] == s.ranks[r].size());
  }
  return *std::max_element(now.begin(), now.end());
}

/// A valid schedule that nobody would write: random stages on random ranks, any order that can be.
pp::schedule random_schedule(std::mt19937& random, int most) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const int ranks = 1 + below(most), stages = ranks + below(most), micro_batches = 1 + below(most);
  std::vector<int> owner(static_cast<std::size_t>(stages));
  for (int i = 0; i < stages; ++i) {
    owner[static_cast<std::size_t>(i)] = i < ranks ? i : below(ranks);
  }
  std::shuffle(owner.begin(), owner.end(), random);
  // What can be done next, wherever; each picks one of them.
  std::vector<pp::action> ready;
  for (int m = 0; m < micro_batches; ++m) {
    ready.push_back({0, work::forward, m});
  }
  pp::schedule s;
  s.ranks.resize(static_cast<std::size_t>(ranks));
  while (!ready.empty()) {
    std::swap(ready[static_cast<std::size_t>(below(static_cast<int>(ready.size())))], ready.back());
    const pp::action a = ready.back();
    ready.pop_back();
    s.ranks[static_cast<std::size_t>(owner[static_cast<std::size_t>(a.stage)])].push_back(a);
    const auto back = [&](int stage) {
      ready.push_back(
          {stage, below(2) == 0 ? work::backward : work::input_gradient, a.micro_batch});
    };
    if (a.what == work::forward) {
      if (a.stage + 1 < stages) {
        ready.push_back({a.stage + 1, work::forward, a.micro_batch});
      } else {
        back(a.stage);
      }
    } else if (a.what != work::weight_gradient) {
      if (a.what == work::input_gradient) {
        ready.push_back({a.stage, work::weight_gradient, a.micro_batch});
      }
      if (a.stage > 0) {
        back(a.stage - 1);
      }
    }
  }
  return s;
}

doctest::String reason_of(const pp::schedule& s) {
  try {
    pp::validate(s);
    return "";
  } catch (const ashlar::error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE(
    "parallel/pipeline: makespan and bubble of GPipe and 1F1B are (p - 1)(F + B) and m more") {
  for (const int p : {1, 2, 3, 4, 7, 8}) {
    for (const int m : {1, 2, 3, 8, 13}) {
      for (const auto& times : {pp::stage_times{1, 1, 1}, {2, 3, 1}, {5, 2, 4}}) {
        const std::int64_t one = times.forward + times.input_gradient + times.weight_gradient;
        for (const auto& s : {pp::gpipe(p, m), pp::one_f_one_b(p, m)}) {
          const auto sim = pp::simulate(s, {.stages = {times}});
          CHECK(sim.makespan == (m + p - 1) * one);
          CHECK(sim.bubble() == (p - 1) * one);
          CHECK(sim.idle_share() == doctest::Approx(double(p - 1) / (m + p - 1)));
        }
      }
    }
  }
}

TEST_CASE("parallel/pipeline: interleaving divides the bubble by the chunks") {
  for (const int p : {2, 3, 4, 8}) {
    for (const int v : {1, 2, 3, 4}) {
      for (const int rounds : {1, 2, 3}) {
        const int m = p * rounds;
        const auto sim = pp::simulate(pp::interleaved(p, v, m), {.stages = {{2, 2, 2}}});
        CHECK(sim.bubble() == (p - 1) * 6);  // of a chunk, ideal being m v chunks
        CHECK(sim.makespan == (m * v + p - 1) * 6);
        for (int r = 0; r < p; ++r) {
          const int chunks = std::min(2 * (p - r - 1) + (v - 1) * p + 1, m * v);
          CHECK(sim.shape.most_on_rank[static_cast<std::size_t>(r)] == chunks);
        }
      }
    }
  }
  // Rounds that are longer than the number of ranks, as PyTorch allows.
  CHECK(pp::validate(pp::interleaved(4, 2, 10)).micro_batches == 10);
  CHECK_THROWS_AS(static_cast<void>(pp::interleaved(4, 2, 9)), ashlar::argument_error);
}

TEST_CASE(
    "parallel/pipeline: zero bubble leaves (p - 1)(F + B - W) and (p - 1)(F + B - 2 W) of the "
    "span") {
  for (const int p : {1, 2, 3, 4, 6, 8}) {
    for (const int m : {2 * p, 2 * p + 1, 4 * p}) {
      // Where W is not longer than F and B, which the paper's figures assume.
      for (const auto& t : {pp::stage_times{1, 1, 1}, {2, 2, 1}, {4, 5, 3}, {2, 3, 2}, {3, 2, 1}}) {
        const std::int64_t fb = t.forward + t.input_gradient, w = t.weight_gradient;
        const auto h1 = pp::simulate(pp::zero_bubble_h1(p, m), {.stages = {t}});
        const auto h2 = pp::simulate(pp::zero_bubble_h2(p, m), {.stages = {t}});
        CHECK(h1.span_bubble() == (p - 1) * (fb - w));
        CHECK(h2.span_bubble() == (p - 1) * (fb - 2 * w));
        CHECK(h1.makespan == m * (fb + w) + (p - 1) * (fb - w));
      }
      // With a flush behind the step nothing is won over H1: what is zero is the span's bubble.
      const auto h1 = pp::simulate(pp::zero_bubble_h1(p, m));
      const auto h2 = pp::simulate(pp::zero_bubble_h2(p, m));
      CHECK(h2.span == 3 * m);
      CHECK(h2.makespan == h1.makespan);
      CHECK(h2.makespan == 3 * m + p - 1);
    }
  }
}

TEST_CASE("parallel/pipeline: micro-batches in flight peak where the papers say") {
  for (const int p : {1, 2, 3, 4, 8}) {
    for (const int m : {1, 2, 4, 9, 2 * p + 3}) {
      const auto all = pp::validate(pp::gpipe(p, m));
      const auto one = pp::validate(pp::one_f_one_b(p, m));
      const auto h1 = pp::validate(pp::zero_bubble_h1(p, m));
      const auto h2 = pp::validate(pp::zero_bubble_h2(p, m));
      for (int r = 0; r < p; ++r) {
        const auto at = static_cast<std::size_t>(r);
        CHECK(all.most_in_flight[at] == m);
        CHECK(one.most_in_flight[at] == std::min(p - r, m));
        CHECK(h1.most_in_flight[at] == std::min(p, m));
        CHECK(h2.most_in_flight[at] == std::min(2 * p - 1, m));
        // The weight gradients of all but the one at hand wait.
        CHECK(h1.most_pending[at] == std::min(r + 1, m));
        CHECK(h2.most_pending[at] == std::min(2 * r + 1, m));
      }
    }
  }
  CHECK_NOTHROW(pp::validate(pp::one_f_one_b(4, 8), 4));
  CHECK_THROWS_AS(pp::validate(pp::one_f_one_b(4, 8), 3), pp::invalid_schedule);
}

TEST_CASE("parallel/pipeline: transfers and latency cost what a warm-up and a drain see of them") {
  for (const auto& s : shipped(4, 8)) {
    const pp::timing t{.stages = {{3, 4, 2}}, .transfer = 2, .latency = 5};
    const auto sim = pp::simulate(s, t);
    CHECK(sim.makespan == naive_makespan(s, t));
    const auto written = pp::with_transfers(s);
    const auto same = pp::simulate(written, t);
    CHECK(same.makespan == sim.makespan);
    CHECK(same.span == sim.span);
    REQUIRE(same.transfers.size() == sim.transfers.size());
    const auto when = [](const pp::simulation& of) {
      std::vector<std::tuple<int, int, std::int64_t, std::int64_t>> all;
      for (const auto& m : of.transfers) {
        all.emplace_back(m.from, m.to, m.when.begin, m.when.end);
      }
      std::sort(all.begin(), all.end());
      return all;
    };
    CHECK(when(same) == when(sim));
    CHECK_THROWS_AS(static_cast<void>(pp::with_transfers(written)), pp::invalid_schedule);
  }
  // One micro-batch through p stages: nothing overlaps.
  CHECK(pp::simulate(pp::gpipe(3, 1), {.transfer = 10, .latency = 100}).makespan ==
        3 * 3 + 4 * 110);
}

TEST_CASE("parallel/pipeline: random schedules take as long as a naive simulation says") {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto s = random_schedule(random, 5);
    const auto pick = [&] { return static_cast<std::int64_t>(random() % 7); };
    pp::timing t{.stages = {}, .transfer = pick(), .latency = pick()};
    for (int stage = 0; stage < pp::validate(s).stages; ++stage) {
      t.stages.push_back({pick(), pick(), pick()});
    }
    const auto sim = pp::simulate(s, t);
    CHECK(sim.makespan == naive_makespan(s, t));
    const auto written = pp::with_transfers(s);
    CHECK(pp::parse_csv(pp::to_csv(written)) == written);
    CHECK(pp::simulate(written, t).busy == sim.busy);
  }
}

TEST_CASE("parallel/pipeline: text is PyTorch's, read and written") {
  const std::string text = "0F0,0F1,0I0,0I1,0W0,0W1\n1F0,1B0,1F1,1B1\n";
  const auto s = pp::parse_csv(text);
  REQUIRE(s.ranks.size() == 2);
  CHECK(s.ranks[0][2] == pp::action{0, work::input_gradient, 0});
  CHECK(pp::to_csv(s) == text);
  CHECK(pp::to_csv(pp::one_f_one_b(2, 3)) == "0F0,0F1,0B0,0F2,0B1,0B2\n1F0,1B0,1F1,1B1,1F2,1B2\n");
  CHECK(pp::parse_csv(" 0F0 ,,0B0\r\n") == pp::gpipe(1, 1));  // idle cells, another system's lines
  CHECK(pp::parse_csv("").ranks.empty());
  CHECK(pp::to_csv(pp::with_transfers(pp::gpipe(2, 1))) ==
        "0F0,0SEND_F0,0RECV_B0,0B0\n1RECV_F0,1F0,1B0,1SEND_B0\n");
  for (const char* each : {"2F0", "0I7", "3W12", "1B1", "1SEND_F3", "2RECV_F3", "2SEND_B3",
                           "1RECV_B3", "1UNSHARD", "1RESHARD", "1REDUCE_GRAD"}) {
    const auto a = pp::parse_action(each);
    REQUIRE(a.has_value());
    CHECK(pp::text_of(*a) == each);
  }
  for (const char* each : {"F0", "0F", "0f0", "0X1", "-1F0", "0F-1", "0F0x", "1UNSHARD2", "0 F0",
                           "99999999999F0", "0F99999999999", "+1F0", "0SEND_F", "0SEND0"}) {
    CHECK_FALSE(pp::parse_action(each).has_value());
  }
  try {
    static_cast<void>(pp::parse_csv("0F0\n1F0,1Q0\n"));
    FAIL("read");
  } catch (const pp::syntax_error& e) {
    CHECK(e.row == 2);
    CHECK(e.column == 2);
    CHECK(e.cell == "1Q0");
  }
}

TEST_CASE("parallel/pipeline: what no ranks could run is refused, and says why") {
  using doctest::Contains;
  for (const char* text : {"", "0F0,0F1\n1F0,1F1\n",  // forward alone
                           "0UNSHARD,0F0,0RESHARD,0UNSHARD,0B0,0REDUCE_GRAD,0RESHARD\n"}) {
    CHECK(reason_of(pp::parse_csv(text)) == "");
  }
  struct refusal {
    const char* text;
    const char* reason;
  };
  for (const refusal& wrong : {
           refusal{"0F0,0B0\n2F0,2B0\n", "nobody computes stage 1"},
           refusal{"0F0,0F0,0B0\n1F0,1B0\n", "3 forward passes"},
           refusal{"0F0,0F0\n1F0,1F1\n", "rank 0, action 1: 0F0 is done a second time"},
           refusal{"0F0,0B0\n1F0\n", "1I0 is missing"},
           refusal{"0F0,0I0\n1F0,1B0\n", "0W0 is missing"},
           refusal{"0F0,0I0,0B0\n1F0,1B0\n", "0B0 is done a second time"},
           refusal{"0F0,1B0\n1F0,0B0\n", "belongs to rank 0"},
           refusal{"0F0,0B0\n1B0,1F0\n",
                   "rank 0 waits at 0B0 for 1I0; rank 1 waits at 1B0 for 1F0"},
           refusal{"0F0,0W0,0I0\n", "0W0 for 0I0"},
           refusal{"0F0,0SEND_F0\n1F0\n", "1RECV_F0 is missing"},
           refusal{"0F0,0SEND_F0\n1F0,1RECV_F0\n", "1F0 for 1RECV_F0"},
           refusal{"0F0,0RECV_F0,0SEND_F0\n1RECV_F0,1F0\n", "no other rank"},
           refusal{"0F0,0SEND_F0,0SEND_F0\n1RECV_F0,1F0\n", "second time"},
           refusal{"0F0,5SEND_F0\n1F0\n", "nobody computes"},
           refusal{"0F0,0SEND_F7\n1RECV_F0,1F0\n", "micro-batch that nobody computes"},
           refusal{"0UNSHARD,0F0,0RESHARD,0B0\n", "put UNSHARD before"},
           refusal{"0UNSHARD,0UNSHARD,0F0,0B0\n", "there already"},
           refusal{"0F0,0B0,0RESHARD\n", "never gathered"},
           // Numbers that no memory would hold are answered before any is asked for.
           refusal{"0F2000000000\n", "1 forward passes"},
           refusal{"2000000000F0\n", "nobody computes stage 0"},
       }) {
    CAPTURE(wrong.text);
    CHECK(reason_of(pp::parse_csv(wrong.text)) == Contains(wrong.reason));
  }
  CHECK(reason_of({{{{-1, work::forward, 0}}}}) == Contains("cannot be"));
  CHECK(reason_of({{{{0, work::forward, -1}}}}) == Contains("cannot be"));
  try {
    pp::validate(pp::parse_csv("0F0,0B0\n1B0,1F0\n"));
    FAIL("valid");
  } catch (const pp::deadlock& e) {
    REQUIRE(e.waiting.size() == 2);
    CHECK(e.waiting[1] == pp::deadlock::wait{1, 0, {1, work::backward, 0}, {1, work::forward, 0}});
  }
  CHECK_THROWS_AS(static_cast<void>(pp::gpipe(0, 1)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(pp::one_f_one_b(1, 0)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(pp::simulate(pp::gpipe(2, 1), {.stages = {{1, 1, -1}}})),
                  ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(pp::simulate(pp::gpipe(2, 1), {.stages = {{}, {}, {}}})),
                  ashlar::argument_error);
  CHECK_THROWS_AS(
      static_cast<void>(pp::simulate(pp::gpipe(2, 1), {.latency = std::int64_t{1} << 62})),
      ashlar::argument_error);
}

TEST_CASE("parallel/pipeline: a fault in a schedule is a typed error or harmless, never a hang") {
  std::mt19937 random(7);
  int refused = 0, halted = 0, ran = 0;
  for (int i = 0; i < 100000; ++i) {
    const auto kind = random() % 5;
    auto s = i % 2 == 0 ? random_schedule(random, 3) : pp::one_f_one_b(2, 3);
    if (random() % 2 == 0) {
      s = pp::with_transfers(s);
    }
    const auto list = [&]() -> std::vector<pp::action>& {
      return s.ranks[random() % s.ranks.size()];
    };
    auto& at = list();
    auto& other = list();
    if (at.empty() || other.empty()) {
      continue;
    }
    auto& a = at[random() % at.size()];
    auto& b = other[random() % other.size()];
    if (kind == 0) {
      std::swap(a, b);
    } else if (kind == 1) {
      at.erase(at.begin() + (&a - at.data()));
    } else if (kind == 2) {
      at.insert(at.begin() + static_cast<std::ptrdiff_t>(random() % at.size()), pp::action(a));
    } else if (kind == 3) {
      a = {static_cast<int>(random() % 4), static_cast<work>(random() % 11),
           static_cast<int>(random() % 4) - 1};
    } else {
      std::shuffle(at.begin(), at.end(), random);
    }
    try {
      const auto sim = pp::simulate(s);
      ++ran;
      CHECK(sim.makespan >= sim.span);
    } catch (const pp::invalid_schedule&) {
      ++refused;
    } catch (const pp::deadlock& e) {
      ++halted;
      CHECK_FALSE(e.waiting.empty());
    }
  }
  CHECK(refused > 10000);
  CHECK(halted > 1000);
  CHECK(ran > 1000);
}

TEST_CASE("parallel/pipeline: any text is a schedule or a typed error") {
  std::mt19937 random(3);
  const std::string good = pp::to_csv(pp::with_transfers(pp::zero_bubble_h1(3, 4)));
  const std::string letters = "0123456789FIWBSENDRCV_UHA,\n\r \tx\xff-";
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = good;
    for (auto edits = 1 + random() % 2; edits > 0; --edits) {
      const std::size_t at = random() % text.size();
      const char c = letters[random() % letters.size()];
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 5);
      } else if (random() % 2 == 0) {
        text.insert(at, 1, c);
      } else {
        text[at] = c;
      }
    }
    try {
      const auto s = pp::parse_csv(text);
      ++read;
      CHECK(pp::parse_csv(pp::to_csv(s)) == s);
      static_cast<void>(reason_of(s));
    } catch (const pp::syntax_error& e) {
      CHECK(e.row >= 1);
    }
  }
  CHECK(read > 1000);
}

TEST_CASE("parallel/pipeline: 64 stages and 512 micro-batches with links that are shared") {
  const auto s = pp::one_f_one_b(64, 512);
  const auto sim = pp::simulate(s, {.stages = {{10, 10, 10}}, .transfer = 4, .latency = 1});
  CHECK(sim.transfers.size() == std::size_t{2 * 63 * 512});
  CHECK(sim.busy[0] == 512 * 30);
  CHECK(sim.makespan >= (512 + 63) * 30 + 2 * 63 * 5);
}

TEST_CASE("parallel/pipeline: a run is drawn, every action and transfer once") {
  const auto s = pp::zero_bubble_h1(3, 4);
  const auto sim = pp::simulate(s, {.transfer = 1});
  const auto t = pp::to_timeline(s, sim);
  CHECK(t.events().size() == 3 * 4 * 3 + 2 * 2 * 4);
  CHECK(t.end() == sim.makespan);
  for (int r = 0; r < 3; ++r) {
    CHECK(t.busy(r, 0) == sim.busy[static_cast<std::size_t>(r)]);
  }
  CHECK(nlohmann::json::accept(trace::to_chrome_trace(t)));
  const std::string page = trace::to_gantt_page(t, "ZB-H1 <3 & 4>");
  const auto times = [&](const std::string& what) {
    std::size_t count = 0;
    for (std::size_t at = page.find(what); at != page.npos; at = page.find(what, at + 1)) {
      ++count;
    }
    return count;
  };
  CHECK(times("<g><rect") == t.events().size());
  CHECK(times("<title>2W3, weight gradient: ") == 1);
  CHECK(times("<title>ZB-H1 &lt;3 &amp; 4&gt;</title>") == 1);
  CHECK(times("http:") == 1);  // the name of SVG's elements, which is not fetched
  const std::string empty = trace::to_svg({});
  CHECK(empty.find("<svg") == 0);
  CHECK(empty.find("nan") == empty.npos);
}

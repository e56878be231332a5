// SPDX-License-Identifier: Apache-2.0
// What docs/articles/continuous_batching.md shows, counted: the real scheduler and the real block
// manager, and a model that is not there. Nothing here depends on a clock.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/philox.hpp"
#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/scheduler.hpp"

namespace al = ashlar;
namespace kv = ashlar::kv;
namespace serve = ashlar::serve;

namespace {

template <int Budget, int Sequences>
using joining = serve::continuous<serve::chunked_prefill<Budget>, serve::max_sequences<Sequences>>;
template <int Sequences>
using closed = serve::continuous<serve::whole_prefill<1 << 20>, serve::max_sequences<Sequences>,
                                 serve::static_batches>;
using swapping = serve::continuous<serve::chunked_prefill<2048>, serve::max_sequences<64>,
                                   serve::preempt_by_swap>;
using promising =
    serve::continuous<serve::chunked_prefill<2048>, serve::max_sequences<64>, serve::never_preempt>;
using eight_swapping =
    serve::continuous<serve::chunked_prefill<16>, serve::max_sequences<8>, serve::preempt_by_swap>;

template <int BlockTokens>
using cache = kv::paged<BlockTokens, kv::watermark<10>, kv::swap_to_host>;

struct job {
  std::int32_t prompt, output;
};

/// Counts tokens and keeps none.
template <class Cache>
struct counted : serve::scheduled_sequence<Cache> {
  using serve::scheduled_sequence<Cache>::scheduled_sequence;
  std::int32_t known = 0;
  [[nodiscard]] std::int32_t remaining() const { return known - this->computed; }
};

/// Serves all jobs; `watch(queue, plan, step)` sees each step before it is computed.
template <class Schedule, class Cache>
auto serve_all(const std::vector<job>& jobs, typename Cache::pool& pool, const auto& watch) {
  typename Schedule::template queue<counted<Cache>> queue;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const serve::scheduling asked{.id = i, .most_tokens = jobs[i].prompt + jobs[i].output};
    auto s = std::make_unique<counted<Cache>>(asked, pool);
    s->known = jobs[i].prompt;
    queue.add(std::move(s));
  }
  for (int step = 0; !queue.empty(); ++step) {
    auto plan = queue.next(pool);
    watch(queue, plan, step);
    for (auto* s : plan.batch) {
      serve::advance(*s);
      if (s->remaining() == 0 && ++s->known == s->most_tokens) {
        queue.drop(*s);
      }
    }
  }
  return queue.statistics();
}

// ---- the bubble ----

/// One line for each of four places in the batch, one column for each step: a request's letter, a
/// capital where its prompt is computed, `.` where nobody is.
template <class Schedule>
void draw_places(const char* part, const std::vector<job>& jobs) {
  cache<4>::pool pool(64, {.host_blocks = 1});
  std::array<std::optional<serve::request_id>, 4> place;
  std::array<std::string, 4> line;
  const auto watch = [&](const auto& queue, const auto& plan, int step) {
    for (auto& p : place) {
      p = p && queue.state(*p) ? p : std::nullopt;
    }
    for (const auto* s : plan.batch) {
      auto at = std::ranges::find(place, std::optional(s->id));
      at = at != place.end() ? at : std::ranges::find_if(place, [](auto p) { return !p; });
      *at = s->id;
      const char first = s->computed < jobs[s->id].prompt ? 'A' : 'a';
      auto& cells = line[static_cast<std::size_t>(at - place.begin())];
      cells.resize(static_cast<std::size_t>(step), '.');
      cells += static_cast<char>(first + static_cast<char>(s->id));
    }
  };
  const auto steps = serve_all<Schedule, cache<4>>(jobs, pool, watch).steps;
  std::printf("== %s\n", part);
  for (auto& cells : line) {
    cells.resize(static_cast<std::size_t>(steps), '.');
    std::printf("%s\n", cells.c_str());
  }
}

// ---- the states ----

/// One line for each request, one column for each step, in eight blocks of four tokens: `.` waits,
/// `P` has tokens of its prompt computed, `t` makes a token, `_` runs and has no share of the
/// step, `s` is in the host's memory, `p` has lost its blocks, `R` computes again what it had.
void draw_states() {
  const std::vector<job> jobs{{6, 12}, {9, 10}, {5, 8}, {4, 9}, {10, 4}};
  cache<4>::pool pool(10, {.host_blocks = 4});
  std::vector<std::string> line(jobs.size());
  std::vector<std::int32_t> made(jobs.size());
  std::map<std::pair<char, char>, int> seen;
  const auto watch = [&](const auto& queue, const auto& plan, int) {
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const auto state = queue.state(i);
      if (!state) {
        continue;
      }
      const std::array names{'.', '_', 's', 'p'};
      char now = names[static_cast<std::size_t>(*state)];
      for (const auto* s : plan.batch) {
        if (s->id == i) {
          now = s->computed >= made[i]           ? s->computed < jobs[i].prompt ? 'P' : 't'
                : s->computed + s->scheduled > 0 ? 'R'
                                                 : '_';
          made[i] = std::max(made[i], s->computed + s->scheduled);
        }
      }
      line[i] += now;
    }
  };
  const auto s = serve_all<eight_swapping, cache<4>>(jobs, pool, watch);
  std::printf("== states\n");
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    std::printf("%c %2d+%-2d  %s\n", static_cast<char>('A' + i), jobs[i].prompt, jobs[i].output,
                line[i].c_str());
  }
  std::printf("== transitions\n");
  std::printf("waiting -> running    %2d\n", static_cast<int>(s.admitted));
  std::printf("running -> swapped    %2d\n", static_cast<int>(s.swapped_out));
  std::printf("swapped -> running    %2d\n", static_cast<int>(s.swapped_in));
  std::printf("running -> preempted  %2d\n", static_cast<int>(s.recomputed));
  std::printf("preempted -> running  %2d\n", static_cast<int>(s.resumed));
}

// ---- whether the next token fits ----

void ask(const char* what, const kv::block_table& table, std::int32_t tokens,
         const kv::block_pool& pool, std::int32_t drafts = 0) {
  const auto needed = table.blocks_needed(tokens, drafts);
  std::printf("%-38s %2d in %2d places  %lld of %lld free  %s\n", what, table.tokens(),
              static_cast<int>(table.room()), static_cast<long long>(needed),
              static_cast<long long>(pool.free()), needed <= pool.free() ? "fits" : "does not");
}

void show_fits() {
  std::printf("== fits\n");
  kv::block_pool pool(6);
  kv::block_table a(pool, 4);
  const auto say = [](const auto& copy) {
    if (copy) {
      std::printf("  copies block %d to %d before it writes\n", copy->from, copy->to);
    }
  };
  ask("A, a prompt of 6 tokens", a, 6, pool);
  a.append(6);
  ask("A, its 7th token", a, 1, pool);
  a.append(1);
  {
    kv::block_table b = a.fork();
    ask("B, A's twin: its 8th token", b, 1, pool);
    say(b.append(1));
    ask("A, its 8th token, alone there now", a, 1, pool);
    a.append(1);
    ask("A, its 9th token", a, 1, pool);
    a.append(1);
    ask("A, its 10th, and 12 drafts behind it", a, 1, pool, 12);
    ask("A, its 10th, without them", a, 1, pool);
    ask("C, a prompt of 10 tokens", kv::block_table(pool, 4), 10, pool);
  }
  ask("C, when B is gone", kv::block_table(pool, 4), 10, pool);
}

// ---- many requests ----

struct lengths {
  const char* name;
  std::vector<job> (*draw)(int count);
};

/// Log-normal with this mean and deviation 1 of the logarithm, from 1 to `most`.
std::int32_t spread(double mean, std::uint64_t number, std::int32_t most) {
  const double u = 1 - al::philox_uniform(5, 2 * number);
  const double v = al::philox_uniform(5, 2 * number + 1);
  const double normal = std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  return std::clamp(static_cast<std::int32_t>(mean * std::exp(normal - 0.5)), 1, most);
}

std::vector<job> drawn(int count, const auto& one) {
  std::vector<job> jobs;
  for (int i = 0; i < count; ++i) {
    jobs.push_back(one(static_cast<std::uint64_t>(i)));
  }
  return jobs;
}

std::vector<job> chat(int count) {
  return drawn(count, [](std::uint64_t i) {
    return job{spread(161.3, 2 * i, 1024), spread(338, 2 * i + 1, 1024)};
  });
}

const std::array<lengths, 6> mixes{{
    {"all equal", [](int n) { return drawn(n, [](auto) {
                                return job{161, 338};
                              }); }},
    {"uniform",
     [](int n) {
       return drawn(n, [](std::uint64_t i) {
         const auto one = [i](std::uint64_t k, double most) {
           return 1 + static_cast<std::int32_t>(most * al::philox_uniform(6, 2 * i + k));
         };
         return job{one(0, 322), one(1, 676)};
       });
     }},
    {"ShareGPT", chat},
    {"Alpaca",
     [](int n) {
       return drawn(n, [](std::uint64_t i) {
         return job{spread(19.3, 2 * i, 1024), spread(58.5, 2 * i + 1, 1024)};
       });
     }},
    {"documents",
     [](int n) {
       return drawn(n, [](std::uint64_t i) {
         return job{spread(1500, 2 * i, 4096), spread(60, 2 * i + 1, 256)};
       });
     }},
    {"one in ten thinks",
     [](int n) {
       return drawn(n, [](std::uint64_t i) {
         return job{spread(161.3, 2 * i, 1024), i % 10 == 3 ? 2048 : spread(100, 2 * i + 1, 1024)};
       });
     }},
}};

struct totals {
  std::int64_t steps = 0;
  std::int64_t tokens = 0;  // generated
  std::int64_t rows = 0;    // computed, prompts included
  std::int64_t idle = 0;    // places in the batch where nobody was, summed over steps
  serve::schedule_statistics decided{};
};

template <class Schedule>
totals count(const std::vector<job>& jobs, kv::block_id blocks) {
  cache<16>::pool pool(blocks, {.host_blocks = blocks});
  totals t;
  const auto watch = [&t](const auto&, const auto& plan, int) {
    t.idle += 64 - std::ssize(plan.batch);
    for (const auto* s : plan.batch) {
      t.rows += s->scheduled;
    }
  };
  t.decided = serve_all<Schedule, cache<16>>(jobs, pool, watch);
  t.steps = t.decided.steps;
  for (const job& j : jobs) {
    t.tokens += j.output;
  }
  return t;
}

double per(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

void compare_mixes() {
  std::printf("== distributions\n");
  std::printf("%-18s %22s %22s %9s %17s\n", "", "steps", "tokens per step", "", "places idle");
  std::printf("%-18s %11s %10s %11s %10s %9s %9s %7s\n", "lengths", "continuous", "static",
              "continuous", "static", "factor", "contin.", "static");
  for (const lengths& mix : mixes) {
    const auto jobs = mix.draw(1000);
    const totals c = count<joining<2048, 64>>(jobs, 1 << 15);
    const totals s = count<closed<64>>(jobs, 1 << 15);
    std::printf("%-18s %11d %10d %11.1f %10.1f %9.2f %7.1f %% %5.1f %%\n", mix.name,
                static_cast<int>(c.steps), static_cast<int>(s.steps), per(c.tokens, c.steps),
                per(s.tokens, s.steps), per(s.steps, c.steps), 100 * per(c.idle, 64 * c.steps),
                100 * per(s.idle, 64 * s.steps));
  }
}

void compare_memory() {
  std::printf("== memory\n");
  std::printf("%-7s %-18s %6s %16s %10s %14s %13s\n", "blocks", "who gives way", "steps",
              "tokens per step", "gave way", "computed again", "blocks moved");
  const auto jobs = chat(1000);
  const auto needed = count<joining<2048, 64>>(jobs, 1 << 15).rows;
  for (const kv::block_id blocks : {2048, 1024, 512, 256}) {
    const auto print = [&](const char* name, const totals& t) {
      std::printf("%-7d %-18s %6d %16.1f %10d %12.1f %% %13d\n", blocks, name,
                  static_cast<int>(t.steps), per(t.tokens, t.steps),
                  static_cast<int>(t.decided.recomputed + t.decided.swapped_out),
                  100 * per(t.rows - needed, needed), static_cast<int>(t.decided.blocks_swapped));
    };
    print("computes again", count<joining<2048, 64>>(jobs, blocks));
    print("is swapped out", count<swapping>(jobs, blocks));
    print("nobody", count<promising>(jobs, blocks));
  }
}

}  // namespace

int main() {
  const std::vector<job> few{{6, 5}, {4, 22}, {9, 3}, {3, 8}, {5, 4},  {7, 13},
                             {3, 6}, {30, 5}, {4, 9}, {6, 3}, {2, 17}, {5, 6}};
  draw_places<closed<4>>("static", few);
  draw_places<joining<16, 4>>("continuous", few);
  draw_states();
  show_fits();
  compare_mixes();
  compare_memory();
}

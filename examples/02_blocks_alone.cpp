// SPDX-License-Identifier: Apache-2.0
// Blocks of the library by themselves: no tensor in sight.
#include <ashlar/chip/host/host.hpp>
#include <ashlar/comm.hpp>
#include <ashlar/comm/check.hpp>
#include <ashlar/comm/select.hpp>
#include <ashlar/kv.hpp>
#include <ashlar/memory.hpp>
#include <cstddef>
#include <cstdio>
#include <span>
#include <vector>

namespace al = ashlar;

void sequences_in_blocks() {
  al::kv::block_pool pool(8);
  al::kv::block_table story(pool, /*block_tokens=*/16);
  story.append(20);  // twenty tokens: two blocks, the second with twelve slots to spare
  std::printf("token 17 is in slot %lld; %lld of %lld blocks used\n",
              static_cast<long long>(story.slot(17)), static_cast<long long>(pool.used()),
              static_cast<long long>(pool.capacity()));
  try {
    story.append(1000);
  } catch (const al::kv::out_of_blocks& e) {
    std::printf("%s\n", e.what());  // and nothing has changed
  }
}

void beginnings_that_come_again() {
  using cache = al::kv::vllm_v1<16>;
  cache::pool pool(64);
  const std::vector<al::kv::token> prompt(100, 7);
  for (int request = 0; request < 2; ++request) {
    cache::table table(pool, cache::block_tokens);
    const int known = table.adopt(prompt);
    table.append(static_cast<int>(prompt.size()) - known);
    // ... compute tokens known .. 99, and when their keys and values are written:
    table.publish(prompt);
    std::printf("request %d: %d of %zu tokens were known\n", request, known, prompt.size());
  }
}

void beams_that_make_room() {
  using cache = al::kv::vllm_v0<16>;
  cache::pool pool(8, {.host_blocks = 8});
  cache::table first(pool, cache::block_tokens);
  first.append(40);
  cache::table second = first.fork();  // three blocks, shared
  const auto copy = second.append(1);  // the last one is half full: copy before writing
  al::kv::block_table* const beam[] = {&first, &second};
  std::vector<al::kv::block_copy> copies;
  pool.host.out(beam, copies);  // shared blocks once: four copies
  std::printf("copied block %d to %d; %zu copies to the host, %lld blocks free\n", copy->from,
              copy->to, copies.size(), static_cast<long long>(pool.free()));
}

void memory_kept_for_later() {
  al::memory::caching_allocator<al::chip::host::memory, al::memory::binned> allocator;
  std::byte* const p = allocator.allocate(1000);
  allocator.deallocate(p, 1000);
  std::byte* const q = allocator.allocate(900);  // the same block: the driver is not asked again
  std::printf("the same block: %s; asked the driver %llu time(s)\n", p == q ? "yes" : "no",
              static_cast<unsigned long long>(allocator.stats().upstream_requests));
  allocator.deallocate(q, 900);
}

void sums_over_ranks() {
  const auto sums = al::comm::run(4, [](al::comm::threads& endpoint) {
    std::vector<float> mine(10, static_cast<float>(endpoint.rank()));
    al::comm::all_reduce<al::comm::ring>(endpoint, std::span(mine), al::comm::sum);
    return mine.front();
  });
  std::printf("the sum on every rank: %g %g %g %g\n", sums[0], sums[1], sums[2], sums[3]);
}

void which_all_reduce() {
  // Eight nodes of four, a slow switch between them; nothing is sent.
  const al::comm::network cluster{
      al::comm::topology({{al::comm::wiring::full, 4, /*latency=*/1e-6, /*bandwidth=*/1e11},
                          {al::comm::wiring::star, 8, 5e-6, 1e10}}),
      /*overhead=*/1e-6};
  for (const std::size_t count : {std::size_t{256}, std::size_t{16} << 20}) {
    for (const auto& e : al::comm::rank_candidates(
             cluster,
             {al::comm::make_candidate("ring", al::comm::ring{}),
              al::comm::make_candidate("double tree", al::comm::double_tree{}),
              al::comm::make_candidate("nodes first", al::comm::hierarchical{4})},
             count, sizeof(float))) {
      std::printf("%zu bytes: %s %.1f us\n", count * sizeof(float), e.name.c_str(),
                  e.seconds * 1e6);
    }
  }
}

void checked_before_it_runs() {
  const auto half = [](int rank) {  // both send first, and receive only then
    return al::comm::schedule(2, 0, [rank](int round, al::comm::round_steps& steps) {
      using al::comm::verb;
      steps.push_back({.does = round == 0 ? verb::send : verb::receive,
                       .peer = 1 - rank,
                       .from = {al::comm::place::data, 0},
                       .to = {al::comm::place::data, 10},
                       .count = 10});
    });
  };
  try {
    al::comm::check(2, half, [](int) { return al::comm::extents{.data = 20}; });
  } catch (const al::comm::bad_schedule& e) {
    std::printf("%s\n", e.what());
  }
}

int main() {
  sequences_in_blocks();
  beginnings_that_come_again();
  beams_that_make_room();
  memory_kept_for_later();
  sums_over_ranks();
  which_all_reduce();
  checked_before_it_runs();
}

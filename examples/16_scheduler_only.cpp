// SPDX-License-Identifier: Apache-2.0
// The scheduler without a model or a tensor: the memory is ours, Ashlar decides who runs where.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

#include "ashlar/kv/policies.hpp"
#include "ashlar/serve/scheduler.hpp"

namespace al = ashlar;

using cache = al::kv::vllm_v0<16>;
using policy = al::serve::continuous<al::serve::chunked_prefill<64>, al::serve::preempt_by_swap>;

// A request as our runtime keeps it; what the scheduler needs comes from the base.
struct my_request : al::serve::scheduled_sequence<cache> {
  using scheduled_sequence::scheduled_sequence;
  std::int32_t known = 0;  // tokens of prompt and output
  std::int32_t remaining() const { return known - computed; }
};

// Where the chip would copy blocks and compute tokens.
void copy_on_chip(const al::kv::block_copy&) {}
void compute_on_chip(const my_request&) {}

int main() {
  cache::pool pool(10, {.host_blocks = 10});
  policy::queue<my_request> queue;
  std::vector<std::int32_t> ends;
  for (const std::int32_t prompt : {40, 50, 30}) {
    const auto id = static_cast<al::serve::request_id>(ends.size());
    auto r = std::make_unique<my_request>(al::serve::scheduling{.id = id}, pool);
    r->known = prompt;
    ends.push_back(prompt + 60);
    queue.add(std::move(r));
  }
  while (!queue.empty()) {
    auto plan = queue.next(pool);
    for (const al::kv::block_copy& c : plan.copies) {
      copy_on_chip(c);
    }
    for (my_request* r : plan.batch) {
      compute_on_chip(*r);  // r->scheduled tokens, which go to r->table.slot(r->computed) and on
      al::serve::advance(*r);
      if (r->remaining() > 0) {
        continue;
      }
      r->known += 1;  // the token that was sampled
      if (r->known == ends[r->id]) {
        queue.drop(*r);
      }
    }
  }
  const auto& s = queue.statistics();
  std::printf("%d steps, %d swapped out and in, %d blocks moved, %d in use\n",
              static_cast<int>(s.steps), static_cast<int>(s.swapped_out),
              static_cast<int>(s.blocks_swapped), static_cast<int>(pool.used()));
}

// prints: 125 steps, 3 swapped out and in, 24 blocks moved, 0 in use

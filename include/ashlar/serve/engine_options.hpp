// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/serve/request.hpp"
#include "ashlar/serve/step.hpp"

namespace ashlar::serve {

/// A token that has just been generated.
struct token_event {
  request_id id;
  std::int32_t index;  ///< counted from the request's first generated token
  serve::token token;
  std::optional<finish_reason> finish;  ///< set on the last token of a request or completion
  std::int32_t branch = 0;              ///< which completion
  std::string text{};                   ///< what can be shown now, where there is a tokenizer
};

struct engine_options {
  /// Room of the key-value cache, rounded up to blocks; 0: blocks for four times
  /// the model's context.
  std::int64_t cache_tokens = 0;
  /// Room in the host's memory, for a cache that swaps (`kv::swap_to_host`); 0: as above.
  std::int64_t host_tokens = 0;
  /// Tokens per block, for a cache that leaves them to run time (`kv::paged<kv::at_run_time>`);
  /// 0: 16, or what the cache says.
  std::int32_t block_tokens = 0;
  std::vector<token> eos_tokens{};
  std::uint64_t seed = 0;    ///< for requests without a seed of their own
  int most_drafts = 4;       ///< tokens that a proposer is asked for at once; 0 to 1024
  double draft_cost = 0.05;  ///< of one, proposed and checked, in steps of the model
  /// Both or neither; without them requests come and go as tokens.
  std::function<std::vector<token>(std::string_view)> encode{};
  std::function<std::string(std::span<const token>)> decode{};
  /// Seconds since some moment, for a schedule that asks what time it is (`delay`); by default
  /// those of `std::chrono::steady_clock`.
  std::function<double()> clock{};
  /// Called at the end of a step for each of its tokens, in order of the batch. It may submit and
  /// abort requests; what it has aborted it hears no more of.
  std::function<void(const token_event&)> on_token{};
};

struct engine_statistics {
  std::int64_t prompt_tokens = 0;  ///< of accepted requests
  std::int64_t generated_tokens = 0;
  std::int64_t computed_tokens = 0;  ///< rows of all steps, those computed again included
  std::int64_t steps = 0;
  std::int64_t preemptions = 0;
  std::int64_t copied_blocks = 0;  ///< to and from the host, and before writes to shared ones
  double seconds = 0;              ///< spent in `step`
  std::int64_t blocks = 0;         ///< capacity of the cache
  std::int64_t blocks_used = 0;    ///< now
  std::int64_t blocks_peak = 0;
  double waste_peak = 0;  ///< share of used blocks' memory without a token, over steps
  double waste_mean = 0;
  double sharing_mean = 0;     ///< share of blocks that are saved by sharing, over steps
  double prefix_hit_rate = 0;  ///< share of requests' tokens that a prefix cache had
  std::int64_t drafts = 0;     ///< proposed tokens that were computed
  std::int64_t accepted_drafts = 0;
};

}  // namespace ashlar::serve

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"

/// The schedules that ship. All throw `argument_error` where a number is not positive.
namespace ashlar::parallel::pipeline {

namespace detail {

inline void require_positive(const char* entity, const char* what, int value) {
  if (value < 1) {
    throw argument_error(entity, std::string("the number of ") + what + " is " +
                                     std::to_string(value) + "; it must be at least 1");
  }
}

/// Rank `r` is stage `r`. It runs `reach * (p - r - 1) + 1` micro-batches forward before the first
/// goes back, and lets `reach * r` of them wait for their weight gradients where these are apart.
///
/// Ranks further back begin later by a forward pass each and get their gradients earlier, so what
/// one holds as activations another holds as pending weight gradients.
inline schedule one_forward_one_backward(const char* entity, int ranks, int micro_batches,
                                         int reach, bool split) {
  require_positive(entity, "ranks", ranks);
  require_positive(entity, "micro-batches", micro_batches);
  schedule s;
  s.ranks.resize(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    auto& list = s.ranks[static_cast<std::size_t>(r)];
    int forward = std::min(reach * (ranks - r - 1) + 1, micro_batches), weight = 0;
    for (int m = 0; m < forward; ++m) {
      list.push_back({r, work::forward, m});
    }
    for (int m = 0; m < micro_batches; ++m) {
      list.push_back({r, split ? work::input_gradient : work::backward, m});
      for (; split && weight <= m - reach * r; ++weight) {
        list.push_back({r, work::weight_gradient, weight});
      }
      if (forward < micro_batches) {
        list.push_back({r, work::forward, forward++});
      }
    }
    for (; split && weight < micro_batches; ++weight) {
      list.push_back({r, work::weight_gradient, weight});
    }
  }
  return s;
}

}  // namespace detail

/// All micro-batches forward, then all backward. In flight: every micro-batch.
///
/// Source: GPipe (Huang et al., 2019).
[[nodiscard]] inline schedule gpipe(int ranks, int micro_batches) {
  constexpr const char* entity = "ashlar::parallel::pipeline::gpipe";
  detail::require_positive(entity, "ranks", ranks);
  detail::require_positive(entity, "micro-batches", micro_batches);
  schedule s;
  for (int r = 0; r < ranks; ++r) {
    auto& list = s.ranks.emplace_back();
    for (const work w : {work::forward, work::backward}) {
      for (int m = 0; m < micro_batches; ++m) {
        list.push_back({r, w, m});
      }
    }
  }
  return s;
}

/// One forward, one backward: a backward pass runs as soon as it can. In flight on rank `r`: at
/// most `ranks - r`.
///
/// Source: PipeDream-Flush (Narayanan et al., 2021).
[[nodiscard]] inline schedule one_f_one_b(int ranks, int micro_batches) {
  return detail::one_forward_one_backward("ashlar::parallel::pipeline::one_f_one_b", ranks,
                                          micro_batches, 1, false);
}

/// 1F1B with weight gradients apart, which fill what idle time they can. In flight: `ranks`.
///
/// Source: ZB-H1 of Zero Bubble Pipeline Parallelism (Qi et al., 2023).
[[nodiscard]] inline schedule zero_bubble_h1(int ranks, int micro_batches) {
  return detail::one_forward_one_backward("ashlar::parallel::pipeline::zero_bubble_h1", ranks,
                                          micro_batches, 1, true);
}

/// No rank is idle between its first and its last action where the three parts take equal time.
/// In flight: `2 ranks - 1`.
///
/// The ranks still end one after the other as they began: with a synchronisation behind the step,
/// a step takes as long as with `zero_bubble_h1`.
/// Source: ZB-H2, there.
[[nodiscard]] inline schedule zero_bubble_h2(int ranks, int micro_batches) {
  return detail::one_forward_one_backward("ashlar::parallel::pipeline::zero_bubble_h2", ranks,
                                          micro_batches, 2, true);
}

/// 1F1B over `chunks` stages per rank: rank `r` has stages `r`, `r + ranks`, ...; the idle time is
/// that of 1F1B divided by `chunks`.
///
/// Throws: `argument_error` also where the micro-batches cannot be dealt out in equal rounds of at
///         least `ranks`: `micro_batches` must be a multiple of `max(1, micro_batches / ranks)`.
/// Source: Efficient Large-Scale Language Model Training (Narayanan et al., 2021); the rounds are
///         PyTorch's.
[[nodiscard]] inline schedule interleaved(int ranks, int chunks, int micro_batches) {
  constexpr const char* entity = "ashlar::parallel::pipeline::interleaved";
  detail::require_positive(entity, "ranks", ranks);
  detail::require_positive(entity, "chunks", chunks);
  detail::require_positive(entity, "micro-batches", micro_batches);
  const int rounds = std::max(1, micro_batches / ranks);
  if (micro_batches % rounds != 0) {
    throw argument_error(entity, std::to_string(micro_batches) + " micro-batches on " +
                                     std::to_string(ranks) + " ranks make " +
                                     std::to_string(rounds) +
                                     " rounds of unequal length; give a multiple of that");
  }
  const int per_round = micro_batches / rounds;
  const int count = micro_batches * chunks;
  schedule s;
  for (int r = 0; r < ranks; ++r) {
    auto& list = s.ranks.emplace_back();
    // A round goes through the first chunk, then through the second, ...
    const auto number = [&](int k, bool forward) {
      const int chunk = k / per_round % chunks;
      const int m = k / (per_round * chunks) * per_round + k % per_round;
      return std::pair((forward ? chunk : chunks - 1 - chunk) * ranks + r, m);
    };
    const int warm_up = std::min(count, (chunks - 1) * per_round + 2 * (ranks - r - 1));
    for (int k = 0; k < count + warm_up; ++k) {
      if (k < count) {
        const auto [stage, m] = number(k, true);
        list.push_back({stage, work::forward, m});
      }
      if (k >= warm_up) {
        const auto [stage, m] = number(k - warm_up, false);
        list.push_back({stage, work::backward, m});
      }
    }
  }
  return s;
}

}  // namespace ashlar::parallel::pipeline

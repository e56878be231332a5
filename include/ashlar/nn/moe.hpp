// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/operators.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/views.hpp"

namespace ashlar::nn {

/// One feed-forward network among several: `w2(swiglu(w1(x), w3(x)))`.
template <class Stack>
struct moe_expert {
  using projection = linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(moe_expert, (projection, w1), (projection, w2), (projection, w3));

  auto operator()(const auto& x) const { return w2(swiglu(w1(x), w3(x))); }
};

/// A sparse mixture of experts: each token is the weighted sum of what its `top_k` experts make of
/// it. Names are those of Mixtral's files.
///
/// The weights are the softmax over the gate's scores, of the experts taken, made to add up to 1.
/// Tokens are sorted by expert, so each expert runs once, over its own; a token's sum goes by the
/// number of the expert, whatever else is in the batch.
/// Shapes: `x`, the result: (..., C).
/// Cost:   reads how many tokens each expert has, so it waits for the chip once; on a chip without
///         memory all go to the first expert.
/// Source: Jiang et al. (2024).
template <class Stack>
struct moe {
  using projection = linear<Stack>;
  using expert_list = std::vector<moe_expert<Stack>>;
  BOOST_HANA_DEFINE_STRUCT(moe, (projection, gate), (expert_list, experts), (std::int64_t, top_k));

  template <Tensor X>
  X operator()(const X& x) const {
    return mix(x, [this](const X& sorted, const std::vector<std::int64_t>& counts) {
      return through_experts(sorted, counts);
    });
  }

  /// The same where `run(sorted, counts)` takes the tokens through their experts: each token
  /// `top_k` times, those of expert 0 first, as many per expert as `counts` says.
  template <Tensor X, class Run>
  X mix(const X& x, const Run& run) const {
    using numbers = tensor<std::int64_t, typename X::keys>;
    const std::int64_t width = x.extent(-1);
    const X tokens = reshape(x, shape{-1, width});
    const std::int64_t rows = tokens.extent(0);
    if (rows == 0) {
      const auto none = static_cast<std::size_t>(gate.weight.extent(0));
      return reshape(run(clone(tokens), std::vector<std::int64_t>(none)), shape(x.shape()));
    }
    const auto [taken, places] = topk(softmax(gate(tokens)), top_k);
    const auto weights = div(taken, sum(taken, -1, true));
    const numbers expert_of = reshape(places, shape{rows * top_k});
    const numbers order = argsort(expert_of);
    const numbers token_of = div(order, top_k, rounding::trunc{});
    const X sorted = index_select(tokens, 0, token_of);
    const X results = run(sorted, tokens_of_experts(expert_of));
    const X share = index_select(reshape(weights, shape{rows * top_k, 1}), 0, order);
    return reshape(call<ops::embedding_backward>(mul(results, share), token_of, rows),
                   shape(x.shape()));
  }

  /// Shapes: `sorted`: (rows, C), the first `counts[0]` of them for expert 0, and so on.
  template <Tensor X>
  X through_experts(const X& sorted, const std::vector<std::int64_t>& counts) const {
    std::vector<X> results;
    std::int64_t begin = 0;
    for (std::size_t e = 0; e < experts.size(); ++e) {
      if (counts[e] > 0) {
        results.push_back(experts[e](narrow(sorted, 0, begin, counts[e])));
        begin += counts[e];
      }
    }
    return results.empty() ? sorted : X(cat(results, 0));
  }

  /// Parameters of zeros; `initialize` gives them values.
  /// Throws: `argument_error` for numbers below 1 or more experts for a token than there are,
  ///         `size_error`, `memory::out_of_memory`.
  [[nodiscard]] static moe make(std::int64_t width, std::int64_t hidden, std::int64_t count,
                                std::int64_t for_each_token) {
    detail::require_positive("moe", "the number of experts", count);
    detail::require_positive("moe", "the number of experts for a token", for_each_token);
    if (for_each_token > count) {
      throw argument_error("ashlar::nn::moe", std::to_string(for_each_token) + " of " +
                                                  std::to_string(count) +
                                                  " experts for a token; they must all exist");
    }
    moe made;
    made.gate = projection::make(width, count, false);
    for (std::int64_t e = 0; e < count; ++e) {
      made.experts.push_back({projection::make(width, hidden, false),
                              projection::make(hidden, width, false),
                              projection::make(width, hidden, false)});
    }
    made.top_k = for_each_token;
    return made;
  }

 private:
  template <class Numbers>
  [[nodiscard]] std::vector<std::int64_t> tokens_of_experts(const Numbers& expert_of) const {
    const auto count = static_cast<std::int64_t>(experts.size());
    if constexpr (requires { chip_of<typename Numbers::keys>::memory::allocates_nothing; }) {
      std::vector<std::int64_t> all(experts.size());
      all[0] = expert_of.size();
      return all;
    } else {
      return to_vector(sum(one_hot<Numbers>(expert_of, count), 0));
    }
  }
};

}  // namespace ashlar::nn

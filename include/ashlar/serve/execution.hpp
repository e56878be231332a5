// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/serve/step.hpp"

/// How an engine's steps are executed.
namespace ashlar::serve {

/// What an execution policy has done since it was made.
struct execution_statistics {
  std::int64_t replayed = 0;     ///< steps that were recorded before
  std::int64_t dynamic = 0;      ///< steps by the model's own call
  std::int64_t padded_rows = 0;  ///< computed for nobody, to fill a recorded step
  std::size_t arena_bytes = 0;   ///< what recorded steps hold
};

namespace detail {

/// What the concept of an execution policy asks with; nothing of it is ever called.
struct any_recorded {
  std::span<const float> operator()(const step& now);
  [[nodiscard]] std::size_t bytes() const;
};
struct any_model {
  using cache_type = int;
  int make_cache(kv::block_id blocks, std::int32_t block_tokens);
  std::span<const float> forward(const step& now, int& cache);
  [[nodiscard]] std::int64_t vocabulary() const;
  [[nodiscard]] std::int64_t context_length() const;
};
any_recorded record_step(any_model& model, int& cache, const kv::step_sizes& sizes);

}  // namespace detail

/// A policy that computes the logits of a step: it names a `runner<Model>`.
/// Laws: tests/laws/execution_policy.hpp.
///
/// `E::spare_blocks`: blocks behind the pool's, which the engine adds to the model's cache for the
/// policy alone. `E::runner<Model>(model, cache, block_tokens, spare)`: `spare` is the first of
/// those. `run(step)`: what converts to the logits that `model.forward(step, cache)` returns, to
/// the bit; they stay valid until the next call.
template <class E>
concept ExecutionPolicy =
    std::constructible_from<typename E::template runner<detail::any_model>, detail::any_model&,
                            int&, std::int32_t, kv::block_id> &&
    requires(typename E::template runner<detail::any_model>& run, const step& now) {
      { E::spare_blocks } -> std::convertible_to<kv::block_id>;
      { run(now) } -> std::convertible_to<std::span<const float>>;
      { std::as_const(run).statistics() } -> std::convertible_to<execution_statistics>;
    };

/// Every step is a call of the model, of any shape: its kernels are found and its tensors allocated
/// while it runs. As in vLLM.
struct dynamic {
  static constexpr kv::block_id spare_blocks = 0;

  template <class Model>
  class runner {
   public:
    runner(Model& model, typename Model::cache_type& cache, std::int32_t, kv::block_id)
        : model_(model), cache_(cache) {}

    decltype(auto) operator()(const step& now) {
      ++statistics_.dynamic;
      return model_.forward(now, cache_);
    }
    [[nodiscard]] const execution_statistics& statistics() const { return statistics_; }

   private:
    Model& model_;
    typename Model::cache_type& cache_;
    execution_statistics statistics_;
  };
};

}  // namespace ashlar::serve

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/fwd.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/usage.hpp"
#include "ashlar/serve/detail/pick.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/scheduled.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"
#include "ashlar/serve/step.hpp"

namespace ashlar::serve {

/// A token that has just been generated.
struct token_event {
  request_id id;
  std::int32_t index;  ///< counted from the request's first generated token
  serve::token token;
  std::optional<finish_reason> finish;  ///< set on the last token of a request
};

struct engine_options {
  /// Room of the key-value cache, rounded up to blocks; 0: four times the model's context.
  std::int64_t cache_tokens = 0;
  /// Room in the host's memory, for a cache that swaps (`kv::swap_to_host`).
  std::int64_t host_tokens = 0;
  std::vector<token> eos_tokens{};
  std::uint64_t seed = 0;  ///< for requests without a seed of their own
  /// Both or neither; without them requests come and go as tokens.
  std::function<std::vector<token>(std::string_view)> encode{};
  std::function<std::string(std::span<const token>)> decode{};
  /// Seconds since some moment, for a schedule that asks what time it is (`delay`).
  std::function<double()> clock{};
  /// Called at the end of a step for each of its tokens, in order of the batch. It may submit and
  /// cancel requests; what it has cancelled it hears no more of.
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
  double prefix_hit_rate = 0;  ///< share of requests' tokens that a prefix cache had
};

namespace detail {
template <class P>
struct is_cache : std::bool_constant<kv::CachePolicy<P>> {};
template <class P>
struct is_schedule : std::bool_constant<SchedulePolicy<P>> {};
template <class P>
    struct is_sampler
    : std::bool_constant < requires(P p, std::span<const float> logits,
                                    const sampling_options& options, const sampling_state& state) {
  { p(logits, options, state) } -> std::same_as<token>;
} > {};
}  // namespace detail

/// Serves many requests from one model: block pool, scheduler, model and sampler in a loop.
///
/// Policies, in any order: a cache (`kv::paged<16>`), a schedule (`continuous<>`), a sampler
/// (`vllm_sampler`). The model must outlive the engine. Not for use from several threads at once.
template <class Model, class... Policies>
class engine {
  static_assert(LanguageModel<Model>,
                "ashlar::serve::engine<Model, Policies...>: Model must model LanguageModel "
                "(cache_type, make_cache, forward, vocabulary, context_length)");
  static_assert(((detail::is_cache<Policies>::value + detail::is_schedule<Policies>::value +
                      detail::is_sampler<Policies>::value ==
                  1) &&
                 ...),
                "ashlar::serve::engine<Model, Policies...>: a policy must be a cache "
                "(kv::CachePolicy), a schedule (SchedulePolicy) or a sampler");
  static_assert(detail::count_of<detail::is_cache, Policies...> <= 1 &&
                    detail::count_of<detail::is_schedule, Policies...> <= 1 &&
                    detail::count_of<detail::is_sampler, Policies...> <= 1,
                "ashlar::serve::engine<Model, Policies...>: two policies of one kind; keep one");

 public:
  using cache_policy = typename detail::pick<detail::is_cache, kv::paged<16>, Policies...>::type;
  using schedule_policy =
      typename detail::pick<detail::is_schedule, continuous<>, Policies...>::type;
  using sampler_type = typename detail::pick<detail::is_sampler, vllm_sampler, Policies...>::type;

  /// Effects: allocates the whole cache.
  /// Throws:  `argument_error` where the cache's size is negative or has more than 2^31 - 1
  ///          blocks, or where only one of `encode` and `decode` is given.
  explicit engine(Model& model, engine_options options = {})
      : model_(model),
        options_(std::move(options)),
        pool_(blocks_of(model, options_.cache_tokens),
              {.host_blocks = swaps ? blocks_of(model, options_.host_tokens) : 0}),
        cache_(cache_of(model, pool_)),
        host_cache_(host_cache_of(model, pool_)) {
    static_assert(
        !swaps || kv::CopyingModel<Model>,
        "ashlar::serve::engine<Model, Policies...>: a cache that swaps needs a model that "
        "models CopyingModel (copy_block)");
    if constexpr (requires { cache_policy::window; }) {
      static_assert(
          requires { model.window(); },
          "ashlar::serve::engine<Model, Policies...>: a cache with kv::sliding_window is "
          "for a model that says how many tokens it attends to (window)");
      if (model.window() > cache_policy::window) {
        throw argument_error("ashlar::serve::engine", "the model attends to " +
                                                          std::to_string(model.window()) +
                                                          " tokens, and the cache keeps " +
                                                          std::to_string(cache_policy::window));
      }
    }
    if (!options_.encode != !options_.decode) {
      throw argument_error("ashlar::serve::engine",
                           "only one of encode and decode is given; give both or neither");
    }
    for (const token t : options_.eos_tokens) {
      if (t < 0 || t >= model.vocabulary()) {
        throw argument_error("ashlar::serve::engine", "eos_tokens hold " + std::to_string(t) +
                                                          "; the vocabulary has " +
                                                          std::to_string(model.vocabulary()));
      }
    }
  }
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  /// Accepts a request; it runs in the steps that follow.
  ///
  /// Throws: `invalid_request`.
  request_id submit(request r) {
    if (r.tokens.empty() && !r.prompt.empty()) {
      if (!options_.encode) {
        throw invalid_request("prompt", "is text, and this engine has no tokenizer; give tokens");
      }
      r.tokens = options_.encode(r.prompt);
    }
    const std::int64_t context = model_.context_length();
    validate(r, model_.vocabulary(), context);
    const request_id id = next_id_;
    const std::uint64_t seed = r.sampling.seed.value_or(seed_of(id));
    const auto most = std::min<std::int64_t>(std::ssize(r.tokens) + r.max_tokens, context);
    const scheduling asked{.id = id,
                           .most_tokens = static_cast<std::int32_t>(most),
                           .priority = r.priority,
                           .tenant = r.tenant,
                           .arrival = now()};
    auto s = std::make_unique<sequence_type>(asked, std::move(r), seed, pool_);
    s->tokens.reserve(static_cast<std::size_t>(most));
    const std::int64_t prompt_tokens = s->prompt_tokens;
    queue_.add(std::move(s));
    statistics_.prompt_tokens += prompt_tokens;
    return next_id_++;
  }

  /// Ends a request that waits or runs; its tokens so far are in its result.
  ///
  /// Returns: whether there was such a request.
  bool cancel(request_id id) {
    const auto gone = queue_.remove(id);
    for (const auto& s : gone) {
      finish(*s, finish_reason::cancelled);
    }
    if (!gone.empty()) {
      cancelled_.push_back(id);
    }
    return !gone.empty();
  }

  /// Computes one batch.
  ///
  /// Returns: whether requests are left.
  /// Throws:  what the model throws, and `argument_error` where it returns logits of a wrong
  ///          size; no request is lost, and the next call tries the step again (where a copy of
  ///          blocks failed, what they held is computed again). What `on_token`
  ///          throws, after the step is complete; its later tokens are not announced.
  bool step() {
    const auto start = std::chrono::steady_clock::now();
    auto plan = queue_.next(pool_, now());
    statistics_.preemptions += plan.preempted;
    for (const auto& s : plan.hopeless) {
      const auto needed = kv::blocks_for(std::ssize(s->tokens), cache_policy::block_tokens);
      finish(*s, s->generated() == 0 ? finish_reason::ignored : finish_reason::failed,
             std::make_exception_ptr(kv::out_of_blocks(needed, pool_.capacity())));
    }
    move_blocks(plan);
    std::vector<token_event> events;
    if (!plan.batch.empty()) {
      try {
        compute(plan.batch);
      } catch (...) {
        for (sequence_type* s : plan.batch) {
          rewind(*s);
        }
        throw;
      }
      events = commit(plan.batch);
    }
    plan.hopeless.clear();
    statistics_.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    cancelled_.clear();
    if (options_.on_token) {
      for (const token_event& event : events) {
        if (std::ranges::count(cancelled_, event.id) == 0) {
          options_.on_token(event);
        }
      }
    }
    return !queue_.empty();
  }

  /// Steps until no request is left.
  ///
  /// Returns: all results that were not taken yet, in order of their ids.
  std::vector<finished> run() {
    while (step()) {
    }
    auto results = take_finished();
    std::ranges::sort(results, {}, &finished::id);
    return results;
  }

  /// Returns: the results since the last call, in the order in which the requests ended.
  [[nodiscard]] std::vector<finished> take_finished() { return std::exchange(finished_, {}); }

  /// Who waits and who runs, and what was decided so far.
  [[nodiscard]] const auto& scheduler() const { return queue_; }

  [[nodiscard]] engine_statistics statistics() const {
    engine_statistics now = statistics_;
    now.blocks = pool_.capacity();
    now.blocks_used = pool_.used();
    now.blocks_peak = pool_.peak_used();
    now.waste_mean = now.steps == 0 ? 0 : waste_sum_ / static_cast<double>(now.steps);
    if constexpr (requires { pool_.prefixes; }) {
      now.prefix_hit_rate = pool_.prefixes.statistics().hit_rate();
    }
    return now;
  }

 private:
  using sequence_type = sequence<cache_policy>;

  static constexpr bool swaps = requires(typename cache_policy::pool& pool) { pool.host; };

  static kv::block_id blocks_of(const Model& model, std::int64_t asked) {
    const std::int64_t tokens = asked != 0 ? asked : 4 * std::int64_t{model.context_length()};
    const std::int64_t blocks = kv::blocks_for(tokens, cache_policy::block_tokens);
    if (tokens < 0 || blocks > std::numeric_limits<kv::block_id>::max()) {
      throw argument_error("ashlar::serve::engine",
                           "cache_tokens is " + std::to_string(tokens) +
                               "; it must be positive, and at most 2^31 - 1 blocks");
    }
    return static_cast<kv::block_id>(blocks);
  }

  static typename Model::cache_type cache_of(Model& model, const kv::block_pool& pool) {
    return model.make_cache(static_cast<kv::block_id>(pool.size()), cache_policy::block_tokens);
  }
  static std::optional<typename Model::cache_type> host_cache_of(
      Model& model, const typename cache_policy::pool& pool) {
    if constexpr (swaps) {
      return cache_of(model, pool.host.host());
    } else {
      return std::nullopt;
    }
  }

  [[nodiscard]] double now() const { return options_.clock ? options_.clock() : 0.0; }

  /// Makes a step's copies; where one fails, those whose blocks it moves begin again.
  void move_blocks(schedule<sequence_type>& plan) {
    if (plan.copies.empty()) {
      return;
    }
    if constexpr (kv::CopyingModel<Model> && requires { queue_.lose(plan, pool_); }) {
      try {
        for (const kv::block_copy& c : plan.copies) {
          auto& from = c.from_place == kv::tier::device ? cache_ : *host_cache_;
          auto& to = c.to_place == kv::tier::device ? cache_ : *host_cache_;
          model_.copy_block(from, c.from, to, c.to);
        }
      } catch (...) {
        queue_.lose(plan, pool_);
        throw;
      }
      statistics_.copied_blocks += std::ssize(plan.copies);
    }
  }

  [[nodiscard]] std::uint64_t seed_of(request_id id) const {
    const auto bits =
        philox({static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32), 0, 1},
               options_.seed);
    return (std::uint64_t{bits[1]} << 32) | bits[0];
  }

  /// Runs the model and chooses tokens into `chosen_`, one per logit row; changes no sequence.
  void compute(const std::vector<sequence_type*>& batch) {
    step_.clear();
    step_.block_tokens = cache_policy::block_tokens;
    for (const sequence_type* s : batch) {
      step_.sequences.push_back({static_cast<std::int32_t>(step_.tokens.size()), s->scheduled,
                                 s->computed + s->scheduled, s->table.blocks()});
      for (std::int32_t at = s->computed; at < s->computed + s->scheduled; ++at) {
        step_.tokens.push_back(s->tokens[static_cast<std::size_t>(at)]);
        step_.positions.push_back(at);
        step_.slots.push_back(s->table.slot(at));
      }
      if (s->scheduled == s->remaining()) {
        step_.logit_rows.push_back(static_cast<std::int32_t>(step_.tokens.size()) - 1);
      }
    }
    const auto result = model_.forward(step_, cache_);
    const std::span<const float> logits = result;
    const auto width = static_cast<std::size_t>(model_.vocabulary());
    if (logits.size() != step_.logit_rows.size() * width) {
      throw argument_error("ashlar::serve::engine",
                           "forward returned " + std::to_string(logits.size()) + " logits for " +
                               std::to_string(step_.logit_rows.size()) + " rows of " +
                               std::to_string(width));
    }
    chosen_.clear();
    for (const sequence_type* s : batch) {
      if (s->scheduled == s->remaining()) {
        chosen_.push_back(choose(*s, logits.subspan(chosen_.size() * width, width)));
      }
    }
  }

  struct choice {
    token chosen = 0;
    std::exception_ptr error;
  };

  choice choose(const sequence_type& s, std::span<const float> logits) {
    forbidden_.clear();
    if (s.generated() < s.wish.min_tokens) {
      forbidden_ = s.wish.stop_tokens;
      if (!s.wish.ignore_eos) {
        forbidden_.insert(forbidden_.end(), options_.eos_tokens.begin(), options_.eos_tokens.end());
      }
    }
    try {
      return {sampler_(logits, s.wish.sampling,
                       {s.tokens, forbidden_, s.seed, static_cast<std::size_t>(s.prompt_tokens)}),
              nullptr};
    } catch (const bad_logits&) {
      return {0, std::current_exception()};
    }
  }

  /// Advances the sequences of a batch by what `compute` found.
  std::vector<token_event> commit(const std::vector<sequence_type*>& batch) {
    ++statistics_.steps;
    statistics_.computed_tokens += std::ssize(step_.tokens);
    for (sequence_type* s : batch) {
      advance(*s);
    }
    measure();
    std::vector<token_event> events;
    std::size_t row = 0;
    for (sequence_type* s : batch) {
      if (s->remaining() != 0) {
        continue;
      }
      const choice& c = chosen_[row++];
      if (c.error) {
        finish(*queue_.drop(*s), finish_reason::failed, c.error);
        continue;
      }
      s->tokens.push_back(c.chosen);
      ++statistics_.generated_tokens;
      const auto reason = stop_reason(*s);
      events.push_back({s->id, s->generated() - 1, c.chosen, reason});
      if (reason) {
        finish(*queue_.drop(*s), *reason);
      }
    }
    return events;
  }

  [[nodiscard]] std::optional<finish_reason> stop_reason(const sequence_type& s) const {
    const token last = s.tokens.back();
    const bool may_end = s.generated() >= s.wish.min_tokens;
    if (may_end && !s.wish.ignore_eos && std::ranges::count(options_.eos_tokens, last) != 0) {
      return finish_reason::eos;
    }
    if (may_end && std::ranges::count(s.wish.stop_tokens, last) != 0) {
      return finish_reason::stop_token;
    }
    if (s.generated() >= s.wish.max_tokens || std::ssize(s.tokens) >= model_.context_length()) {
      return finish_reason::length;
    }
    return std::nullopt;
  }

  void finish(sequence_type& s, finish_reason reason, std::exception_ptr error = nullptr) {
    finished f{
        .id = s.id, .prompt_tokens = s.prompt_tokens, .reason = reason, .error = std::move(error)};
    f.tokens.assign(s.tokens.begin() + s.prompt_tokens, s.tokens.end());
    if (options_.decode) {
      const bool ended = reason == finish_reason::eos || reason == finish_reason::stop_token;
      try {
        f.text = options_.decode(std::span(f.tokens).first(f.tokens.size() - (ended ? 1 : 0)));
      } catch (...) {
        f.reason = finish_reason::failed;
        f.error = std::current_exception();
      }
    }
    finished_.push_back(std::move(f));
  }

  void measure() {
    const auto table_of = [](const auto& s) -> const auto& { return s->table; };
    const double waste =
        kv::measure(pool_, cache_policy::block_tokens, queue_.running(), table_of).waste();
    statistics_.waste_peak = std::max(statistics_.waste_peak, waste);
    waste_sum_ += waste;
  }

  Model& model_;
  engine_options options_;
  typename cache_policy::pool pool_;
  typename Model::cache_type cache_;
  std::optional<typename Model::cache_type> host_cache_;
  typename schedule_policy::template queue<sequence_type> queue_;
  sampler_type sampler_;
  serve::step step_;
  std::vector<choice> chosen_;
  std::vector<token> forbidden_;
  std::vector<finished> finished_;
  std::vector<request_id> cancelled_;  // since the last step
  engine_statistics statistics_;
  double waste_sum_ = 0;
  request_id next_id_ = 0;
};

namespace detail {
template <class Stack, class Kind, class Default>
struct policy_of {
  using type = Default;
};
template <class Stack, class Kind, class Default>
  requires(Stack::template has<Kind>)
struct policy_of<Stack, Kind, Default> {
  using type = typename Stack::template policy<Kind>::type;
};
}  // namespace detail

/// The engine that a stack's policies describe; what the stack does not say is the default.
template <class Stack, class Model>
using engine_for =
    engine<Model, typename detail::policy_of<Stack, kinds::cache, kv::paged<16>>::type,
           typename detail::policy_of<Stack, kinds::schedule, continuous<>>::type>;

template <class Model>
engine(Model&, engine_options) -> engine<Model>;
template <class Model>
engine(Model&) -> engine<Model>;

}  // namespace ashlar::serve

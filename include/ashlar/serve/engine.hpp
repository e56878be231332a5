// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
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
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/fwd.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/usage.hpp"
#include "ashlar/serve/beam.hpp"
#include "ashlar/serve/detail/chooser.hpp"
#include "ashlar/serve/detail/outcome.hpp"
#include "ashlar/serve/detail/pick.hpp"
#include "ashlar/serve/detail/results.hpp"
#include "ashlar/serve/engine_options.hpp"
#include "ashlar/serve/execution.hpp"
#include "ashlar/serve/generation.hpp"
#include "ashlar/serve/logprobs.hpp"
#include "ashlar/serve/request.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/scheduled.hpp"
#include "ashlar/serve/scheduler.hpp"
#include "ashlar/serve/sequence.hpp"
#include "ashlar/serve/speculative.hpp"
#include "ashlar/serve/step.hpp"
#include "ashlar/serve/stop_text.hpp"

namespace ashlar::serve {

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
template <class P>
struct is_proposer : std::bool_constant<Proposer<P>> {};
template <class P>
struct is_execution : std::bool_constant<ExecutionPolicy<P>> {};
}  // namespace detail

/// Serves many requests from one model: block pool, scheduler, model and sampler in a loop. One
/// class, because a step goes through all of them in turns.
///
/// Policies, in any order: a cache (`kv::paged<16>`), a schedule (`continuous<>`), a sampler
/// (`vllm_sampler`), a proposer of drafts (none), an execution (`dynamic`; `static_engine<...>` is
/// in `ashlar/serve/static_engine.hpp`). Model and proposer must outlive the engine. Not for use
/// from several threads at once.
template <class Model, class... Policies>
class engine {
  static_assert(LanguageModel<Model>,
                "ashlar::serve::engine<Model, Policies...>: Model must model LanguageModel "
                "(cache_type, make_cache, forward, vocabulary, context_length)");
  static_assert(((detail::is_cache<Policies>::value + detail::is_schedule<Policies>::value +
                      detail::is_sampler<Policies>::value + detail::is_proposer<Policies>::value +
                      detail::is_execution<Policies>::value ==
                  1) &&
                 ...),
                "ashlar::serve::engine<Model, Policies...>: a policy must be a cache "
                "(kv::CachePolicy), a schedule (SchedulePolicy), a sampler, a Proposer or an "
                "ExecutionPolicy");
  static_assert(detail::count_of<detail::is_cache, Policies...> <= 1 &&
                    detail::count_of<detail::is_schedule, Policies...> <= 1 &&
                    detail::count_of<detail::is_sampler, Policies...> <= 1 &&
                    detail::count_of<detail::is_proposer, Policies...> <= 1 &&
                    detail::count_of<detail::is_execution, Policies...> <= 1,
                "ashlar::serve::engine<Model, Policies...>: two policies of one kind; keep one");

 public:
  using cache_policy = typename detail::pick<detail::is_cache, kv::paged<16>, Policies...>::type;
  using schedule_policy =
      typename detail::pick<detail::is_schedule, continuous<>, Policies...>::type;
  using sampler_type = typename detail::pick<detail::is_sampler, vllm_sampler, Policies...>::type;
  using proposer_type = typename detail::pick<detail::is_proposer, no_proposer, Policies...>::type;
  using execution_policy = typename detail::pick<detail::is_execution, dynamic, Policies...>::type;

  explicit engine(Model& model, engine_options options = {})
    requires std::same_as<proposer_type, no_proposer>
      : engine(model, std::move(options), nothing_proposed) {}

  /// Effects: allocates the whole cache, and records steps where the execution does so.
  /// Throws:  `argument_error` where the cache's size is negative or has more than 2^31 - 1
  ///          blocks, `block_tokens` is not the cache's or negative, where only one of `encode` and
  ///          `decode` is given, or another option is out of range.
  engine(Model& model, engine_options options, proposer_type& proposer)
      : model_(model),
        proposer_(proposer),
        options_(std::move(options)),
        block_tokens_(width_of(options_)),
        pool_(blocks_of(options_.cache_tokens, "cache_tokens"),
              {.host_blocks = swaps ? blocks_of(options_.host_tokens, "host_tokens") : 0,
               .block_tokens = block_tokens_}),
        cache_(cache_of(pool_, execution_policy::spare_blocks)),
        host_cache_(host_cache_of()),
        run_(model, cache_, block_tokens_, static_cast<kv::block_id>(pool_.size())),
        chooser_(options_.eos_tokens),
        results_(options_) {
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
    if (options_.most_drafts < 0 || options_.most_drafts > 1024 || !(options_.draft_cost > 0) ||
        !std::isfinite(options_.draft_cost)) {
      throw argument_error("ashlar::serve::engine",
                           "most_drafts is " + std::to_string(options_.most_drafts) +
                               " and draft_cost " + std::to_string(options_.draft_cost) +
                               "; give 0 to 1024, and a finite cost above 0");
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
  /// Throws: `invalid_request`; `argument_error` where the schedule never runs so many completions.
  request_id submit(request r) {
    if (r.tokens.empty() && !r.prompt.empty()) {
      if (!options_.encode) {
        throw invalid_request("prompt", "is text, and this engine has no tokenizer; give tokens");
      }
      r.tokens = options_.encode(r.prompt);
    }
    const std::int64_t context = model_.context_length();
    validate(r, model_.vocabulary(), context);
    if (!r.stop_strings.empty() && !options_.decode) {
      throw invalid_request("stop_strings", "are text, and this engine has no tokenizer");
    }
    if (!r.adapter.empty() && !has_adapter(r.adapter)) {
      throw invalid_request("adapter", "is '" + r.adapter + "', which this model does not have");
    }
    if (!forks && (r.n > 1 || r.beam_width > 1)) {
      throw invalid_request(r.n > 1 ? "n" : "beam_width",
                            "is above 1; that needs a schedule whose sequences fork, and a cache "
                            "that finds beginnings or a model that copies blocks");
    }
    const request_id id = next_id_;
    const std::uint64_t seed = r.sampling.seed.value_or(seed_of(id));
    const auto most = std::min<std::int64_t>(std::ssize(r.tokens) + r.max_tokens, context);
    const scheduling asked{.id = id,
                           .most_tokens = static_cast<std::int32_t>(most),
                           .branches = std::max(r.n, r.beam_width),
                           .priority = r.priority,
                           .tenant = r.tenant,
                           .arrival = now()};
    auto s = std::make_unique<sequence_type>(asked, std::move(r), seed, pool_);
    s->tokens.reserve(static_cast<std::size_t>(most));
    begin_output(*s);
    const std::int64_t prompt_tokens = s->prompt_tokens;
    sequence_type* const first = s.get();
    queue_.add(std::move(s));
    if (first->wish.beam_width > 0) {
      beams_.emplace(id, beam_of(*first));
    }
    statistics_.prompt_tokens += prompt_tokens;
    return next_id_++;
  }

  /// Ends a request that waits or runs; its tokens so far are in its result.
  ///
  /// Returns: whether there was such a request.
  bool abort(request_id id) {
    const auto gone = queue_.remove(id);
    finish_all(gone, finish_reason::aborted);
    if (!gone.empty()) {
      aborted_.push_back(id);
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
    propose();
    auto plan = queue_.next(pool_, now());
    statistics_.preemptions += plan.preempted;
    for (const auto& s : plan.hopeless) {
      const auto needed = kv::blocks_for(std::ssize(s->tokens), block_tokens_);
      finish_all(std::span(&s, 1),
                 s->generated() == 0 ? finish_reason::ignored : finish_reason::error,
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
    aborted_.clear();
    if (options_.on_token) {
      for (const token_event& event : events) {
        if (std::ranges::count(aborted_, event.id) == 0) {
          options_.on_token(event);
        }
      }
    }
    return !queue_.empty();
  }

  /// Steps until no request is left.
  ///
  /// Returns: all results that were not taken yet, in order of their ids and completions.
  std::vector<finished> run() {
    while (step()) {
    }
    auto results = take_finished();
    std::sort(results.begin(), results.end(), [](const finished& a, const finished& b) {
      return std::pair(a.id, a.branch) < std::pair(b.id, b.branch);
    });
    return results;
  }

  /// Returns: the results since the last call, in the order in which the requests ended.
  [[nodiscard]] std::vector<finished> take_finished() { return results_.take(); }

  /// Who waits and who runs, and what was decided so far.
  [[nodiscard]] const auto& scheduler() const { return queue_; }

  /// How steps were executed so far.
  [[nodiscard]] const execution_statistics& execution() const { return run_.statistics(); }

  [[nodiscard]] engine_statistics statistics() const {
    engine_statistics now = statistics_;
    now.blocks = pool_.capacity();
    now.blocks_used = pool_.used();
    now.blocks_peak = pool_.peak_used();
    const auto steps = static_cast<double>(std::max<std::int64_t>(now.steps, 1));
    now.waste_mean = waste_sum_ / steps;
    now.sharing_mean = sharing_sum_ / steps;
    if constexpr (requires { pool_.prefixes; }) {
      now.prefix_hit_rate = pool_.prefixes.statistics().hit_rate();
    }
    return now;
  }

 private:
  using sequence_type = sequence<cache_policy>;
  using queue_type = typename schedule_policy::template queue<sequence_type>;

  static constexpr bool swaps = requires(typename cache_policy::pool& pool) { pool.host; };
  static constexpr bool forks =
      (kv::CopyingModel<Model> || !sequence_type::shares) &&
      requires(queue_type& queue, const sequence_type& s) { queue.fork(s); };
  static constexpr bool speculates = !std::same_as<proposer_type, no_proposer>;
  static inline no_proposer nothing_proposed;

  static std::int32_t width_of(const engine_options& options) {
    const std::int32_t asked = options.block_tokens;
    constexpr std::int32_t own = cache_policy::block_tokens;
    if (own == kv::at_run_time ? asked < 0 : asked != 0 && asked != own) {
      throw argument_error("ashlar::serve::engine",
                           "block_tokens is " + std::to_string(asked) +
                               "; it must be positive, and the cache's where that has a constant");
    }
    return own != kv::at_run_time ? own : asked == 0 ? 16 : asked;
  }
  [[nodiscard]] kv::block_id blocks_of(std::int64_t asked, const char* option) const {
    // Some caches keep a block for themselves, so four times a context may be none that is left.
    const std::int64_t blocks = asked != 0
                                    ? kv::blocks_for(asked, block_tokens_)
                                    : 4 * kv::blocks_for(model_.context_length(), block_tokens_);
    if (asked < 0 ||
        blocks > std::numeric_limits<kv::block_id>::max() - execution_policy::spare_blocks) {
      throw argument_error("ashlar::serve::engine",
                           std::string(option) + " is " + std::to_string(asked) +
                               "; it must be positive, and at most 2^31 - 1 blocks");
    }
    return static_cast<kv::block_id>(blocks);
  }

  [[nodiscard]] typename Model::cache_type cache_of(const kv::block_pool& pool,
                                                    kv::block_id spare = 0) const {
    return model_.make_cache(static_cast<kv::block_id>(pool.size() + spare), block_tokens_);
  }
  [[nodiscard]] std::optional<typename Model::cache_type> host_cache_of() const {
    if constexpr (swaps) {
      return cache_of(pool_.host.host());
    } else {
      return std::nullopt;
    }
  }

  [[nodiscard]] bool has_adapter(std::string_view name) const {
    if constexpr (kv::AdaptedModel<Model>) {
      return model_.has_adapter(name);
    } else {
      return false;
    }
  }

  [[nodiscard]] double now() const {
    if (options_.clock) {
      return options_.clock();
    }
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(since).count();
  }

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

  // ---- before a step ----

  void begin_output(sequence_type& s) const {
    s.output.length = draft_length(speculates ? options_.most_drafts : 0, options_.draft_cost);
    s.output.streams = options_.decode && s.wish.beam_width == 0 &&
                       (options_.on_token || !s.wish.stop_strings.empty());
    s.output.stop = stop_text(s.wish.stop_strings, s.wish.keep_stop_string);
  }

  [[nodiscard]] detail::beam_run<sequence_type> beam_of(sequence_type& s) const {
    beam_options o{.width = s.wish.beam_width,
                   .length_penalty = s.wish.length_penalty,
                   .max_tokens = s.most_tokens - s.prompt_tokens,
                   .eos_tokens = s.wish.stop_tokens};
    if (!s.wish.ignore_eos) {
      o.eos_tokens.insert(o.eos_tokens.end(), options_.eos_tokens.begin(),
                          options_.eos_tokens.end());
    }
    return {.search = beam(std::move(o), s.prompt_tokens), .members = {&s}};
  }

  static std::uint64_t proposer_key(const sequence_type& s) {
    return (s.id << 16) ^ static_cast<std::uint64_t>(s.branch);
  }

  /// Asks for drafts for the sequences that have one token to compute. A proposer that throws has
  /// proposed nothing.
  void propose() {
    if constexpr (speculates) {
      for (auto& member : queue_.running()) {
        sequence_type& s = *member;
        s.drafts = 0;
        s.output.drafts.clear();
        if (s.remaining() != 1 || s.generated() == 0 || s.wish.beam_width > 0) {
          continue;
        }
        const std::int64_t room = s.most_tokens - std::ssize(s.tokens) - 1;
        const auto most = static_cast<int>(std::min<std::int64_t>(s.output.length.next(), room));
        if (most <= 0) {
          continue;
        }
        try {
          proposer_.propose({.sequence = proposer_key(s),
                             .text = s.tokens,
                             .prompt_tokens = static_cast<std::size_t>(s.prompt_tokens),
                             .options = &s.wish.sampling,
                             .seed = s.seed},
                            most, s.output.drafts);
          keep_valid(s.output.drafts, static_cast<std::size_t>(most));
          s.drafts = static_cast<std::int32_t>(s.output.drafts.tokens.size());
        } catch (...) {
          s.output.drafts.clear();
        }
      }
    }
  }

  /// Cuts a proposal before the first token that is no word of the model's, at `most`, and where
  /// some were drawn, before the first without a distribution.
  void keep_valid(proposal& drafts, std::size_t most) const {
    const auto wrong = std::ranges::find_if(
        drafts.tokens, [this](token t) { return t < 0 || t >= model_.vocabulary(); });
    std::size_t valid = std::min(most, static_cast<std::size_t>(wrong - drafts.tokens.begin()));
    if (!drafts.drawn_from.empty()) {
      valid = std::min(valid, drafts.drawn_from.size());
      drafts.drawn_from.resize(valid);
    }
    drafts.tokens.resize(valid);
  }

  // ---- a step ----

  /// Runs the model and finds out what follows, into `outcomes_`; changes no sequence.
  void compute(const std::vector<sequence_type*>& batch) {
    step_.clear();
    step_.block_tokens = block_tokens_;
    outcomes_.resize(std::max(outcomes_.size(), batch.size()));
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const sequence_type& s = *batch[i];
      detail::outcome& o = outcomes_[i];
      o.clear();
      const std::int32_t end = s.computed + s.scheduled;
      o.whole = s.scheduled >= s.remaining();
      o.drafts = o.whole ? s.scheduled - s.remaining() : 0;
      const auto known = static_cast<std::int32_t>(s.tokens.size());
      const auto told = static_cast<std::int32_t>(s.output.prompt_logprobs.size());
      step_.sequences.push_back({static_cast<std::int32_t>(step_.tokens.size()), s.scheduled, end,
                                 s.table.blocks(), s.wish.adapter});
      for (std::int32_t at = s.computed; at < end; ++at) {
        const bool tells = s.wish.prompt_logprobs && at >= told && at + 1 < s.prompt_tokens;
        if (tells || (o.whole && at + 1 >= known)) {
          step_.logit_rows.push_back(static_cast<std::int32_t>(step_.tokens.size()));
          o.prompt_rows += tells ? 1 : 0;
        }
        step_.tokens.push_back(at < known
                                   ? s.tokens[static_cast<std::size_t>(at)]
                                   : s.output.drafts.tokens[static_cast<std::size_t>(at - known)]);
        step_.positions.push_back(at);
        step_.slots.push_back(s.table.slot(at));
      }
    }
    const auto result = run_(step_);
    std::span<const float> logits = result;
    const auto width = static_cast<std::size_t>(model_.vocabulary());
    if (logits.size() != step_.logit_rows.size() * width) {
      throw argument_error("ashlar::serve::engine",
                           "forward returned " + std::to_string(logits.size()) + " logits for " +
                               std::to_string(step_.logit_rows.size()) + " rows of " +
                               std::to_string(width));
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      detail::outcome& o = outcomes_[i];
      const auto told = batch[i]->output.prompt_logprobs.size();
      for (std::int32_t row = 0; row < o.prompt_rows; ++row) {
        o.prompt_logprobs.push_back(
            logprobs_of(logits.first(width), batch[i]->tokens[told + o.prompt_logprobs.size() + 1],
                        *batch[i]->wish.prompt_logprobs));
        logits = logits.subspan(width);
      }
      if (o.whole) {
        const std::size_t rows = static_cast<std::size_t>(o.drafts + 1) * width;
        const bool is_beam = batch[i]->wish.beam_width > 0;
        chooser_.choose(*batch[i], o, logits.first(rows), width,
                        is_beam ? &beams_.at(batch[i]->id).search : nullptr);
        logits = logits.subspan(rows);
      }
    }
  }

  /// Advances the sequences of a batch by what `compute` found.
  std::vector<token_event> commit(const std::vector<sequence_type*>& batch) {
    ++statistics_.steps;
    statistics_.computed_tokens += std::ssize(step_.tokens);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      sequence_type& s = *batch[i];
      const detail::outcome& o = outcomes_[i];
      s.tokens.insert(s.tokens.end(), o.tokens.begin(), o.tokens.end());
      const auto own = std::min(o.logprobs.size(), o.tokens.size());
      s.output.logprobs.insert(s.output.logprobs.end(), o.logprobs.begin(),
                               o.logprobs.begin() + static_cast<std::ptrdiff_t>(own));
      s.output.prompt_logprobs.insert(s.output.prompt_logprobs.end(), o.prompt_logprobs.begin(),
                                      o.prompt_logprobs.end());
      s.output.length.record(o.drafts, o.accepted);
      statistics_.drafts += o.drafts;
      statistics_.accepted_drafts += o.accepted;
      advance(s, o.drafts - o.accepted);
    }
    measure();
    std::vector<token_event> events;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      sequence_type& s = *batch[i];
      detail::outcome& o = outcomes_[i];
      if (!o.whole) {
        continue;
      }
      if (s.wish.beam_width > 0) {
        if (auto& run = beams_.at(s.id); run.add(s, o)) {
          grow(run, s.id);
        }
        continue;
      }
      const auto siblings = fork_siblings(s, o);
      announce(s, o.tokens.size(), o.error, events);
      for (sequence_type* twin : siblings) {
        announce(*twin, 1, nullptr, events);
      }
    }
    return events;
  }

  // ---- branches ----

  /// The other completions of a prompt, when the first has its first token.
  std::vector<sequence_type*> fork_siblings(const sequence_type& s, detail::outcome& o) {
    std::vector<sequence_type*> siblings;
    if constexpr (forks) {
      for (std::size_t i = 0; i < o.siblings.size(); ++i) {
        sequence_type& twin = queue_.fork(s);
        twin.tokens.back() = o.siblings[i];
        twin.seed = branch_seed(s.seed, i + 1);
        begin_output(twin);
        twin.output.logprobs.clear();
        if (!o.logprobs.empty()) {
          twin.output.logprobs.push_back(
              std::move(o.logprobs[o.logprobs.size() - o.siblings.size() + i]));
        }
        siblings.push_back(&twin);
      }
    }
    return siblings;
  }

  void grow(detail::beam_run<sequence_type>& run, request_id id) {
    if (run.error) {
      finish_all(queue_.remove(id), finish_reason::error, run.error);
      return;
    }
    if constexpr (forks) {
      run.grow(queue_);
    } else {  // a width of 1 never forks, but its text does go on
      const auto steps = run.search.advance(run.next);
      run.ready = 0;
      if (!steps.empty()) {
        run.members.front()->tokens.push_back(steps.front().token);
      }
    }
    if (run.search.over()) {
      finish_all(queue_.remove(id), finish_reason::length);
    }
  }

  // ---- ends ----

  /// The last `count` tokens of a sequence are new: makes text of them, and ends it where they do.
  void announce(sequence_type& s, std::size_t count, std::exception_ptr error,
                std::vector<token_event>& events) {
    const auto output = std::span(s.tokens).subspan(static_cast<std::size_t>(s.prompt_tokens));
    for (std::size_t at = output.size() - count; at < output.size(); ++at) {
      const auto index = static_cast<std::int32_t>(at);
      auto reason = detail::ended_by(s, output[at], index + 1, options_.eos_tokens);
      token_event e{s.id, index, output[at], {}, s.branch};
      if (s.output.streams) {
        try {
          e.text = results_.stream(s, output, at, reason);
        } catch (...) {
          reason = finish_reason::error;
          error = std::current_exception();
        }
      }
      e.finish = reason;
      ++statistics_.generated_tokens;
      events.push_back(std::move(e));
      if (reason) {
        s.tokens.resize(static_cast<std::size_t>(s.prompt_tokens) + at + 1);
        const auto last = queue_.drop(s);
        finish(*last, *reason, *reason == finish_reason::error ? error : nullptr);
        return;
      }
    }
    if (error) {
      const auto last = queue_.drop(s);
      finish(*last, finish_reason::error, error);
    }
  }

  /// Ends sequences of one request that have left the queue.
  void finish_all(std::span<const std::unique_ptr<sequence_type>> gone, finish_reason reason,
                  const std::exception_ptr& error = nullptr) {
    if (gone.empty()) {
      return;
    }
    const sequence_type& first = *gone.front();
    if (first.wish.beam_width == 0) {
      for (const auto& s : gone) {
        finish(*s, reason, error);
      }
      return;
    }
    // Of several sequences the first one says it.
    if (const auto at = beams_.find(first.id); at != beams_.end()) {
      results_.end_beam(first, at->second.search, reason, error);
      beams_.erase(at);
    }
  }

  void finish(sequence_type& s, finish_reason reason, std::exception_ptr error = nullptr) {
    results_.end(s, reason, std::move(error));
    try {
      proposer_.finish(proposer_key(s));
    } catch (...) {  // the request is over all the same, and its result is kept
    }
  }

  void measure() {
    const auto table_of = [](const auto& s) -> const auto& { return s->table; };
    const kv::usage now = kv::measure(pool_, block_tokens_, queue_.running(), table_of);
    statistics_.waste_peak = std::max(statistics_.waste_peak, now.waste());
    waste_sum_ += now.waste();
    sharing_sum_ += now.sharing();
  }

  Model& model_;
  proposer_type& proposer_;
  engine_options options_;
  std::int32_t block_tokens_;
  typename cache_policy::pool pool_;
  typename Model::cache_type cache_;
  std::optional<typename Model::cache_type> host_cache_;
  typename execution_policy::template runner<Model> run_;
  queue_type queue_;
  std::unordered_map<request_id, detail::beam_run<sequence_type>> beams_;
  detail::chooser<sampler_type, speculates> chooser_;
  serve::step step_;
  std::vector<detail::outcome> outcomes_;  // by place in the batch
  detail::results results_;
  std::vector<request_id> aborted_;  // since the last step
  engine_statistics statistics_;
  double waste_sum_ = 0;
  double sharing_sum_ = 0;
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
template <class Model, Proposer P>
engine(Model&, engine_options, P&) -> engine<Model, P>;

}  // namespace ashlar::serve

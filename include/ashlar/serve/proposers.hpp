// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/serve/sampler.hpp"
#include "ashlar/serve/speculative.hpp"

namespace ashlar::serve {

/// Finds where the text's last tokens stood before, and proposes what followed there.
///
/// The longest ending of `Least` to `Most` tokens that stands earlier in the text decides, of
/// several places the first. Cost: O(text).
/// Source: prompt lookup decoding, as in vLLM v1.
template <int Least = 1, int Most = 4>
struct ngram_proposer {
  static_assert(Least >= 1 && Least <= Most,
                "ashlar::serve::ngram_proposer<Least, Most>: Least must be from 1 to Most");

  static void propose(const proposal_context& context, int most, proposal& out) {
    // Over the text from its end: the longest beginning of it that ends at each place (as in the
    // search of Knuth, Morris and Pratt), cut at `Most`. Later places are earlier in the text.
    const auto text = context.text;
    const auto back = [text](std::size_t i) { return text[text.size() - 1 - i]; };
    std::vector<std::size_t> border(std::min<std::size_t>(text.size(), Most));
    std::size_t longest = 0;
    std::size_t place = 0;
    std::size_t length = 0;
    for (std::size_t i = 1; i < text.size(); ++i) {
      while (length > 0 && (length == Most || back(length) != back(i))) {
        length = border[length - 1];
      }
      length += back(length) == back(i) ? 1 : 0;
      if (i < border.size()) {
        border[i] = length;
      }
      if (length >= longest && length >= Least) {
        longest = length;
        place = i;
      }
    }
    if (longest == 0) {
      return;
    }
    const auto rest = text.subspan(text.size() - 1 - place + longest);
    const auto count = std::min(rest.size(), static_cast<std::size_t>(std::max(most, 0)));
    out.tokens.assign(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(count));
  }
  static void finish(std::uint64_t) {}
};

/// Remembers all texts that it was shown, and proposes what most often followed the longest ending
/// of the text that it has met, up to `Match` tokens long; of equal ones the lowest token.
///
/// All sequences share what is remembered, up to `Nodes` beginnings of endings, then it begins
/// anew. Cost: O(Match + Ahead) for each new token; memory of as many nodes. Source: SuffixDecoding
/// (Oliaro et al., 2024): a tree of suffixes with counts.
template <int Match = 16, int Ahead = 16, std::size_t Nodes = 1'000'000>
class suffix_proposer {
  static_assert(Match >= 1 && Ahead >= 1,
                "ashlar::serve::suffix_proposer<Match, Ahead>: both must be positive");

 public:
  /// A proposal ends where its probability, by the counts, falls below `least_probability`.
  explicit suffix_proposer(double least_probability = 0.1) : least_(least_probability) {}

  void propose(const proposal_context& context, int most, proposal& out) {
    cursor& c = cursors_[context.sequence];
    for (; c.known < context.text.size(); ++c.known) {
      learn(c, context.text[c.known]);
    }
    for (std::size_t i = c.endings.size() - std::min<std::size_t>(c.endings.size(), Match);
         i < c.endings.size(); ++i) {
      const node* here = &nodes_[c.endings[i]];
      if (here->best == none) {
        continue;
      }
      double probability = 1;
      double times = here->count - 1;  // the text's own end is followed by nothing yet
      for (int n = 0; n < std::min(most, Ahead) && here->best != none; ++n) {
        here = &nodes_[here->best];
        probability *= here->count / std::max(times, 1.0);
        times = here->count;
        if (probability < least_) {
          return;
        }
        out.tokens.push_back(here->last);
      }
      return;
    }
  }
  void finish(std::uint64_t sequence) { cursors_.erase(sequence); }

  /// Nodes in use.
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }

 private:
  static constexpr std::size_t none = 0;  // nothing leads back to the root

  struct node {
    token last = 0;
    std::int32_t count = 0;
    std::size_t best = none;  ///< the most frequent child
  };
  struct edge {
    std::size_t from;
    token by;
    friend bool operator==(const edge&, const edge&) = default;
  };
  struct edge_hash {
    std::size_t operator()(const edge& e) const {
      return (e.from * 0x9E3779B97F4A7C15u + static_cast<std::size_t>(e.by)) * 0xBF58476D1CE4E5B9u;
    }
  };
  /// Where a text is in the tree: the nodes of its endings, the longest first.
  struct cursor {
    std::size_t known = 0;
    std::vector<std::size_t> endings{};
  };

  void learn(cursor& c, token t) {
    if (nodes_.size() + Match + Ahead > Nodes) {
      nodes_.assign(1, {});
      children_.clear();
      for (auto& [sequence, other] : cursors_) {
        other.endings.clear();
      }
    }
    if (c.endings.size() == std::size_t{Match} + Ahead) {
      c.endings.erase(c.endings.begin());
    }
    c.endings.push_back(0);
    for (std::size_t& ending : c.endings) {
      const auto [at, fresh] = children_.try_emplace({ending, t}, nodes_.size());
      const std::size_t child = at->second;
      if (fresh) {
        nodes_.push_back({.last = t});
      }
      const std::int32_t count = ++nodes_[child].count;
      node& parent = nodes_[ending];
      const node& best = nodes_[parent.best];
      if (parent.best == none || count > best.count || (count == best.count && t < best.last)) {
        parent.best = child;
      }
      ending = child;
    }
  }

  double least_;
  std::vector<node> nodes_ = std::vector<node>(1);
  std::unordered_map<edge, std::size_t, edge_hash> children_;
  std::unordered_map<std::uint64_t, cursor> cursors_;
};

/// Asks a smaller model of the same vocabulary, which has a key-value cache of its own.
///
/// What it has computed of a sequence is kept while the text agrees with it. Where its blocks or
/// its context are used up it proposes fewer tokens or none. `Sampler` draws from it with the
/// request's options. The model must outlive it.
template <kv::PagedModel Model, class Sampler = vllm_sampler>
class draft_model {
 public:
  /// Throws: `argument_error` where `blocks` or `block_tokens` is no size for a pool and tables.
  explicit draft_model(Model& model, kv::block_id blocks, std::int32_t block_tokens = 16)
      : model_(model),
        pool_(blocks),
        block_tokens_(block_tokens),
        cache_(model.make_cache(blocks, block_tokens)) {}
  draft_model(const draft_model&) = delete;
  draft_model& operator=(const draft_model&) = delete;

  /// Throws: what the model throws, `bad_logits`; the proposal is then to be cleared.
  void propose(const proposal_context& context, int most, proposal& out) {
    sequence& s = known_.try_emplace(context.sequence, pool_, block_tokens_).first->second;
    text_.assign(context.text.begin(), context.text.end());
    // The last token is computed again if need be: its logits are wanted.
    const auto same = std::ranges::mismatch(s.tokens, context.text.first(context.text.size() - 1));
    keep(s, static_cast<std::size_t>(same.in1 - s.tokens.begin()));
    for (int n = 0; n < most; ++n) {
      const auto count = static_cast<std::int32_t>(text_.size() - s.tokens.size());
      if (static_cast<std::int64_t>(text_.size()) > model_.context_length() ||
          s.table.blocks_needed(count) > pool_.free()) {
        return;
      }
      const auto logits = compute(s, count);
      const sampling_state state{
          .history = text_, .seed = context.seed, .prompt_tokens = context.prompt_tokens};
      const auto q = sample_.distribution(logits, *context.options, state);
      const token t = draw(q, uniform_of(random_stream::draft, context.seed, text_.size()));
      out.tokens.push_back(t);
      out.drawn_from.emplace_back(q.begin(), q.end());
      text_.push_back(t);
    }
  }
  void finish(std::uint64_t sequence) { known_.erase(sequence); }

  [[nodiscard]] const kv::block_pool& pool() const { return pool_; }

 private:
  struct sequence {
    sequence(kv::block_pool& pool, std::int32_t block_tokens) : table(pool, block_tokens) {}
    std::vector<token> tokens{};  ///< those in the cache
    kv::block_table table;
  };

  void keep(sequence& s, std::size_t count) {
    s.tokens.resize(count);
    s.table.truncate(static_cast<std::int32_t>(count));
  }

  std::span<const float> compute(sequence& s, std::int32_t count) {
    const auto old = s.tokens.size();
    s.table.append(count);
    try {
      step_.clear();
      step_.block_tokens = block_tokens_;
      for (auto i = static_cast<std::int32_t>(old); i < s.table.tokens(); ++i) {
        step_.tokens.push_back(text_[static_cast<std::size_t>(i)]);
        step_.positions.push_back(i);
        step_.slots.push_back(s.table.slot(i));
      }
      step_.sequences.push_back({0, count, s.table.tokens(), s.table.blocks()});
      step_.logit_rows.push_back(count - 1);
      const auto result = model_.forward(step_, cache_);
      const std::span<const float> logits = result;
      logits_.assign(logits.begin(), logits.end());
    } catch (...) {
      keep(s, old);
      throw;
    }
    s.tokens.assign(text_.begin(), text_.end());
    return logits_;
  }

  Model& model_;
  kv::block_pool pool_;
  std::int32_t block_tokens_;
  typename Model::cache_type cache_;
  Sampler sample_;
  std::unordered_map<std::uint64_t, sequence> known_;
  std::vector<token> text_;
  std::vector<float> logits_;
  kv::step step_;
};

}  // namespace ashlar::serve

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/io/detail/pair_table.hpp"
#include "ashlar/io/detail/utf8.hpp"
#include "ashlar/io/detail/words.hpp"
#include "ashlar/io/tokenizer.hpp"

namespace ashlar::io {

struct bpe_options {
  std::vector<std::string> control{"<|endoftext|>"};  ///< ids 0, 1, ...; the first is BOS and EOS
  word_pattern pattern = word_pattern::gpt2;
  std::int64_t min_count = 2;  ///< pairs seen less often are not merged
};

namespace detail {

/// Byte-pair encoding on counted words: pair counts change only where a merge happened.
///
/// A template, so that only a file that trains compiles it.
template <class = void>
class bpe_trainer {
 public:
  bpe_trainer(std::string_view text, word_pattern pattern,
              const std::vector<std::int32_t>& byte_ids) {
    std::unordered_map<std::string_view, std::size_t> place;
    each_word(text, pattern, [&](std::string_view word) {
      const auto [at, fresh] = place.try_emplace(word, words_.size());
      if (!fresh) {
        ++words_[at->second].count;
        return;
      }
      counted_word w{.ids = {}, .count = 1};
      for (const char byte : word) {
        w.ids.push_back(byte_ids[static_cast<unsigned char>(byte)]);
      }
      words_.push_back(std::move(w));
    });
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const counted_word& w = words_[i];
      for (std::size_t j = 0; j + 1 < w.ids.size(); ++j) {
        change(pair_key(w.ids[j], w.ids[j + 1]), w.count, i);
      }
    }
    publish();
  }

  struct best_pair {
    std::int32_t left = -1;
    std::int32_t right = -1;
    std::int64_t count = 0;
  };

  /// The most frequent pair, of equally frequent ones the one with the lowest ids.
  best_pair best() {
    while (!queue_.empty()) {
      const candidate top = queue_.top();
      const std::int64_t now = pairs_[top.key].count;
      if (top.count == now) {
        return {static_cast<std::int32_t>(top.key >> 32),
                static_cast<std::int32_t>(top.key & 0xffffffffu), now};
      }
      queue_.pop();
      if (now > 0) {  // it was counted down since; growth has pushed a new candidate
        queue_.push({now, top.key});
      }
    }
    return {};
  }

  void merge(const best_pair& pair, std::int32_t result) {
    const std::uint64_t key = pair_key(pair.left, pair.right);
    const std::vector<std::size_t> where = std::move(pairs_[key].words);
    std::size_t previous = SIZE_MAX;
    for (const std::size_t i : where) {
      if (i != previous) {  // a word that has the pair twice is listed twice in a row
        merge_in(i, pair, result);
      }
      previous = i;
    }
    pairs_[key].count = 0;
    pairs_[key].words.clear();
    publish();
  }

 private:
  struct counted_word {
    std::vector<std::int32_t> ids;
    std::int64_t count;
  };
  struct pair_state {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // may list words that lost the pair
    bool grown = false;
  };
  struct candidate {
    std::int64_t count;
    std::uint64_t key;

    friend bool operator<(const candidate& a, const candidate& b) {
      return a.count != b.count ? a.count < b.count : a.key > b.key;
    }
  };

  void change(std::uint64_t key, std::int64_t by, std::size_t word) {
    pair_state& p = pairs_[key];
    p.count += by;
    if (by > 0) {
      if (p.words.empty() || p.words.back() != word) {
        p.words.push_back(word);
      }
      if (!p.grown) {
        p.grown = true;
        grown_.push_back(key);
      }
    }
  }

  void merge_in(std::size_t word, const best_pair& pair, std::int32_t result) {
    std::vector<std::int32_t>& ids = words_[word].ids;
    const std::int64_t count = words_[word].count;
    std::size_t to = 0;
    for (std::size_t from = 0; from < ids.size(); ++to) {
      if (from + 1 < ids.size() && ids[from] == pair.left && ids[from + 1] == pair.right) {
        if (to > 0) {
          change(pair_key(ids[to - 1], pair.left), -count, word);
          change(pair_key(ids[to - 1], result), count, word);
        }
        if (from + 2 < ids.size()) {
          change(pair_key(pair.right, ids[from + 2]), -count, word);
          change(pair_key(result, ids[from + 2]), count, word);
        }
        ids[to] = result;
        from += 2;
      } else {
        ids[to] = ids[from];
        from += 1;
      }
    }
    ids.resize(to);
  }

  void publish() {
    for (const std::uint64_t key : grown_) {
      pair_state& p = pairs_[key];
      p.grown = false;
      if (p.count > 0) {
        queue_.push({p.count, key});
      }
    }
    grown_.clear();
  }

  std::vector<counted_word> words_;
  pair_table<pair_state> pairs_;
  std::vector<std::uint64_t> grown_;
  std::priority_queue<candidate> queue_;
};

}  // namespace detail

/// Trains a byte-level tokenizer on `text`.
///
/// Ids: control tokens, then the 256 bytes in the order of their stand-ins (`!` first), then
/// merges, each the most frequent pair at its time; of equally frequent ones the lowest ids win.
/// So the result depends on nothing but the arguments.
/// Returns: at most `vocabulary_size` tokens; fewer where no pair is frequent enough any more.
/// Throws:  `argument_error` where the size has no room for control tokens and bytes, or a control
///          token is empty or repeated.
/// Cost:    O(text) to count words, then in proportion to what the merges change.
/// Source:  Sennrich, Haddow and Birch (2016); byte level as in GPT-2.
template <class Trainer = detail::bpe_trainer<>>
tokenizer train_bpe(std::string_view text, std::int32_t vocabulary_size,
                    const bpe_options& options = {}) {
  const std::size_t fixed = options.control.size() + 256;
  if (vocabulary_size < 0 || static_cast<std::size_t>(vocabulary_size) < fixed) {
    throw argument_error("ashlar::io::train_bpe",
                         "a vocabulary of " + std::to_string(vocabulary_size) + "; 256 bytes and " +
                             std::to_string(options.control.size()) + " control tokens take " +
                             std::to_string(fixed));
  }
  tokenizer_parts parts;
  parts.pattern = options.pattern;
  for (const std::string& name : options.control) {
    const bool repeated = std::any_of(parts.tokens.begin(), parts.tokens.end(),
                                      [&](const token& t) { return t.text == name; });
    if (name.empty() || repeated) {
      throw argument_error("ashlar::io::train_bpe",
                           "control token '" + name + "' is empty or repeated");
    }
    parts.tokens.push_back({name, token_kind::control});
  }
  std::vector<std::int32_t> byte_ids(256);
  for (std::uint32_t code = 0; code < detail::byte_of_stand_in.size(); ++code) {
    const std::int16_t byte = detail::byte_of_stand_in[code];
    if (byte >= 0) {
      byte_ids[static_cast<std::size_t>(byte)] = static_cast<std::int32_t>(parts.tokens.size());
      parts.tokens.push_back({std::string(1, static_cast<char>(byte)), token_kind::normal});
    }
  }
  Trainer trainer(text, options.pattern, byte_ids);
  while (parts.tokens.size() < static_cast<std::size_t>(vocabulary_size)) {
    const auto pair = trainer.best();
    if (pair.count < std::max<std::int64_t>(options.min_count, 1)) {
      break;
    }
    const auto result = static_cast<std::int32_t>(parts.tokens.size());
    const auto text_of = [&](std::int32_t id) {
      return parts.tokens[static_cast<std::size_t>(id)].text;
    };
    parts.tokens.push_back({text_of(pair.left) + text_of(pair.right), token_kind::normal});
    parts.merges.push_back(
        {pair.left, pair.right, result, static_cast<std::uint32_t>(parts.merges.size())});
    trainer.merge(pair, result);
  }
  if (!options.control.empty()) {
    parts.bos = 0;
    parts.eos = 0;
  }
  return tokenizer(std::move(parts));
}

}  // namespace ashlar::io

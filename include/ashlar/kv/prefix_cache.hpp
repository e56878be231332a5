// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/step.hpp"

namespace ashlar::kv {

/// What must be equal besides tokens for keys and values to be the same.
struct prefix_scope {
  std::string adapter{};  ///< weights added to the model's
  std::string salt{};     ///< a secret of those who may share: others cannot find out by timing
};

struct prefix_statistics {
  std::int64_t asked = 0;  ///< tokens of the sequences that looked
  std::int64_t found = 0;
  [[nodiscard]] double hit_rate() const {
    return asked == 0 ? 0.0 : static_cast<double>(found) / static_cast<double>(asked);
  }
};

/// Hashes a block's tokens, chained to what stands before them. Equal hashes are compared token by
/// token, so that a bad hash costs time and nothing else.
struct prefix_hash {
  std::uint64_t operator()(std::uint64_t before, std::span<const token> tokens) const {
    std::uint64_t h = before ^ 0x9E3779B97F4A7C15u;
    for (const token t : tokens) {
      h = (h ^ static_cast<std::uint32_t>(t)) * 0xFF51AFD7ED558CCDu;
      h ^= h >> 32;
    }
    return h;
  }
};

template <class H>
concept PrefixHash = requires(const H& hash, std::span<const token> tokens) {
  { hash(std::uint64_t{}, tokens) } -> std::convertible_to<std::uint64_t>;
};

/// Finds blocks by what they hold: full blocks, each under its tokens and all that are before them.
///
/// Nothing is copied and no block is held: the pool keeps named blocks among its free ones and
/// hands them out last freed last, and a table gives back its tail first, so the ends of the
/// sequences that were not used for the longest time go first. The pool must outlive the cache, and
/// have one only.
/// Cost: O(tokens) for a call; memory for at most the pool's blocks and the beginnings they need.
/// Source: the hash chain of vLLM; what is before a block is identified by a node of a tree, so
///         that hashes that collide can never mix two texts up.
template <class Hash = prefix_hash>
class prefix_cache {
  static_assert(PrefixHash<Hash>,
                "ashlar::kv::prefix_cache<Hash>: Hash must model PrefixHash "
                "(`uint64_t operator()(uint64_t before, span<const token>) const`)");

 public:
  /// Throws: `argument_error` where `block_tokens` is not positive.
  prefix_cache(block_pool& pool, std::int32_t block_tokens)
      : pool_(&pool),
        block_tokens_(block_tokens),
        node_of_(static_cast<std::size_t>(pool.size()), none),
        next_of_(node_of_) {
    if (block_tokens <= 0) {
      throw argument_error(
          "ashlar::kv::prefix_cache",
          "block_tokens is " + std::to_string(block_tokens) + "; it must be positive");
    }
  }
  prefix_cache(const prefix_cache&) = delete;
  prefix_cache& operator=(const prefix_cache&) = delete;
  ~prefix_cache() { clear(); }

  /// Where a look-up has been: one that comes again for the same tokens hashes none of them.
  using trail = std::vector<std::int32_t>;

  /// The blocks of the longest known beginning of `tokens`, which is shorter than `tokens`: one
  /// token at least is left to compute, as somebody wants what follows it.
  ///
  /// Effects: `before` is a trail of this cache's, whatever has happened since; it becomes that of
  ///          this look-up. It saves time, and changes nothing of what is found.
  /// Returns: kept blocks, for `block_table::adopt` before the pool hands out any.
  [[nodiscard]] std::vector<block_id> find(std::span<const token> tokens, const prefix_scope& scope,
                                           trail& before) const {
    std::vector<block_id> found;
    const auto root = roots_.find(key_of(scope));
    std::int32_t node = root == roots_.end() ? none : root->second;
    std::size_t i = 0;
    for (; node != none && (i + 1) * width() < tokens.size(); ++i) {
      const auto next = tokens.subspan(i * width(), width());
      if (i < before.size() && follows(before[i], node, next)) {
        node = before[i];
      } else {
        node = child(node, next);
        before.resize(i);
        before.push_back(node);
      }
      const block_id block = node == none ? none : holder(node);
      if (block == none) {
        break;
      }
      found.push_back(block);
    }
    return found;
  }
  [[nodiscard]] std::vector<block_id> find(std::span<const token> tokens,
                                           const prefix_scope& scope = {}) const {
    trail first;
    return find(tokens, scope, first);
  }

  /// Names the full blocks of `table`, whose first tokens are `tokens`.
  ///
  /// Requires: keys and values of all `tokens` are written and are final (no drafts); the table
  ///           keeps to copy on write.
  /// Effects:  where `deduplicate` is set, the table's blocks become those that held the same
  ///           tokens before. The first `named` blocks are taken to be named already; where they
  ///           are not, all are named again.
  /// Returns:  how many blocks of the table are named.
  /// Throws:   `argument_error` where there are more tokens than in the table, or its blocks are
  /// not
  ///           those of the pool, as when it is swapped out.
  std::size_t publish(block_table& table, std::span<const token> tokens,
                      const prefix_scope& scope = {}, std::size_t named = 0,
                      bool deduplicate = false) {
    if (std::ssize(tokens) > table.tokens() || !table.in(*pool_) ||
        table.block_tokens() != block_tokens_) {
      throw argument_error("ashlar::kv::prefix_cache::publish",
                           std::to_string(tokens.size()) + " tokens for a sequence of " +
                               std::to_string(table.tokens()) + " in blocks of " +
                               std::to_string(table.block_tokens()) +
                               "; it must have them, in this cache's pool and blocks");
    }
    const std::size_t full = tokens.size() / width();
    if (named >= full) {
      return full;
    }
    std::int32_t node = named == 0 ? none : node_of_block(table.blocks()[named - 1]);
    if (node == none) {
      named = 0;
      node = root_of(scope);
    }
    for (std::size_t i = named; i < full; ++i) {
      node = child_or_new(node, tokens.subspan(i * width(), width()));
      const block_id own = table.blocks()[i];
      if (pool_->is_null(own)) {
        continue;  // dropped; the node stays for what follows it
      }
      const block_id other = deduplicate && node_of_block(own) != node ? holder(node) : none;
      if (other != none) {
        table.exchange(i, other);
      } else {
        attach(node, own);
      }
    }
    prune(node);
    return full;
  }

  /// Counts a look-up in the statistics: `find` may be asked many times for one sequence.
  void count(std::int64_t asked, std::int64_t found) {
    statistics_.asked += asked;
    statistics_.found += found;
  }
  [[nodiscard]] const prefix_statistics& statistics() const { return statistics_; }

  /// Forgets all names; tables keep their blocks.
  void clear() {
    for (std::size_t i = 0; i < node_of_.size(); ++i) {
      if (std::exchange(node_of_[i], none) != none) {
        pool_->forget(static_cast<block_id>(i));
      }
    }
    nodes_.clear();
    tokens_.clear();
    unused_.clear();
    buckets_.clear();
    roots_.clear();
  }

  /// Blocks that can be found.
  [[nodiscard]] std::int64_t blocks() const {
    std::int64_t count = 0;
    for (block_id id = 0; id < pool_->size(); ++id) {
      count += node_of_block(id) != none ? 1 : 0;
    }
    return count;
  }

  /// Throws: `broken_invariant`. Cost: O(blocks + names).
  void validate() const {
    const auto require = [](bool holds, const char* rule) {
      if (!holds) {
        throw broken_invariant("ashlar::kv::prefix_cache", rule);
      }
    };
    std::vector<std::int32_t> children(nodes_.size());
    std::size_t listed = 0;
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
      for (std::int32_t i = buckets_[bucket]; i != none; i = nodes_[at(i)].next) {
        const entry& e = nodes_[at(i)];
        require(bucket_of(e.hash) == bucket && e.hash == hash_after(e.parent, tokens_of(i)),
                "a name is filed under its hash");
        require(child(e.parent, tokens_of(i)) == i, "what follows one text has one name");
        ++children[at(e.parent)];
        require(++listed <= nodes_.size(), "no name is filed twice");
      }
    }
    for (const auto& [scope, index] : roots_) {
      require(nodes_[at(index)].parent == none && nodes_[at(index)].scope == &scope,
              "a scope begins a text");
      ++listed;
    }
    require(listed + unused_.size() == nodes_.size(), "no name is lost");
    std::size_t named = 0;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      require(nodes_[i].children == children[i], "a name knows what follows it");
      for (block_id block = nodes_[i].block; block != none; block = next_of_[at(block)]) {
        require(node_of_[at(block)] == static_cast<std::int32_t>(i), "a block has one name");
        ++named;
      }
    }
    for (block_id id = 0; id < pool_->size(); ++id) {
      require(!pool_->kept(id) || node_of_[at(id)] != none, "what is kept has a name");
      named -= node_of_[at(id)] != none ? 1 : 0;
    }
    require(named == 0, "a block's name knows the block");
  }

 private:
  static constexpr std::int32_t none = -1;

  /// A text: that of its parent and one block more. Without a block while only longer ones have.
  struct entry {
    std::int32_t parent = none;
    std::int32_t children = 0;
    std::uint64_t hash = 0;
    const std::string* scope = nullptr;  ///< of a root
    std::int32_t next = none;            ///< in its bucket
    /// The first that held the text; the others are behind it in `next_of_`. Some of them the pool
    /// may have handed out since.
    block_id block = none;
  };

  static std::size_t at(std::int32_t index) { return static_cast<std::size_t>(index); }
  [[nodiscard]] std::size_t width() const { return static_cast<std::size_t>(block_tokens_); }
  static std::string key_of(const prefix_scope& s) {
    return std::to_string(s.adapter.size()) + ':' + s.adapter + s.salt;
  }

  [[nodiscard]] std::int32_t node_of_block(block_id id) const {
    return pool_->kept(id) ? node_of_[at(id)] : none;
  }
  [[nodiscard]] block_id holder(std::int32_t node) const {
    block_id id = nodes_[at(node)].block;
    while (id != none && !pool_->kept(id)) {
      id = next_of_[at(id)];
    }
    return id;
  }

  /// Whether a number that was a name's once is that of `tokens` behind `parent` now.
  [[nodiscard]] bool follows(std::int32_t node, std::int32_t parent,
                             std::span<const token> tokens) const {
    return node >= 0 && at(node) < nodes_.size() && nodes_[at(node)].parent == parent &&
           std::ranges::equal(tokens_of(node), tokens);
  }
  [[nodiscard]] std::span<const token> tokens_of(std::int32_t node) const {
    return std::span(tokens_).subspan(at(node) * width(), width());
  }
  [[nodiscard]] std::uint64_t hash_after(std::int32_t parent, std::span<const token> tokens) const {
    return hash_(nodes_[at(parent)].hash, tokens);
  }
  [[nodiscard]] std::size_t bucket_of(std::uint64_t hash) const {
    return (hash ^ (hash >> 32)) & (buckets_.size() - 1);
  }
  [[nodiscard]] std::int32_t child(std::int32_t parent, std::span<const token> tokens) const {
    return child(parent, tokens, hash_after(parent, tokens));
  }
  [[nodiscard]] std::int32_t child(std::int32_t parent, std::span<const token> tokens,
                                   std::uint64_t hash) const {
    std::int32_t i = buckets_.empty() ? none : buckets_[bucket_of(hash)];
    while (i != none && (nodes_[at(i)].hash != hash || nodes_[at(i)].parent != parent ||
                         !std::ranges::equal(tokens_of(i), tokens))) {
      i = nodes_[at(i)].next;
    }
    return i;
  }

  std::int32_t new_node(const entry& e) {
    if (unused_.empty()) {
      nodes_.push_back(e);
      tokens_.resize(nodes_.size() * width());
      return static_cast<std::int32_t>(nodes_.size() - 1);
    }
    const std::int32_t index = unused_.back();
    unused_.pop_back();
    nodes_[at(index)] = e;
    return index;
  }
  std::int32_t root_of(const prefix_scope& scope) {
    const auto [root, added] = roots_.try_emplace(key_of(scope), none);
    if (added) {
      root->second =
          new_node({.hash = std::hash<std::string>{}(root->first), .scope = &root->first});
    }
    return root->second;
  }
  std::int32_t child_or_new(std::int32_t parent, std::span<const token> tokens) {
    const std::uint64_t hash = hash_after(parent, tokens);
    if (const std::int32_t known = child(parent, tokens, hash); known != none) {
      return known;
    }
    const std::int32_t index = new_node({.parent = parent, .hash = hash});
    std::ranges::copy(tokens, tokens_.begin() + static_cast<std::ptrdiff_t>(at(index) * width()));
    ++nodes_[at(parent)].children;
    if (nodes_.size() > buckets_.size()) {
      file_again();
    } else {
      file(index);
    }
    return index;
  }

  void file(std::int32_t node) {
    std::int32_t& bucket = buckets_[bucket_of(nodes_[at(node)].hash)];
    nodes_[at(node)].next = std::exchange(bucket, node);
  }
  void file_again() {
    buckets_.assign(std::bit_ceil(2 * nodes_.size()), none);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].parent != none) {
        file(static_cast<std::int32_t>(i));
      }
    }
  }

  void attach(std::int32_t node, block_id block) {
    pool_->keep(block);
    const std::int32_t old = node_of_[at(block)];
    if (old == node) {
      return;
    }
    if (old != none) {  // what the block held before the pool handed it out
      block_id* link = &nodes_[at(old)].block;
      while (*link != block) {
        link = &next_of_[at(*link)];
      }
      *link = next_of_[at(block)];
    }
    node_of_[at(block)] = node;
    block_id& first = nodes_[at(node)].block;
    block_id& place = first == none ? first : next_of_[at(first)];
    next_of_[at(block)] = std::exchange(place, block);
    if (old != none) {
      prune(old);
    }
  }
  /// Removes names that neither a block nor a longer text needs, from `node` towards the root.
  void prune(std::int32_t node) {
    while (node != none && nodes_[at(node)].children == 0 && nodes_[at(node)].block == none) {
      const entry gone = nodes_[at(node)];
      if (gone.parent == none) {
        roots_.erase(roots_.find(*gone.scope));
      } else {
        std::int32_t* link = &buckets_[bucket_of(gone.hash)];
        while (*link != node) {
          link = &nodes_[at(*link)].next;
        }
        *link = gone.next;
        --nodes_[at(gone.parent)].children;
      }
      nodes_[at(node)] = {};
      unused_.push_back(node);
      node = gone.parent;
    }
  }

  block_pool* pool_;
  std::int32_t block_tokens_;
  [[no_unique_address]] Hash hash_;
  std::vector<std::int32_t> node_of_;  // by block; the last name it had
  std::vector<block_id> next_of_;      // by block; of the same name
  std::vector<entry> nodes_;
  std::vector<token> tokens_;          // by node, `block_tokens` each; a root has none
  std::vector<std::int32_t> unused_;   // nodes
  std::vector<std::int32_t> buckets_;  // of nodes by hash; a power of two
  std::unordered_map<std::string, std::int32_t> roots_;
  prefix_statistics statistics_;
};

}  // namespace ashlar::kv

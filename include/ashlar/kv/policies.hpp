// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ashlar/kv/block_pool.hpp"
#include "ashlar/kv/block_table.hpp"
#include "ashlar/kv/paged.hpp"
#include "ashlar/kv/prefix_cache.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/kv/swap.hpp"

/// Refinements of `paged`: each replaces the pool or the table of the cache that it is given.
namespace ashlar::kv {

namespace detail {

/// `Base`, with a pool whose options `Policy::set` changes.
template <class Base, class Policy>
struct with_options : Base {
  struct pool : Base::pool {
    explicit pool(block_id blocks, pool_options options = {})
        : Base::pool(blocks, (Policy::set(options), options)) {}
  };
};

}  // namespace detail

/// Sequences fork, and a block that two of them hold is copied before one writes to it. That is
/// what `block_table` does: the name says that it is wanted.
struct copy_on_write {
  template <class Base>
  struct apply : Base {
    static_assert(
        requires(const typename Base::table& t) { t.fork(); },
        "ashlar::kv::copy_on_write: the table does not fork; leave append_only out");
  };
};

/// Sequences do not fork: blocks are shared through the prefix cache, full ones only.
struct append_only {
  template <class Base>
  struct apply : Base {
    struct table : Base::table {
      using Base::table::table;
      table fork() const = delete;
    };
  };
};

/// Block 0 stands for blocks that a sequence has given back.
struct null_block {
  static constexpr void set(pool_options& o) { o.null_block = true; }
  template <class Base>
  using apply = detail::with_options<Base, null_block>;
};

/// Newcomers leave so many thousandths of the pool free for those who run.
template <int Thousandths>
struct watermark {
  static_assert(Thousandths >= 0 && Thousandths <= 1000,
                "ashlar::kv::watermark<Thousandths>: Thousandths must be from 0 to 1000");
  static constexpr void set(pool_options& o) { o.watermark = Thousandths; }
  template <class Base>
  using apply = detail::with_options<Base, watermark>;
};

/// Blocks without a name are reused before those that somebody may come back for.
struct empty_blocks_first {
  static constexpr void set(pool_options& o) { o.order = free_order::empty_first; }
  template <class Base>
  using apply = detail::with_options<Base, empty_blocks_first>;
};

/// The pool has a `swap_space` named `host`, of `pool_options::host_blocks` blocks.
struct swap_to_host {
  template <class Base>
  struct apply : Base {
    struct pool : Base::pool {
      explicit pool(block_id blocks, pool_options options = {})
          : Base::pool(blocks, options), host(*this, options.host_blocks) {}
      swap_space host;
    };
  };
};

/// Attention sees the last `Tokens` tokens: `table.slide()` gives back what no later one reads.
template <int Tokens>
struct sliding_window {
  static_assert(Tokens > 0, "ashlar::kv::sliding_window<Tokens>: Tokens must be positive");
  template <class Base>
  struct apply : detail::with_options<Base, null_block> {
    static constexpr std::int64_t window = Tokens;

    class table : public Base::table {
     public:
      using Base::table::table;

      /// The next token attends to itself and to `Tokens - 1` before it.
      void slide() { this->drop_before(this->tokens() - Tokens + 1); }

      [[nodiscard]] table fork() const
        requires requires(const typename Base::table& t) { t.fork(); }
      {
        return table(Base::table::fork());
      }

     private:
      explicit table(typename Base::table&& held) : Base::table(std::move(held)) {}
    };
  };
};

/// Sequences find the beginnings that earlier ones left behind.
///
/// The pool has a `prefix_cache` named `prefixes`. The table looks up (`adopt`) before its first
/// tokens and names its blocks (`publish`) after they are written.
/// With `Deduplicate`, a block that turns out to hold what another holds is given up for that one.
template <bool Deduplicate = false>
struct prefix_cached {
  template <class Base>
  struct apply : Base {
    struct pool : Base::pool {
      explicit pool(block_id blocks, pool_options options = {})
          : Base::pool(blocks, options), prefixes(*this, block_tokens_of<Base>(options)) {}
      prefix_cache<> prefixes;
    };

    class table : public Base::table {
     public:
      table(pool& home, std::int32_t block_tokens)
          : Base::table(home, block_tokens), home_(&home) {}

      /// Begins the sequence with the blocks that are known of `tokens`.
      ///
      /// Returns: how many tokens need not be computed, fewer than there are.
      /// Throws:  `argument_error` where the table has blocks already.
      std::int32_t adopt(std::span<const token> tokens, const prefix_scope& scope = {}) {
        const auto found = home_->prefixes.find(tokens, scope, trail_);
        Base::table::adopt(found);
        named_ = found.size();
        if (!std::exchange(counted_, true)) {
          home_->prefixes.count(std::ssize(tokens), this->tokens());
        }
        return this->tokens();
      }

      /// Names the full blocks among the first `tokens.size()` tokens, which are final.
      ///
      /// Throws: `argument_error` where the sequence has fewer, or is swapped out.
      void publish(std::span<const token> tokens, const prefix_scope& scope = {}) {
        named_ = home_->prefixes.publish(*this, tokens, scope, named_, Deduplicate);
        trail_.clear();
      }

      void truncate(std::int32_t tokens) {
        Base::table::truncate(tokens);
        named_ = std::min(named_, static_cast<std::size_t>(tokens / this->block_tokens()));
      }

      /// A table of another sequence that begins with `tokens`: its first blocks are those that are
      /// known of them, full ones only, and nothing else is shared. What `fork` is to those that
      /// only grow.
      ///
      /// Returns: a table with fewer tokens than `tokens`; the others are to be computed.
      [[nodiscard]] table again(std::span<const token> tokens,
                                const prefix_scope& scope = {}) const {
        table twin(*home_, this->block_tokens());
        twin.counted_ = true;  // nobody new has asked
        twin.adopt(tokens, scope);
        return twin;
      }

      [[nodiscard]] table fork() const
        requires requires(const typename Base::table& t) { t.fork(); }
      {
        table twin(*home_, this->block_tokens());
        twin.share_with(*this);
        twin.named_ = named_;
        return twin;
      }

     private:
      pool* home_;
      std::size_t named_ = 0;
      prefix_cache<>::trail trail_;  // of a sequence that waits and asks again
      bool counted_ = false;
    };
  };
};

/// The block manager of vLLM 0.5: two pools, copy on write, blocks of one content made one.
template <int BlockTokens>
using vllm_v0 = paged<BlockTokens, copy_on_write, watermark<10>, empty_blocks_first, swap_to_host,
                      prefix_cached<true>>;

/// The block pool of vLLM v1: one pool with a null block; sequences grow at their ends only, and
/// share through the prefix cache.
template <int BlockTokens>
using vllm_v1 = paged<BlockTokens, append_only, null_block, prefix_cached<>>;

}  // namespace ashlar::kv

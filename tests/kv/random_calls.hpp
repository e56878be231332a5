// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/kv.hpp"

/// Random calls of a cache whose memory is real: each place holds a number made of all tokens up
/// to it, so that a block that is shared, reused, copied or moved wrongly shows.
namespace ashlar::testing {

struct call_counts {
  std::int64_t hits = 0, shortages = 0, copies = 0, forks = 0, swaps = 0, faults = 0, drops = 0;
};

template <class Cache>
class random_calls {
  static constexpr std::int32_t width = Cache::block_tokens;
  static constexpr std::size_t most = 7;  // sequences at once
  static constexpr bool swaps = requires(typename Cache::pool& p) { p.host; };
  static constexpr bool prefixes = requires(typename Cache::pool& p) { p.prefixes; };

 public:
  random_calls(std::uint32_t seed, kv::block_id blocks, kv::block_id host_blocks)
      : random_(seed),
        pool_(blocks, {.host_blocks = host_blocks}),
        device_(static_cast<std::size_t>(blocks) * width, garbage),
        host_(static_cast<std::size_t>(host_blocks + 1) * width, garbage) {}

  call_counts run(std::int64_t calls) {
    for (std::int64_t i = 0; i < calls; ++i) {
      one();
      if (i % 16 == 0) {
        check();
      }
    }
    check();
    sequences_.clear();
    check();
    CHECK(pool_.used() == 0);
    if constexpr (swaps) {
      CHECK(pool_.host.host().used() == 0);
    }
    return counts_;
  }

 private:
  static constexpr std::uint64_t garbage = 0xDEADu;

  struct sequence {
    typename Cache::table table;
    kv::prefix_scope scope{};
    std::vector<kv::token> tokens{};
    std::vector<std::uint64_t> states{};  // what the memory must hold
  };

  std::int32_t below(std::int32_t n) {
    return static_cast<std::int32_t>(random_() % static_cast<std::uint32_t>(n));
  }
  static std::uint64_t next_state(const sequence& s, kv::token t) {
    const std::uint64_t before = s.states.empty() ? s.scope.salt.size() + 1 : s.states.back();
    return (before ^ static_cast<std::uint64_t>(t + 7)) * 0xFF51AFD7ED558CCDu + (before >> 29);
  }
  /// Shorter texts, and beginnings that come again.
  kv::token draw() { return below(6) == 0 ? 1 : 0; }

  void perform(std::span<const kv::block_copy> copies) {
    for (const kv::block_copy& c : copies) {
      ++counts_.copies;
      const auto& from = c.from_place == kv::tier::device ? device_ : host_;
      auto& to = c.to_place == kv::tier::device ? device_ : host_;
      std::copy_n(from.begin() + std::ptrdiff_t{c.from} * width, width,
                  to.begin() + std::ptrdiff_t{c.to} * width);
    }
  }
  std::uint64_t& place(const sequence& s, std::int32_t position) {
    return (s.table.swapped() ? host_ : device_)[static_cast<std::size_t>(s.table.slot(position))];
  }

  void open() {
    if (sequences_.size() == most) {
      return;
    }
    sequence s{.table = typename Cache::table(pool_, width)};
    s.scope.salt = below(4) == 0 ? "salted" : "";
    std::vector<kv::token> prompt(static_cast<std::size_t>(1 + below(5 * width)));
    std::ranges::generate(prompt, [this] { return draw(); });
    if constexpr (prefixes) {
      const std::int32_t known = s.table.adopt(prompt, s.scope);
      REQUIRE(known < std::ssize(prompt));
      counts_.hits += known > 0 ? 1 : 0;
      for (std::int32_t i = 0; i < known; ++i) {
        take(s, prompt[static_cast<std::size_t>(i)]);
      }
    }
    sequences_.push_back(std::move(s));
    sequence& here = sequences_.back();
    if (pool_.admit(here.table.blocks_needed(
            static_cast<std::int32_t>(prompt.size() - here.tokens.size()))) == kv::admission::now) {
      append(here, std::span(prompt).subspan(here.tokens.size()), 0);
    }
  }
  void take(sequence& s, kv::token t) {
    s.states.push_back(next_state(s, t));
    s.tokens.push_back(t);
  }

  void append(sequence& s, std::span<const kv::token> tokens, std::int32_t drafts) {
    const auto count = static_cast<std::int32_t>(tokens.size());
    const auto old = std::vector(s.table.blocks().begin(), s.table.blocks().end());
    const std::int64_t needed = s.table.blocks_needed(count, drafts);
    const std::int64_t free = pool_.free();
    std::optional<kv::block_copy> copy;
    try {
      copy = s.table.append(count, drafts);
    } catch (const kv::out_of_blocks& e) {
      ++counts_.shortages;
      REQUIRE(needed > free);
      REQUIRE(e.requested == needed);
      REQUIRE(std::ranges::equal(old, s.table.blocks()));
      REQUIRE(pool_.free() == free);
      return;
    }
    REQUIRE(pool_.free() >= free - needed);
    if (copy) {
      perform({&*copy, 1});
    }
    for (const kv::token t : tokens) {
      take(s, t);
      place(s, static_cast<std::int32_t>(s.tokens.size()) - 1) = s.states.back();
    }
    for (std::int32_t i = 0; i < drafts; ++i) {
      place(s, static_cast<std::int32_t>(s.tokens.size()) + i) = garbage;
    }
    if (below(8) == 0) {  // the step failed: what it wrote does not count
      ++counts_.faults;
      truncate(s, static_cast<std::int32_t>(s.tokens.size()) - count);
    }
  }

  void truncate(sequence& s, std::int32_t tokens) {
    s.table.truncate(tokens);
    s.tokens.resize(static_cast<std::size_t>(tokens));
    s.states.resize(static_cast<std::size_t>(tokens));
  }

  /// Some of the sequences in one memory, to the other.
  void swap() {
    if constexpr (swaps) {
      const bool to_host = below(2) == 0;
      std::vector<kv::block_table*> tables;
      std::vector<sequence*> movers;
      for (sequence& s : sequences_) {
        if (s.table.swapped() != to_host && below(2) == 0) {
          tables.push_back(&s.table);
          movers.push_back(&s);
        }
      }
      std::vector<kv::block_copy> copies;
      const std::int64_t needed = kv::swap_space::blocks_needed(tables);
      const std::int64_t room = to_host ? pool_.host.host().free() : pool_.free();
      try {
        to_host ? pool_.host.out(tables, copies) : pool_.host.in(tables, copies);
      } catch (const kv::out_of_blocks&) {
        ++counts_.shortages;
        REQUIRE(needed > room);
        REQUIRE(copies.empty());
        return;
      }
      ++counts_.swaps;
      REQUIRE(std::ssize(copies) == needed);
      if (below(6) != 0) {
        perform(copies);
        return;
      }
      ++counts_.faults;  // the copies failed
      for (sequence* s : movers) {
        truncate(*s, 0);
        kv::block_table* const table = &s->table;
        if (to_host) {
          pool_.host.in({&table, 1}, copies);
        }
      }
    }
  }

  void one() {
    const std::int32_t kind = below(16);
    if (sequences_.empty() || kind == 0) {
      open();
      return;
    }
    if (kind == 1) {
      swap();
      return;
    }
    auto at = std::next(sequences_.begin(), below(static_cast<std::int32_t>(sequences_.size())));
    sequence& s = *at;
    const auto size = static_cast<std::int32_t>(s.tokens.size());
    if (kind == 2) {
      sequences_.erase(at);
    } else if (kind == 3) {
      if constexpr (requires { s.table.fork(); }) {
        if (sequences_.size() < most) {
          ++counts_.forks;
          sequences_.push_back({s.table.fork(), s.scope, s.tokens, s.states});
        }
      }
    } else if (s.table.swapped()) {
      CHECK_THROWS_AS(s.table.append(1), argument_error);
    } else if (kind == 4) {
      truncate(s, std::max(s.table.dropped(), size - below(2 * width)));
    } else if (kind == 5 && pool_.options().null_block) {
      ++counts_.drops;
      s.table.drop_before(size - below(2 * width));
    } else if (kind < 9) {
      if constexpr (prefixes) {
        s.table.publish(
            std::span(s.tokens).first(static_cast<std::size_t>(size - below(2) * (size > 0))),
            s.scope);
        if (below(500) == 0) {
          pool_.prefixes.clear();
        }
      }
    } else {
      std::vector<kv::token> tokens(static_cast<std::size_t>(below(6)));
      std::ranges::generate(tokens, [this] { return draw(); });
      append(s, tokens, below(3) == 0 ? below(2 * width) : 0);
    }
  }

  void check() {
    const auto table_of = [](const sequence& s) -> const kv::block_table& { return s.table; };
    kv::validate(pool_, sequences_, table_of);
    if constexpr (swaps) {
      kv::validate(pool_.host.host(), sequences_, table_of);
    }
    if constexpr (prefixes) {
      pool_.prefixes.validate();
    }
    std::map<std::int64_t, std::uint64_t> held;
    for (const sequence& s : sequences_) {
      REQUIRE(s.table.tokens() == std::ssize(s.tokens));
      for (std::int32_t i = s.table.dropped(); i < s.table.tokens(); ++i) {
        REQUIRE(place(s, i) == s.states[static_cast<std::size_t>(i)]);
        if (!s.table.swapped()) {
          held[s.table.slot(i)] = 1;
        }
      }
    }
    std::vector<const kv::block_table*> here;
    for (const sequence& s : sequences_) {
      if (!s.table.swapped()) {
        here.push_back(&s.table);
      }
    }
    const auto usage = kv::measure(
        pool_, width, here, [](const kv::block_table* t) -> const kv::block_table& { return *t; });
    REQUIRE(usage.held == static_cast<std::int64_t>(held.size()));
    REQUIRE(usage.slots == pool_.used() * width);
  }

  std::mt19937 random_;
  typename Cache::pool pool_;
  std::vector<std::uint64_t> device_;
  std::vector<std::uint64_t> host_;
  std::list<sequence> sequences_;
  call_counts counts_;
};

}  // namespace ashlar::testing

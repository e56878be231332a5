// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::serve {

/// A regular expression over bytes, compiled to a deterministic automaton.
///
/// Syntax: literals, `.` (any byte but a line feed), `[a-z]`, `[^a-z]`, `\d \D \w \W \s \S`,
/// `\n \r \t`, `\xHH`, a backslash before punctuation, `( )`, `|`, `*`, `+`, `?`, `{m}`, `{m,}`,
/// `{m,n}`. The whole text must match. No anchors, no captures, no references backwards.
class byte_regex {
 public:
  using state = std::int32_t;
  static constexpr state dead = -1;  ///< no continuation matches

  /// Throws: `argument_error` with the place where the pattern is no regular expression, is nested
  ///         too deep (200 brackets), or needs more than 100,000 states or too much work.
  explicit byte_regex(std::string_view pattern) {
    parser read{.text = pattern};
    const expression whole = read.alternatives();
    if (read.more()) {
      read.refuse("a `)` without its `(`");
    }
    const std::int32_t end = read.add({.reads = true});
    determine(read, read.build(whole, end), end);
    forget_dead_ends();
  }

  [[nodiscard]] state start() const { return start_; }
  /// Returns: the state after more bytes; `dead` stays so.
  [[nodiscard]] state next(state s, std::string_view bytes) const {
    for (const char byte : bytes) {
      s = s == dead ? dead : next_[static_cast<std::size_t>(s)][static_cast<unsigned char>(byte)];
    }
    return s;
  }
  /// Whether the text so far matches.
  [[nodiscard]] bool accepts(state s) const {
    return s != dead && accepting_[static_cast<std::size_t>(s)];
  }
  [[nodiscard]] bool matches(std::string_view text) const { return accepts(next(start_, text)); }
  [[nodiscard]] std::size_t states() const { return next_.size(); }

 private:
  static constexpr std::size_t limit = 100'000;
  static constexpr std::size_t most_work = 10 * limit;    // parts built, those without a state too
  static constexpr std::size_t most_listed = 40 * limit;  // nodes in the sets of all states
  static constexpr int most_brackets = 200;
  static constexpr int most_depth = 500;  // of an expression: its functions are recursive
  using byte_set = std::bitset<256>;

  /// Bytes where it has no parts; else one after the other, or one of them, or the first of them
  /// `least` to `most` times (-1: any number).
  struct expression {
    enum class kind : std::uint8_t { bytes, sequence, either, repeat };
    kind is = kind::bytes;
    byte_set on{};
    std::vector<expression> parts{};
    int least = 0;
    int most = 0;
    int depth = 0;  ///< of its parts, one in another
  };
  /// A state of the nondeterministic automaton: one way for the bytes in `on`, or two without one.
  struct node {
    bool reads = false;
    byte_set on{};
    std::int32_t to = -1;
    std::int32_t other = -1;
  };

  struct parser {
    std::string_view text;
    std::size_t at = 0;
    std::vector<node> nodes{};
    int brackets = 0;  ///< open now
    std::size_t work = 0;

    [[noreturn]] void refuse(const char* what) const {
      throw argument_error("ashlar::serve::byte_regex", std::string(what) + " at place " +
                                                            std::to_string(at) + " of `" +
                                                            std::string(text) + "`");
    }
    [[nodiscard]] bool more() const { return at < text.size(); }
    bool skip(char c) {
      const bool is = more() && text[at] == c;
      at += is ? 1 : 0;
      return is;
    }

    void put(expression& whole, expression part) const {
      whole.depth = std::max(whole.depth, part.depth + 1);
      if (whole.depth > most_depth) {
        refuse("nested too deep");
      }
      whole.parts.push_back(std::move(part));
    }
    expression alternatives() {
      expression e{.is = expression::kind::either};
      do {
        put(e, sequence());
      } while (skip('|'));
      return e;
    }
    expression sequence() {
      expression e{.is = expression::kind::sequence};
      while (more() && text[at] != '|' && text[at] != ')') {
        put(e, repeated());
      }
      return e;
    }
    expression repeated() {
      expression e = atom();
      while (true) {
        int least = 0;
        int most = -1;
        if (skip('+')) {
          least = 1;
        } else if (skip('?')) {
          most = 1;
        } else if (skip('{')) {
          least = most = number();
          if (skip(',')) {
            most = more() && text[at] != '}' ? number() : -1;
          }
          if (!skip('}') || (most >= 0 && most < least)) {
            refuse("no `{m}`, `{m,}` or `{m,n}`");
          }
        } else if (!skip('*')) {
          return e;
        }
        expression repeat{.is = expression::kind::repeat, .least = least, .most = most};
        put(repeat, std::move(e));
        e = std::move(repeat);
      }
    }
    int number() {
      int value = 0;
      const std::size_t begin = at;
      for (; more() && text[at] >= '0' && text[at] <= '9' && value < 100'000; ++at) {
        value = value * 10 + (text[at] - '0');
      }
      if (at == begin) {
        refuse("no number");
      }
      return value;
    }
    expression atom() {
      if (skip('(')) {
        if (++brackets > most_brackets) {
          refuse("nested too deep");
        }
        expression e = alternatives();
        if (!skip(')')) {
          refuse("a `(` without its `)`");
        }
        --brackets;
        return e;
      }
      if (skip('[')) {
        return {.on = set()};
      }
      if (skip('.')) {
        return {.on = ~byte_set().set('\n')};
      }
      if (more() && std::string_view("*+?{").find(text[at]) != std::string_view::npos) {
        refuse("nothing to repeat");
      }
      return {.on = one()};
    }
    /// What follows `[`.
    byte_set set() {
      const bool negated = skip('^');
      byte_set all;
      do {
        if (!more()) {
          refuse("a `[` without its `]`");
        }
        const byte_set from = one();
        all |= from;
        if (at + 1 < text.size() && text[at] == '-' && text[at + 1] != ']') {
          ++at;
          const byte_set to = one();
          if (from.count() != 1 || to.count() != 1 || first(from) > first(to)) {
            refuse("no range of bytes");
          }
          for (std::size_t b = first(from); b <= first(to); ++b) {
            all.set(b);
          }
        }
      } while (!skip(']'));
      return negated ? ~all : all;
    }
    static std::size_t first(const byte_set& s) {
      std::size_t b = 0;
      while (!s[b]) {
        ++b;
      }
      return b;
    }
    /// A byte, or a class with a backslash.
    byte_set one() {
      if (!more()) {
        refuse("nothing");
      }
      const char c = text[at++];
      byte_set s;
      const auto range = [&s](char from, char to) {
        for (char b = from; b <= to; ++b) {
          s.set(static_cast<std::size_t>(b));
        }
      };
      if (c != '\\') {
        return s.set(static_cast<unsigned char>(c));
      }
      const char escaped = more() ? text[at++] : '\0';
      switch (escaped) {
        case 'd':
        case 'D':
          range('0', '9');
          return escaped == 'd' ? s : ~s;
        case 'w':
        case 'W':
          range('0', '9');
          range('a', 'z');
          range('A', 'Z');
          s.set('_');
          return escaped == 'w' ? s : ~s;
        case 's':
        case 'S':
          range('\t', '\r');
          s.set(' ');
          return escaped == 's' ? s : ~s;
        case 'n':
          return s.set('\n');
        case 'r':
          return s.set('\r');
        case 't':
          return s.set('\t');
        case 'x': {
          const int high = digit();
          return s.set(static_cast<std::size_t>(16 * high + digit()));
        }
        default:
          if (escaped == '\0' || (escaped >= '0' && escaped <= '9') ||
              ((escaped | 32) >= 'a' && (escaped | 32) <= 'z')) {
            --at;
            refuse("a backslash before what it does not change");
          }
          return s.set(static_cast<unsigned char>(escaped));
      }
    }
    int digit() {
      const char c = more() ? text[at++] : '\0';
      if (c >= '0' && c <= '9') {
        return c - '0';
      }
      if ((c | 32) >= 'a' && (c | 32) <= 'f') {
        return (c | 32) - 'a' + 10;
      }
      refuse("no hexadecimal digit before");
    }

    std::int32_t add(node n) {
      if (nodes.size() >= limit) {
        refuse("more than 100,000 states needed");
      }
      nodes.push_back(n);
      return static_cast<std::int32_t>(nodes.size()) - 1;
    }
    /// The part of the automaton that reads `e` and goes on at `next`; returns where it begins.
    std::int32_t build(const expression& e, std::int32_t next) {
      if (++work > most_work) {
        refuse("too many repetitions");
      }
      switch (e.is) {
        case expression::kind::bytes:
          return add({.reads = true, .on = e.on, .to = next});
        case expression::kind::sequence:
          for (std::size_t i = e.parts.size(); i-- > 0;) {
            next = build(e.parts[i], next);
          }
          return next;
        case expression::kind::either: {
          std::int32_t begin = build(e.parts[0], next);
          for (std::size_t i = 1; i < e.parts.size(); ++i) {
            begin = add({.to = build(e.parts[i], next), .other = begin});
          }
          return begin;
        }
        case expression::kind::repeat:
          break;
      }
      std::int32_t begin = next;
      if (e.most < 0) {
        begin = add({.other = next});
        const std::int32_t body = build(e.parts[0], begin);
        nodes[static_cast<std::size_t>(begin)].to = body;
      }
      for (int i = e.least; i < e.most; ++i) {
        begin = add({.to = build(e.parts[0], begin), .other = next});
      }
      for (int i = 0; i < e.least; ++i) {
        begin = build(e.parts[0], begin);
      }
      return begin;
    }
  };

  /// For each byte the lowest that every node takes alike: what one leads to, the other does.
  static std::array<std::size_t, 256> lowest_alike(const std::vector<node>& nodes) {
    std::vector<byte_set> classes{~byte_set()};
    for (const node& n : nodes) {
      const std::size_t count = n.reads ? classes.size() : 0;
      for (std::size_t c = 0; c < count; ++c) {
        const byte_set in = classes[c] & n.on;
        if (in.any() && in != classes[c]) {
          classes.push_back(classes[c] & ~in);
          classes[c] = in;
        }
      }
    }
    std::array<std::size_t, 256> lowest{};
    for (const byte_set& c : classes) {
      const std::size_t first = parser::first(c);
      for (std::size_t byte = first; byte < 256; ++byte) {
        lowest[byte] = c[byte] ? first : lowest[byte];
      }
    }
    return lowest;
  }

  /// The nodes that can be reached from `from` without a byte, in order.
  static std::vector<std::int32_t> closure(const std::vector<node>& nodes,
                                           std::vector<std::int32_t> from) {
    std::vector<bool> seen(nodes.size());
    std::vector<std::int32_t> found;
    while (!from.empty()) {
      const std::int32_t here = from.back();
      from.pop_back();
      if (here < 0 || seen[static_cast<std::size_t>(here)]) {
        continue;
      }
      seen[static_cast<std::size_t>(here)] = true;
      const node& n = nodes[static_cast<std::size_t>(here)];
      if (n.reads) {
        found.push_back(here);
      } else {
        from.insert(from.end(), {n.to, n.other});
      }
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  void determine(const parser& read, std::int32_t begin, std::int32_t end) {
    std::map<std::vector<std::int32_t>, state> known;
    std::vector<std::vector<std::int32_t>> sets;
    std::size_t listed = 0;
    const auto number = [&](std::vector<std::int32_t> from) {
      auto set = closure(read.nodes, std::move(from));
      if (set.empty()) {
        return dead;
      }
      const auto [at, fresh] = known.try_emplace(set, static_cast<state>(sets.size()));
      if (fresh) {
        listed += set.size();
        if (sets.size() >= limit || listed > most_listed) {
          read.refuse("more than 100,000 states needed, or too large ones");
        }
        accepting_.push_back(std::ranges::binary_search(set, end));
        sets.push_back(std::move(set));
      }
      return at->second;
    };
    start_ = number({begin});
    const auto alike = lowest_alike(read.nodes);
    for (std::size_t s = 0; s < sets.size(); ++s) {
      std::array<state, 256> row;
      std::map<std::vector<std::int32_t>, state> targets;  // many bytes lead to the same nodes
      for (std::size_t byte = 0; byte < 256; ++byte) {
        if (alike[byte] != byte) {
          row[byte] = row[alike[byte]];
          continue;
        }
        std::vector<std::int32_t> to;
        for (const std::int32_t index : sets[s]) {
          const node& n = read.nodes[static_cast<std::size_t>(index)];
          if (n.on[byte]) {
            to.push_back(n.to);
          }
        }
        const auto [at, fresh] = targets.try_emplace(to, dead);
        if (fresh) {
          at->second = number(to);
        }
        row[byte] = at->second;
      }
      next_.push_back(row);
    }
  }

  /// A state from which no text matches becomes `dead`.
  void forget_dead_ends() {
    std::vector<bool> alive = accepting_;
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t s = next_.size(); s-- > 0;) {
        if (!alive[s] && std::ranges::any_of(next_[s], [&alive](state to) {
              return to != dead && alive[static_cast<std::size_t>(to)];
            })) {
          alive[s] = changed = true;
        }
      }
    }
    const auto live = [&alive](state s) {
      return s != dead && alive[static_cast<std::size_t>(s)] ? s : dead;
    };
    for (auto& row : next_) {
      std::ranges::transform(row, row.begin(), live);
    }
    start_ = live(start_);
  }

  std::vector<std::array<state, 256>> next_;
  std::vector<bool> accepting_;
  state start_ = dead;
};

}  // namespace ashlar::serve

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/core/error.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/ops.hpp"

/// Which rule answers each operator on a chip: what is its own, and what it owes to others.
namespace ashlar {

/// One operator on one chip.
struct coverage_row {
  std::string_view name;   ///< of the operator's type, as in `ops::linear_bias`
  found how;               ///< the rule that answers it
  std::string_view where;  ///< the chip on which it happens; empty where nothing answers
};

namespace detail {
template <class T, std::size_t N>
constexpr const T& named(const std::array<T, N>& all, std::string_view name,
                         std::string_view T::*of) {
  const auto at = std::ranges::find(all, name, of);
  if (at == all.end()) {
    throw argument_error("ashlar::dispatch::coverage", "there is no " + std::string(name));
  }
  return *at;
}
}  // namespace detail

/// All operators on one chip, or under one key, as a value:
/// `static_assert(table.count(found::missing) == 0)`.
template <std::size_t N>
struct coverage_table {
  std::string_view chip;  ///< or the key
  std::array<coverage_row, N> rows{};

  [[nodiscard]] constexpr std::size_t count(found how) const {
    return static_cast<std::size_t>(
        std::ranges::count(rows, how, [](const coverage_row& r) { return r.how; }));
  }
  /// Throws: `argument_error` where no operator has that name.
  [[nodiscard]] constexpr const coverage_row& operator[](std::string_view name) const {
    return detail::named(rows, name, &coverage_row::name);
  }
  /// A line for each rule and chip that answer any: the rule, how many, which.
  [[nodiscard]] std::string text() const;
};

/// A table for each key of a stack.
template <std::size_t Keys, std::size_t N>
struct stack_coverage {
  std::array<coverage_table<N>, Keys> tables{};

  /// Throws: `argument_error` where no key has that name.
  [[nodiscard]] constexpr const coverage_table<N>& operator[](std::string_view key) const {
    return detail::named(tables, key, &coverage_table<N>::chip);
  }
  /// The text of all tables, one after the other.
  [[nodiscard]] std::string text() const {
    std::string all;
    for (const coverage_table<N>& t : tables) {
      all += t.text();
    }
    return all;
  }
};
template <std::size_t Keys, std::size_t N>
stack_coverage(std::array<coverage_table<N>, Keys>) -> stack_coverage<Keys, N>;

namespace detail {

/// The last name of a type: `add` of `ashlar::ops::add`, `cast<float>` with what stands in
/// brackets.
template <class T>
constexpr std::string_view short_name() {
  constexpr std::string_view full = readable<T>();
  const std::size_t end = std::min(full.find('<'), full.size());
  const std::size_t colon = full.substr(0, end).rfind(':');
  return colon == std::string_view::npos ? full : full.substr(colon + 1);
}

constexpr std::string_view rule_text(found how) {
  switch (how) {
    case found::direct:
      return "own kernel";
    case found::view:
      return "view";
    case found::tile:
      return "tile program";
    case found::decomposition:
      return "decomposition";
    case found::composite:
      return "composite";
    case found::fallback:
      return "fallback";
    case found::fallthrough:
      return "passes by";
    default:
      return "missing";
  }
}

template <class Op, class Chip>
constexpr coverage_row row_of() {
  constexpr found rule = ashlar::rule<Op, keys::backend<Chip>>();
  constexpr found how = rule == found::fallthrough ? found::missing : rule;
  if constexpr (how == found::missing) {
    return {short_name<Op>(), how, {}};
  } else if constexpr (how == found::fallback && requires { typename Chip::falls_back_to; }) {
    constexpr coverage_row there = row_of<Op, typename Chip::falls_back_to>();
    return {there.name, there.how == found::missing ? there.how : how, there.where};
  } else if constexpr (how == found::fallback) {
    return {short_name<Op>(), how, "elsewhere"};  // a fallback that the user wrote
  } else {
    return {short_name<Op>(), how, Chip::description.name};
  }
}

template <class Chip, class... Op>
constexpr auto table_of(ops::operators<Op...>) {
  return coverage_table<sizeof...(Op)>{Chip::description.name, {row_of<Op, Chip>()...}};
}

template <class Key, class List>
struct table_under;
template <class Key, class... Op>
struct table_under<Key, ops::operators<Op...>> {
  static constexpr coverage_table<sizeof...(Op)> value{
      short_name<Key>(),
      {coverage_row{
          short_name<Op>(), rule<Op, Key>(),
          rule<Op, Key>() == found::missing ? std::string_view() : short_name<Key>()}...}};
};
template <BackendKey Key, class... Op>
struct table_under<Key, ops::operators<Op...>> {
  static constexpr auto value = table_of<typename Key::chip>(ops::operators<Op...>{});
};

template <class List, class... Key>
constexpr auto tables_under(key_set<Key...>) {
  return stack_coverage{std::array{table_under<Key, List>::value...}};
}

}  // namespace detail

namespace dispatch {

/// The rule for each operator of `List`: on a chip, one `coverage_table`; of a stack, one for each
/// of its keys, the highest key first.
///
/// What it says is about operators as a whole: a kernel may still lack an element type, and a
/// composite is as good as its parts, which have rows of their own. Under a key that is no backend
/// `direct` is a kernel of its own for the operator (the tape's records it), `fallback` the one
/// that it has for all others, and what passes by has none. Requires: what the chip's header
/// includes is included, `ashlar/ops/tile.hpp` for tile programs.
template <class ChipOrStack, class List = ops::all>
constexpr auto coverage() {
  if constexpr (requires { typename ChipOrStack::chip::memory; }) {
    return detail::tables_under<List>(typename ChipOrStack::keys{});
  } else {
    return detail::table_of<ChipOrStack>(List{});
  }
}

}  // namespace dispatch

template <std::size_t N>
std::string coverage_table<N>::text() const {
  constexpr std::size_t first_column = 22;
  constexpr std::size_t width = 100;
  std::string all = std::string(chip) + ": " + std::to_string(N) + " operators\n";
  const auto write = [&](const coverage_row& first) {
    const auto is_like = [&](const coverage_row& r) {
      return r.how == first.how && r.where == first.where;
    };
    if (&*std::ranges::find_if(rows, is_like) != &first) {
      return;  // written with the first of its kind
    }
    std::string line = std::to_string(std::ranges::count_if(rows, is_like));
    line.append(1, ' ').append(detail::rule_text(first.how));
    if (first.how == found::fallback && first.where != chip) {
      line.append(" to ").append(first.where);
    }
    line.resize(std::max(line.size() + 1, first_column), ' ');
    for (const coverage_row& r : rows) {
      if (!is_like(r)) {
        continue;
      }
      if (line.size() + r.name.size() > width) {
        line.back() = '\n';
        all += line;
        line.assign(first_column, ' ');
      }
      line.append(r.name).append(1, ' ');
    }
    line.back() = '\n';
    all += line;
  };
  for (const found how : {found::direct, found::tile, found::decomposition, found::composite,
                          found::view, found::fallback, found::fallthrough, found::missing}) {
    for (const coverage_row& r : rows) {
      if (r.how == how) {
        write(r);
      }
    }
  }
  return all;
}

}  // namespace ashlar

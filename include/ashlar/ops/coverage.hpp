// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

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

/// All operators on one chip, as a value: `static_assert(table.count(found::missing) == 0)`.
template <std::size_t N>
struct coverage_table {
  std::string_view chip;
  std::array<coverage_row, N> rows{};

  [[nodiscard]] constexpr std::size_t count(found how) const {
    return static_cast<std::size_t>(
        std::ranges::count(rows, how, [](const coverage_row& r) { return r.how; }));
  }
  /// Requires: an operator of that name.
  [[nodiscard]] constexpr const coverage_row& operator[](std::string_view name) const {
    return *std::ranges::find(rows, name, &coverage_row::name);
  }
  /// A line for each rule that answers any: the rule, how many, which.
  [[nodiscard]] std::string text() const;
};

namespace detail {

/// The last name of a type: `add` of `ashlar::ops::add`, `cast<float>` with what stands in
/// brackets.
template <class T>
constexpr std::string_view short_name() {
  constexpr std::string_view whole = type_name<T>();
  constexpr std::string_view key = "T = ";
  const std::size_t first = whole.find(key) + key.size();
  const std::string_view full = whole.substr(first, whole.find_first_of(";]", first) - first);
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
    case found::composite:
      return "composite";
    case found::fallback:
      return "fallback";
    default:
      return "missing";
  }
}

template <class Chip>
constexpr std::string_view fallback_name() {
  if constexpr (requires { typename Chip::falls_back_to; }) {
    return Chip::falls_back_to::description.name;
  } else {
    return "elsewhere";  // a fallback that the user wrote
  }
}

template <class Op, class Chip>
constexpr coverage_row row_of() {
  constexpr found rule = ashlar::rule<Op, keys::backend<Chip>>();
  constexpr found how = rule == found::fallthrough ? found::missing : rule;
  if constexpr (how == found::missing) {
    return {short_name<Op>(), how, {}};
  } else if constexpr (how == found::fallback) {
    return {short_name<Op>(), how, fallback_name<Chip>()};
  } else {
    return {short_name<Op>(), how, Chip::description.name};
  }
}

template <class Chip, class... Op>
constexpr auto table_of(ops::operators<Op...>) {
  return coverage_table<sizeof...(Op)>{Chip::description.name, {row_of<Op, Chip>()...}};
}

template <class T>
struct chip_in {
  using type = T;
};
template <class Stack>
  requires requires { typename Stack::chip::memory; }
struct chip_in<Stack> {
  using type = typename Stack::chip;
};

}  // namespace detail

/// The rule for each operator of `List` on a chip, or on the chip of a stack.
///
/// What it says is about operators as a whole: a kernel may still lack an element type.
/// Requires: what the chip's header includes is included, `ashlar/ops/tile.hpp` for tile programs.
template <class ChipOrStack, class List = ops::all>
constexpr auto coverage() {
  return detail::table_of<typename detail::chip_in<ChipOrStack>::type>(List{});
}

template <std::size_t N>
std::string coverage_table<N>::text() const {
  constexpr std::size_t first_column = 22;
  constexpr std::size_t width = 100;
  std::string all = std::string(chip) + ": " + std::to_string(N) + " operators\n";
  for (const found how : {found::direct, found::tile, found::composite, found::view,
                          found::fallback, found::missing}) {
    const std::size_t n = count(how);
    if (n == 0) {
      continue;
    }
    std::string line = std::to_string(n) + ' ' + std::string(detail::rule_text(how));
    bool begun = false;
    for (const coverage_row& r : rows) {
      if (r.how != how) {
        continue;
      }
      if (!begun) {
        line += how == found::fallback ? " to " + std::string(r.where) : std::string();
        line.resize(std::max(line.size() + 1, first_column), ' ');
        begun = true;
      } else if (line.size() + 1 + r.name.size() > width) {
        all += line + '\n';
        line.assign(first_column, ' ');
      } else {
        line += ' ';
      }
      line += r.name;
    }
    all += line + '\n';
  }
  return all;
}

}  // namespace ashlar

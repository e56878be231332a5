// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

/// Numbers that depend on sizes, found from what they are at some sizes.
namespace ashlar::graph {

/// The sizes of one capture, in the order of the symbols.
using sizes = std::vector<std::int64_t>;

/// A product of sizes: the power of each.
using powers = std::vector<int>;

[[nodiscard]] inline std::int64_t product(const powers& p, std::span<const std::int64_t> at) {
  std::int64_t all = 1;
  for (std::size_t i = 0; i < p.size(); ++i) {
    for (int k = 0; k < p[i]; ++k) {
      if (__builtin_mul_overflow(all, at[i], &all)) {
        throw argument_error("ashlar::graph::expression",
                             "a product of sizes is more than 2^63 - 1; give smaller sizes");
      }
    }
  }
  return all;
}

/// A sum of products of sizes, or a real number over or times a product.
struct expression {
  struct term {
    std::int64_t factor = 0;
    powers of{};
  };
  std::vector<term> terms{};  ///< their sum is the number
  /// Of a real number: it is `real` times the sum, or over it.
  std::optional<double> real{};
  bool over = false;

  [[nodiscard]] std::int64_t whole(std::span<const std::int64_t> at) const {
    std::int64_t sum = 0;
    for (const term& t : terms) {
      sum += t.factor * product(t.of, at);
    }
    return sum;
  }
  [[nodiscard]] double value(std::span<const std::int64_t> at) const {
    const auto n = static_cast<double>(whole(at));
    return !real ? n : over ? *real / n : *real * n;
  }

  /// `3*T + -1`, `1/(4*T)`
  [[nodiscard]] std::string text(std::span<const std::string> names) const {
    std::string sum;
    for (const term& t : terms) {
      std::string one;
      for (std::size_t i = 0; i < t.of.size(); ++i) {
        for (int k = 0; k < t.of[i]; ++k) {
          one += (one.empty() ? "" : "*") + names[i];
        }
      }
      if (one.empty()) {
        one = std::to_string(t.factor);
      } else if (t.factor != 1) {
        one = std::to_string(t.factor) + "*" + one;
      }
      sum += (sum.empty() ? "" : " + ") + one;
    }
    if (real && (over || *real != 1)) {
      std::string factor = std::to_string(*real);
      factor.erase(factor.find_last_not_of('0') + 1);
      factor.erase(factor.find_last_not_of('.') + 1);
      sum = factor + (over ? "/(" : "*(") + sum + ")";
    }
    return sum;
  }
};

namespace detail {

inline constexpr int highest_power = 3;

/// Calls `f` for products of up to `highest_power` sizes, the constant first, until it says yes.
template <class F>
bool any_product(std::size_t symbols, const F& f) {
  powers p(symbols);
  for (int total = 0; total <= highest_power; ++total) {
    const auto fill = [&](const auto& self, std::size_t i, int left) -> bool {
      if (i + 1 == symbols) {
        p[i] = left;
        return f(std::as_const(p));
      }
      for (int k = 0; k <= left; ++k) {
        p[i] = k;
        if (self(self, i + 1, left - k)) {
          return true;
        }
      }
      return false;
    };
    if (symbols == 0 ? f(std::as_const(p)) : fill(fill, 0, total)) {
      return true;
    }
  }
  return false;
}

}  // namespace detail

/// The expression that is `is[i]` at `at[i]`: a constant, a number and a multiple of each size, or
/// a multiple of a product of sizes.
///
/// Requires: `at[0]` is where the others differ from: for each size there are places that differ
///           from it in that size alone.
[[nodiscard]] inline std::optional<expression> fit(std::span<const sizes> at,
                                                   std::span<const std::int64_t> is) {
  const std::size_t symbols = at[0].size();
  const auto holds = [&](const expression& e) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (e.whole(at[i]) != is[i]) {
        return false;
      }
    }
    return true;
  };
  expression sum;
  std::int64_t rest = is[0];
  for (std::size_t s = 0; s < symbols; ++s) {
    for (std::size_t i = 1; i < at.size(); ++i) {
      bool alone = at[i][s] != at[0][s];
      for (std::size_t k = 0; k < symbols; ++k) {
        alone = alone && (k == s || at[i][k] == at[0][k]);
      }
      if (alone && is[i] != is[0]) {
        const std::int64_t slope = (is[i] - is[0]) / (at[i][s] - at[0][s]);
        powers one(symbols);
        one[s] = 1;
        sum.terms.push_back({slope, std::move(one)});
        rest -= slope * at[0][s];
        break;
      }
    }
  }
  if (rest != 0 || sum.terms.empty()) {
    sum.terms.push_back({rest, powers(symbols)});
  }
  if (holds(sum)) {
    return sum;
  }
  expression found;
  if (detail::any_product(symbols, [&](const powers& p) {
        const std::int64_t n = product(p, at[0]);
        found = {.terms = {{n == 0 ? 0 : is[0] / n, p}}};
        return holds(found);
      })) {
    return found;
  }
  return std::nullopt;
}

/// The same for a real number: a multiple of a product, a whole number over a product, or one over
/// a multiple of it; bit for bit.
[[nodiscard]] inline std::optional<expression> fit(std::span<const sizes> at,
                                                   std::span<const double> is) {
  const auto holds = [&](const expression& e) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (e.value(at[i]) != is[i]) {
        return false;
      }
    }
    return true;
  };
  expression found;
  const auto fits = [&](const powers& p) {
    const auto n = static_cast<double>(product(p, at[0]));
    if (n == 0) {
      return false;
    }
    found = {.terms = {{1, p}}, .real = is[0] / n};
    if (holds(found)) {
      return true;
    }
    found = {.terms = {{1, p}}, .real = std::nearbyint(is[0] * n), .over = true};
    if (holds(found)) {
      return true;
    }
    const double k = std::nearbyint(1 / (is[0] * n));
    if (!(std::abs(k) < 9e15)) {
      return false;
    }
    found = {.terms = {{static_cast<std::int64_t>(k), p}}, .real = 1, .over = true};
    return holds(found);
  };
  if (detail::any_product(at[0].size(), fits)) {
    return found;
  }
  return std::nullopt;
}

}  // namespace ashlar::graph

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <source_location>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/passes/common_subexpressions.hpp"
#include "ashlar/graph/passes/dead_code.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/passes/functionalise.hpp"
#include "ashlar/graph/passes/simplify.hpp"
#include "ashlar/graph/print.hpp"

namespace ashlar::graph {

/// A pass that failed, or made a graph that breaks a rule.
struct pass_error final : error {
  std::string pass;
  std::string reason;

  pass_error(std::string which, std::string why,
             std::source_location at = std::source_location::current())
      : error(at), pass(std::move(which)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::graph::pass_manager: pass " + pass + ": " + reason;
  }
};

/// What one run of one pass did.
struct pass_report {
  std::string name;
  std::size_t nodes_before = 0, nodes_after = 0;
  bool changed = false;
  std::chrono::nanoseconds time{};
  std::vector<std::string> diff{};  ///< lines of the text: `- ` gone, `+ ` new
};

/// Whether two graphs have the same nodes in the same places.
[[nodiscard]] inline bool is_same(const graph& a, const graph& b) {
  return a.outputs == b.outputs &&
         std::equal(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(),
                    [](const node& m, const node& n) {
                      return m.kind == n.kind && m.op == n.op && m.in == n.in && m.out == n.out &&
                             m.attributes == n.attributes && m.data.body() == n.data.body();
                    });
}

namespace detail {

[[nodiscard]] inline std::vector<std::string> lines_of(const graph& g) {
  std::istringstream text(to_text(g));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    lines.push_back(line);
  }
  return lines;
}

/// The lines that go and come, by a longest common subsequence.
[[nodiscard]] inline std::vector<std::string> difference(const std::vector<std::string>& a,
                                                         const std::vector<std::string>& b) {
  std::size_t first = 0;
  while (first < a.size() && first < b.size() && a[first] == b[first]) {
    ++first;
  }
  const std::size_t m = a.size() - first;
  const std::size_t n = b.size() - first;
  std::vector<std::uint32_t> common((m + 1) * (n + 1));  // of what is left of both
  const auto at = [&](std::size_t i, std::size_t j) -> std::uint32_t& {
    return common[i * (n + 1) + j];
  };
  for (std::size_t i = m; i-- > 0;) {
    for (std::size_t j = n; j-- > 0;) {
      at(i, j) = a[first + i] == b[first + j] ? at(i + 1, j + 1) + 1
                                              : std::max(at(i + 1, j), at(i, j + 1));
    }
  }
  std::vector<std::string> lines;
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < m || j < n) {
    if (i < m && j < n && a[first + i] == b[first + j]) {
      ++i;
      ++j;
    } else if (i < m && (j == n || at(i + 1, j) >= at(i, j + 1))) {
      lines.push_back("- " + a[first + i++]);
    } else {
      lines.push_back("+ " + b[first + j++]);
    }
  }
  return lines;
}

}  // namespace detail

/// Passes in order, each followed by `verify`.
///
/// A pass is any function from a graph to a graph. Copying a graph
/// copies no elements.
class pass_manager {
 public:
  using pass = std::function<graph(const graph&)>;

  pass_manager& add(std::string name, pass run) {
    passes_.emplace_back(std::move(name), std::move(run));
    return *this;
  }
  /// All passes again and again until none changes the graph, at most so many times.
  pass_manager& until_unchanged(int most_rounds = 8) {
    rounds_ = most_rounds;
    return *this;
  }
  /// Whether reports say which nodes went and came: quadratic in the number of nodes.
  pass_manager& with_diffs(bool wanted = true) {
    diffs_ = wanted;
    return *this;
  }

  /// Effects: appends a report for each run of a pass to `reports`, where that is given.
  /// Throws: `pass_error` that names the pass, where one throws or breaks a rule of `verify`.
  [[nodiscard]] graph run(graph g, std::vector<pass_report>* reports = nullptr) const {
    for (int round = 0; round < rounds_; ++round) {
      bool changed = false;
      for (const auto& [name, apply] : passes_) {
        const auto start = std::chrono::steady_clock::now();
        graph now;
        try {
          now = apply(g);
          verify(now);
        } catch (const std::exception& e) {
          throw pass_error(name, e.what());
        }
        const auto time = std::chrono::steady_clock::now() - start;
        const bool differs = !is_same(g, now);
        changed = changed || differs;
        if (reports != nullptr) {
          reports->push_back(
              {.name = name,
               .nodes_before = g.nodes.size(),
               .nodes_after = now.nodes.size(),
               .changed = differs,
               .time = time,
               .diff = diffs_ ? detail::difference(detail::lines_of(g), detail::lines_of(now))
                              : std::vector<std::string>{}});
        }
        g = std::move(now);
      }
      if (!changed) {
        break;
      }
    }
    return g;
  }

 private:
  std::vector<std::pair<std::string, pass>> passes_;
  int rounds_ = 1;
  bool diffs_ = false;
};

/// The passes that help any backend and change no bit: in-place calls become functional, then
/// whatever is superfluous goes.
[[nodiscard]] inline pass_manager standard_passes() {
  pass_manager all;
  all.add("functionalise", functionalise)
      .add("simplify", simplify)
      .add("common_subexpressions", common_subexpressions)
      .add("fold_constants", [](const graph& g) { return fold_constants(g); })
      .add("dead_code", dead_code);
  return all;
}

/// A table: pass, nodes before and after, microseconds.
[[nodiscard]] inline std::string to_text(const std::vector<pass_report>& reports) {
  const auto column = [](std::string text, std::size_t width) {
    text.insert(0, text.size() < width ? width - text.size() : 0, ' ');
    return text;
  };
  std::string all = "pass                       before   after      us\n";
  for (const pass_report& r : reports) {
    std::string line = r.name;
    line.resize(std::max<std::size_t>(line.size() + 1, 25), ' ');
    line += column(std::to_string(r.nodes_before), 8) + column(std::to_string(r.nodes_after), 8) +
            column(std::to_string(r.time.count() / 1000), 8) + "\n";
    all += line;
    for (const std::string& d : r.diff) {
      all += "  " + d + "\n";
    }
  }
  return all;
}

}  // namespace ashlar::graph

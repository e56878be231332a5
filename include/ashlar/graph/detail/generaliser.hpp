// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/graph/expression.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/symbolic_graph.hpp"

/// How captures at several sizes become one graph.
namespace ashlar::graph {

namespace detail {

/// How two graphs differ beside attributes and shapes, if they do.
[[nodiscard]] inline std::optional<std::string> structural_difference(const graph& a,
                                                                      const graph& b) {
  const auto named = [](std::size_t i, const node& n) {
    return "node " + std::to_string(i) +
           (n.op             ? " (" + std::string(n.op->name) + ")"
            : n.name.empty() ? ""
                             : " " + n.name);
  };
  const std::size_t common = std::min(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < common; ++i) {
    const node& x = a.nodes[i];
    const node& y = b.nodes[i];
    if (x.kind != y.kind || x.op != y.op) {
      return named(i, x) + " is " + named(i, y);
    }
    if (x.in != y.in) {
      return named(i, x) + " has other arguments";
    }
    if (x.data && &x.data.body()->root() != &y.data.body()->root()) {
      return named(i, x) +
             " is made anew in each capture; make it once outside, or with the arguments' type";
    }
    if (x.data && x.data.spec() != y.data.spec()) {
      return named(i, x) + " is " + to_string(x.data.shape()) + " and " + to_string(y.data.shape());
    }
  }
  if (a.nodes.size() != b.nodes.size()) {
    return "there are " + std::to_string(a.nodes.size()) + " nodes and " +
           std::to_string(b.nodes.size());
  }
  if (a.outputs != b.outputs) {
    return "other values come out";
  }
  return std::nullopt;
}

/// Makes one graph of several captures.
class generaliser {
 public:
  using capture_at = std::function<graph(const sizes&)>;

  generaliser(capture_at take, std::vector<symbol> all, sizes base)
      : take_(std::move(take)), base_(std::move(base)) {
    made_.symbols = std::move(all);
    made_.base = take_(base_);
  }
  symbolic_graph run() && {
    while (!attempt()) {
    }
    return std::move(made_);
  }

 private:
  /// A capture that differs: which symbol is to blame, and how.
  struct difference {
    std::size_t symbol;
    std::string how;
  };

  bool attempt() {
    made_.attributes.clear();
    points_ = {base_};
    graphs_ = {made_.base};
    std::vector<std::size_t> blamed{0};
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      for (const std::int64_t n : near(s)) {
        sizes there = base_;
        there[s] = n;
        points_.push_back(std::move(there));
        blamed.push_back(s);
      }
    }
    if (blamed.size() > 1 && blamed.back() != blamed[1]) {  // products show where both differ
      points_.push_back(beside());
      blamed.push_back(blamed.back());
    }
    for (std::size_t i = 1; i < points_.size(); ++i) {
      std::string how;
      if (!captured(points_[i], how)) {
        return give_up(blamed[i], how);
      }
    }
    for (std::size_t n = 0; n < made_.base.nodes.size(); ++n) {
      for (std::size_t a = 0; a < made_.base.nodes[n].attributes.size(); ++a) {
        for (std::size_t i = 1; i < points_.size(); ++i) {
          if (!(graphs_[i].nodes[n].attributes[a] == made_.base.nodes[n].attributes[a])) {
            if (!fit_attribute(n, a)) {
              return give_up(blamed[i], text_of(n, a) + " fits no expression of sizes");
            }
            break;
          }
        }
      }
    }
    return check_ends();
  }

  /// Two sizes beside the example's, which differ in their divisors.
  [[nodiscard]] std::vector<std::int64_t> near(std::size_t s) const {
    std::vector<std::int64_t> found;
    for (const std::int64_t step : {1, 3, 2, -1, -2}) {
      const std::int64_t n = base_[s] + step;
      if (found.size() < 2 && n >= made_.symbols[s].least && n <= made_.symbols[s].most) {
        found.push_back(n);
      }
    }
    return found;
  }
  /// All sizes others than the example's.
  [[nodiscard]] sizes beside() const {
    sizes there = base_;
    for (std::size_t s = 0; s < there.size(); ++s) {
      const std::vector<std::int64_t> all = near(s);
      there[s] = all.empty() ? there[s] : all[0];
    }
    return there;
  }
  /// Adds the capture at some sizes where it has the same calls.
  bool captured(const sizes& there, std::string& how) {
    try {
      graph g = take_(there);
      if (auto different = structural_difference(made_.base, g)) {
        how = std::move(*different);
        return false;
      }
      graphs_.push_back(std::move(g));
      return true;
    } catch (const std::exception& e) {
      how = e.what();
      return false;
    }
  }
  bool fit_attribute(std::size_t n, std::size_t a) {
    const auto each = [&](const auto& get) {
      std::vector<decltype(get(attribute()))> is;
      for (const graph& g : graphs_) {
        is.push_back(get(g.nodes[n].attributes[a]));
      }
      return is;
    };
    const auto keep = [&](int extent, std::optional<expression> e) {
      if (e) {
        made_.attributes.push_back({n, a, extent, std::move(*e)});
      }
      return e.has_value();
    };
    switch (made_.base.nodes[n].attributes[a].what()) {
      case attribute::kind::integer:
        return keep(-1,
                    fit(points_, each([](const attribute& x) { return x.as<std::int64_t>(); })));
      case attribute::kind::real:
        return keep(-1, fit(points_, each([](const attribute& x) { return x.as<double>(); })));
      case attribute::kind::extents: {
        const std::vector<shape> is = each([](const attribute& x) { return x.as<shape>(); });
        bool all = std::all_of(is.begin(), is.end(),
                               [&](const shape& x) { return x.rank() == is[0].rank(); });
        for (int k = 0; all && k < is[0].rank(); ++k) {
          std::vector<std::int64_t> extent;
          std::transform(is.begin(), is.end(), std::back_inserter(extent),
                         [&](const shape& x) { return x[k]; });
          if (std::any_of(extent.begin(), extent.end(),
                          [&](std::int64_t x) { return x != extent[0]; })) {
            all = keep(k, fit(points_, extent));
          }
        }
        return all;
      }
      default:
        return false;
    }
  }
  [[nodiscard]] std::string text_of(std::size_t n, std::size_t a) const {
    return "attribute " + std::to_string(a) + " of node " + std::to_string(n) + " (" +
           std::string(made_.base.nodes[n].op->name) + ")";
  }

  /// How the capture at some sizes differs from what the expressions say.
  [[nodiscard]] std::optional<std::string> differs(const sizes& there) const {
    try {
      const graph g = take_(there);
      if (auto how = structural_difference(made_.base, g)) {
        return how;
      }
      for (std::size_t n = 0; n < g.nodes.size(); ++n) {
        const std::vector<attribute> said = made_.attributes_of(n, there);
        for (std::size_t a = 0; a < said.size(); ++a) {
          if (!(said[a] == g.nodes[n].attributes[a])) {
            return text_of(n, a) + " is something else";
          }
        }
      }
      return std::nullopt;
    } catch (const std::exception& e) {
      return e.what();
    }
  }

  /// Sizes that are far away; where the graph is not for those, the range is as wide as can be.
  bool check_ends() {
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      symbol& here = made_.symbols[s];
      const symbol asked = here;
      std::string because;
      here.least = last_that_agrees(s, here.least, because);
      here.most = last_that_agrees(s, here.most, because);
      if (here.least != asked.least || here.most != asked.most) {
        made_.guards.push_back(
            {here.name + " from " + std::to_string(here.least) + " to " + std::to_string(here.most),
             because});
      }
    }
    sizes least, most;
    for (std::size_t s = 0; s < made_.symbols.size(); ++s) {
      least.push_back(made_.symbols[s].least);
      most.push_back(made_.symbols[s].most);
    }
    for (const sizes& corner : {beside(), least, most}) {
      if (const auto how = differs(corner)) {  // each alone agrees: the sizes depend on each other
        for (std::size_t s = made_.symbols.size(); s-- > 0;) {
          if (made_.symbols[s].least != made_.symbols[s].most) {
            return give_up(s, "with other sizes, " + *how);
          }
        }
      }
    }
    return true;
  }
  /// From the example's size towards `end`, by halves.
  [[nodiscard]] std::int64_t last_that_agrees(std::size_t s, std::int64_t end,
                                              std::string& because) const {
    sizes there = base_;
    there[s] = end;
    auto how = differs(there);
    if (!how) {
      return end;
    }
    std::int64_t good = base_[s];
    while (std::abs(end - good) > 1) {
      there[s] = good + (end - good) / 2;
      if (auto still = differs(there)) {
        end = there[s];
        how = std::move(still);
      } else {
        good = there[s];
      }
    }
    because += (because.empty() ? "" : "; ") + ("at " + std::to_string(end) + ", " + *how);
    return good;
  }
  bool give_up(std::size_t s, const std::string& how) {
    symbol& here = made_.symbols[s];
    std::erase_if(made_.guards,
                  [&](const guard& g) { return g.holds.starts_with(here.name + " "); });
    here.least = here.most = base_[s];
    made_.guards.push_back({here.name + " == " + std::to_string(base_[s]), how});
    return false;
  }

  capture_at take_;
  sizes base_;
  symbolic_graph made_;
  std::vector<sizes> points_;
  std::vector<graph> graphs_;
};

}  // namespace detail

}  // namespace ashlar::graph

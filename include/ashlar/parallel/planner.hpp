// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/parallel/memory_model.hpp"
#include "ashlar/parallel/mesh.hpp"
#include "ashlar/parallel/time_model.hpp"
#include "ashlar/parallel/transformer.hpp"
#include "ashlar/plan/network.hpp"

namespace ashlar::parallel {

/// A layout, what it needs and how long a step takes with it.
struct candidate {
  parallel::layout layout;
  std::int64_t micro_batches = 1;  ///< per replica and step
  memory_use memory;
  step_time time;
};

/// No layout fits: the model, the batch or the memory must change.
struct no_layout final : error {
  int ranks;
  std::size_t examined;  ///< layouts that divide model and batch evenly
  double least_bytes;    ///< what the smallest of them needs per rank
  double memory_bytes;   ///< what a rank has

  no_layout(int on_ranks, std::size_t looked_at, double least, double has,
            std::source_location where = std::source_location::current())
      : error(where), ranks(on_ranks), examined(looked_at), least_bytes(least), memory_bytes(has) {}

 private:
  [[nodiscard]] std::string message() const override {
    if (examined == 0) {
      return "ashlar::parallel::plan: no layout over " + std::to_string(ranks) +
             " ranks divides layers, heads and batch evenly; change one of them";
    }
    return "ashlar::parallel::plan: none of " + std::to_string(examined) + " layouts over " +
           std::to_string(ranks) + " ranks fits: the smallest needs " +
           std::to_string(least_bytes / 1e9) + " GB per rank of " +
           std::to_string(memory_bytes / 1e9) + "; give more ranks or memory";
  }
};

/// What a search over layouts found.
struct planned {
  std::vector<candidate> ranked;  ///< those that fit, the fastest first
  std::size_t examined = 0;
  std::size_t too_large = 0;    ///< of these, the ones that do not fit into memory
  std::size_t slow_tensor = 0;  ///< tensor sizes left out, whose messages would cross slow links
  candidate fastest_too_large;  ///< what more memory would make possible

  [[nodiscard]] const candidate& best() const { return ranked.front(); }
};

/// Calls `visit(layout)` for every layout of a job over so many ranks that divides it evenly.
///
/// Tensor sizes divide the heads; stages divide the layers; micro-batches are powers of two that
/// divide a replica's share. ZeRO-2 and 3, which communicate in every micro-batch, stand without a
/// pipeline only.
template <class Visit>
void for_each_layout(const transformer& m, std::int64_t batch, int ranks, const Visit& visit) {
  for (int t = 1; t <= ranks; ++t) {
    if (ranks % t != 0 || m.heads % t != 0 || m.kv_heads % t != 0 || m.hidden % t != 0) {
      continue;
    }
    for (int p = 1; p <= ranks / t; ++p) {
      const int d = ranks / t / p;
      if (ranks / t % p != 0 || m.layers % p != 0 || batch % d != 0) {
        continue;
      }
      for (std::int64_t b = 1; b <= batch / d && (batch / d) % b == 0; b *= 2) {
        for (const int v : {1, 2, 4}) {
          const std::int64_t micro_batches = batch / d / b;
          if (v > 1 && (p == 1 || m.layers % (p * v) != 0 || micro_batches % p != 0)) {
            continue;
          }
          for (int zero = 0; zero <= (d == 1 ? 0 : p == 1 ? 3 : 1); ++zero) {
            for (const auto again : {recompute::none, recompute::selective, recompute::full}) {
              if (again == recompute::selective && !m.scores_kept) {
                continue;
              }
              for (const bool inside : {false, true}) {
                if (!inside || (p > 1 && d > 1)) {
                  visit(layout{d, t, p, v, static_cast<int>(b), zero, again, true, inside});
                }
              }
            }
          }
        }
      }
    }
  }
}

/// Searches all layouts of a job over the places of a network.
///
/// Tensor parallelism stays where its slowest link has a quarter of the fastest link's bandwidth.
/// Throws: `argument_error` for a batch, an extent of the model or a rate of the chip that is not
///         positive; `no_layout`.
/// Cost:   some microseconds per layout, and for each shape of groups a walk over all routes.
[[nodiscard]] inline planned plan(const training_job& job, const device_rates& chip,
                                  const plan::network& net) {
  if (job.batch < 1) {
    throw argument_error("ashlar::parallel::plan",
                         "a batch of " + std::to_string(job.batch) + " texts; give 1 or more");
  }
  const transformer& m = job.model;
  if (std::min({m.layers, m.width, m.heads, m.kv_heads, m.head_dim, m.hidden, m.vocabulary,
                m.sequence}) < 1) {
    throw argument_error("ashlar::parallel::plan", "a model with an extent below 1");
  }
  if (!(chip.flops > 0) || !(chip.memory_bandwidth > 0)) {  // nor NaN
    throw argument_error("ashlar::parallel::plan", "a chip of " + std::to_string(chip.flops) +
                                                       " operations and " +
                                                       std::to_string(chip.memory_bandwidth) +
                                                       " bytes per second; both must be positive");
  }
  std::map<std::pair<int, int>, plan::group_cost> known;
  const auto group = [&](int stride, int size) -> const plan::group_cost& {
    return known.try_emplace({stride, size}, net, stride, size).first->second;
  };
  planned found;
  double least = 0;
  std::vector<int> slow;
  for_each_layout(job.model, job.batch, net.size(), [&](const layout& l) {
    if (l.tensor > 1 && group(1, l.tensor).neighbours().slowest < least_for_tensor(net)) {
      if (std::ranges::find(slow, l.tensor) == slow.end()) {
        slow.push_back(l.tensor);
      }
      return;
    }
    ++found.examined;
    candidate c{l, job.batch / (static_cast<std::int64_t>(l.data) * l.micro_batch), {}, {}};
    c.memory = memory_of(job.model, job.precision, l, c.micro_batches);
    c.time = step_time_of(job, chip, l, {l, group});
    const double bytes = c.memory.total();
    least = found.examined == 1 ? bytes : std::min(least, bytes);
    if (bytes <= chip.memory_bytes) {
      found.ranked.push_back(c);
    } else if (++found.too_large == 1 || c.time.step < found.fastest_too_large.time.step) {
      found.fastest_too_large = c;
    }
  });
  found.slow_tensor = slow.size();
  if (found.ranked.empty()) {
    throw no_layout(net.size(), found.examined, least, chip.memory_bytes);
  }
  // Equal times: the one that needs less memory.
  std::ranges::stable_sort(found.ranked, [](const candidate& a, const candidate& b) {
    return std::pair(a.time.step, a.memory.total()) < std::pair(b.time.step, b.memory.total());
  });
  return found;
}

/// Returns: the mesh of a layout, in the order in which ranks are numbered.
[[nodiscard]] inline mesh mesh_of(const layout& l) {
  std::vector<mesh::dimension> all = {{axis::pipeline, l.pipeline}, {axis::data, l.data}};
  if (l.pipeline_inside) {
    std::swap(all[0], all[1]);
  }
  all.push_back({axis::tensor, l.tensor});
  return mesh(std::move(all));
}

/// Returns: the first `rows` layouts as a table.
[[nodiscard]] inline std::string to_table(const planned& found, std::size_t rows = 10) {
  std::string text =
      "  step ms  compute  bubble  tensor    data     GB  data x tensor x pipeline\n";
  for (std::size_t i = 0; i < std::min(rows, found.ranked.size()); ++i) {
    const candidate& c = found.ranked[i];
    std::array<char, 96> line{};
    std::snprintf(line.data(), line.size(), "%9.1f %8.1f %7.1f %7.1f %7.1f %6.1f  ",
                  c.time.step * 1e3, c.time.compute * 1e3, c.time.bubble * 1e3, c.time.tensor * 1e3,
                  c.time.data * 1e3, c.memory.total() / 1e9);
    text += line.data() + text_of(c.layout) + "\n";
  }
  return text;
}

/// Returns: why the winner wins: what the best layout of each other shape would lose, and where.
[[nodiscard]] inline std::string explain(const planned& found) {
  const candidate& w = found.best();
  const auto number = [](const char* format, double value) {
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), format, value);
    return std::string(buffer.data());
  };
  std::string text = text_of(w.layout) + " takes " + number("%.1f ms", w.time.step * 1e3) + " in " +
                     number("%.1f GB", w.memory.total() / 1e9) + ", the least of " +
                     std::to_string(found.ranked.size()) + " layouts that fit (" +
                     std::to_string(found.too_large) + " do not).\n";
  const auto against = [&](const char* what, const candidate& c) {
    const std::array<std::pair<const char*, double>, 5> parts = {
        {{"computation", c.time.compute - w.time.compute},
         {"the bubble", c.time.bubble - w.time.bubble},
         {"tensor parallel collectives", c.time.tensor - w.time.tensor},
         {"gradients and parameters", c.time.data - w.time.data},
         {"the optimizer", c.time.optimizer - w.time.optimizer}}};
    const auto& most =
        *std::ranges::max_element(parts, {}, [](const auto& part) { return part.second; });
    text += std::string("  ") + what + ": " + text_of(c.layout) + ", " +
            number("%.1f %% slower", (c.time.step / w.time.step - 1) * 100) + ", most of all by " +
            most.first + " (" + number("%+.1f ms", most.second * 1e3) + ").\n";
  };
  const auto best_where = [&](const char* what, auto holds) {
    const auto at = std::ranges::find_if(found.ranked, holds);
    if (at != found.ranked.end() && at != found.ranked.begin()) {
      against(what, *at);
    }
  };
  const layout& l = w.layout;
  best_where("with less tensor parallelism",
             [&](const candidate& c) { return c.layout.tensor < l.tensor; });
  best_where("with more", [&](const candidate& c) { return c.layout.tensor > l.tensor; });
  best_where("with a shorter pipeline",
             [&](const candidate& c) { return c.layout.pipeline < l.pipeline; });
  best_where("with a longer one",
             [&](const candidate& c) { return c.layout.pipeline > l.pipeline; });
  if (found.too_large > 0 && found.fastest_too_large.time.step < w.time.step) {
    text += "  With " + number("%.1f GB", found.fastest_too_large.memory.total() / 1e9) + ", " +
            text_of(found.fastest_too_large.layout) + " would take " +
            number("%.1f ms", found.fastest_too_large.time.step * 1e3) + ".\n";
  }
  if (found.slow_tensor > 0) {
    text += "  " + std::to_string(found.slow_tensor) +
            " larger tensor sizes would cross links slower than a quarter of the fastest.\n";
  }
  return text;
}

}  // namespace ashlar::parallel

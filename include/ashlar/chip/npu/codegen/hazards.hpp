// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"

/// Which engine has to wait for which, found from the bytes that they touch.
///
/// Engines run on their own; a channel orders one behind another. Two kinds are needed. Within one
/// run of a body, a step that touches what another engine's step wrote, or overwrites what it
/// read, waits for it. From one run to a later one, whoever first touches a buffer waits until
/// everybody is done with what was in it before: `slots` runs ago for a buffer of the region, one
/// run ago for a buffer that lives on outside.
namespace ashlar::chip::npu_codegen {

namespace detail {

class hazard_finder {
 public:
  explicit hazard_finder(chip_program& c)
      : c_(c), touches_(touches_of(c)), sharing_(c.buffers.size()) {
    for (std::size_t a = 0; a < c.buffers.size(); ++a) {
      for (std::size_t b = 0; b < c.buffers.size(); ++b) {
        if (overlap(static_cast<int>(a), static_cast<int>(b))) {
          sharing_[a].push_back(b);
        }
      }
    }
  }

  void run() {
    for (std::size_t r = 0; r < c_.regions.size(); ++r) {
      within(static_cast<int>(r));
      between(static_cast<int>(r));
    }
  }

 private:
  using knowledge =
      std::array<int, isa::max_units>;  // the last step of each engine that is known to be over
  static constexpr knowledge nothing() {
    knowledge k{};
    k.fill(-1);
    return k;
  }
  struct past {  // the last steps that touched a buffer
    knowledge read = nothing(), written = nothing();
  };

  [[nodiscard]] const buffer& at(int b) const { return c_.buffers[static_cast<std::size_t>(b)]; }

  /// Whether two buffers have bytes in common that more than one engine touches.
  [[nodiscard]] bool overlap(int a, int b) const {
    const buffer& x = at(a);
    const buffer& y = at(b);
    if (std::popcount(x.engines | y.engines) < 2) {
      return false;
    }
    if (a == b) {
      return true;
    }
    if (x.slots > 1 || y.slots > 1 || x.address < 0 || y.address < 0) {
      return false;  // slots are nobody else's
    }
    return x.address < y.address + y.bytes && y.address < x.address + x.bytes;
  }

  int semaphore(int depth, int from, int to) {
    // Where engines meet at the borders of regions, no token is on its way when another begins.
    const auto key = std::make_tuple(c_.regions.back().fenced ? 0 : depth, from, to);
    const auto found = shared_.find(key);
    return found != shared_.end() ? found->second : shared_[key] = next_++;
  }

  /// Channels inside one run of the body.
  void within(int r) {
    const region& here = c_.regions[static_cast<std::size_t>(r)];
    const region_touches& all = touches_[static_cast<std::size_t>(r)];
    std::vector<std::array<knowledge, isa::max_units>> after(all.size());
    std::vector<past> pasts(c_.buffers.size());
    std::array<knowledge, isa::max_units> known;
    known.fill(nothing());
    for (std::size_t q = 0; q < all.size(); ++q) {
      const int now = static_cast<int>(q);
      for (int y = 0; y < units_; ++y) {
        const knowledge needed = needs(all[q], y, pasts);
        wait_for({r, here.depth, now, y}, needed, known, after);
      }
      for (const auto& [b, t] : all[q]) {
        past& p = pasts[static_cast<std::size_t>(b)];
        for (int x = 0; x < units_; ++x) {
          const auto u = static_cast<std::size_t>(x);
          p.read[u] = (t.readers >> x & 1u) != 0 ? now : p.read[u];
          p.written[u] = (t.writers >> x & 1u) != 0 ? now : p.written[u];
        }
      }
      if (fenced(here.steps[q])) {  // everybody has met
        for (knowledge& k : known) {
          k.fill(now);
        }
      }
      after[q] = known;
    }
  }

  /// The last step of every other engine that engine `y` of a step has to wait for.
  [[nodiscard]] knowledge needs(const std::vector<std::pair<int, touch>>& step_touches, int y,
                                const std::vector<past>& pasts) const {
    knowledge needed = nothing();
    for (const auto& [b, t] : step_touches) {
      if ((t.engines() >> y & 1u) == 0) {
        continue;
      }
      const bool writes = (t.writers >> y & 1u) != 0;
      for (const std::size_t other : sharing_[static_cast<std::size_t>(b)]) {
        const past& p = pasts[other];
        for (int x = 0; x < units_; ++x) {
          const auto u = static_cast<std::size_t>(x);
          if (x != y) {
            needed[u] = std::max({needed[u], p.written[u], writes ? p.read[u] : -1});
          }
        }
      }
    }
    return needed;
  }

  [[nodiscard]] bool fenced(const step& s) const {
    return s.regions[0] >= 0 && c_.regions[static_cast<std::size_t>(s.regions[0])].fenced;
  }

  struct waiter {
    int region, depth, step, unit;
  };
  void wait_for(const waiter& w, const knowledge& needed,
                std::array<knowledge, isa::max_units>& known,
                const std::vector<std::array<knowledge, isa::max_units>>& after) {
    knowledge& mine = known[static_cast<std::size_t>(w.unit)];
    // The latest first: its engine may itself have waited for the others.
    knowledge left = needed;
    while (true) {
      const auto latest = std::max_element(left.begin(), left.end());
      const int p = *latest;
      if (p < 0) {
        return;
      }
      const auto x = static_cast<std::size_t>(latest - left.begin());
      *latest = -1;
      if (mine[x] >= p) {
        continue;
      }
      const int from = static_cast<int>(x);
      c_.channels.push_back({.region = w.region,
                             .from_unit = from,
                             .to_unit = w.unit,
                             .from = p,
                             .to = w.step,
                             .semaphore = semaphore(w.depth, from, w.unit)});
      mine[x] = p;
      const knowledge& theirs = after[static_cast<std::size_t>(p)][x];
      for (std::size_t k = 0; k < mine.size(); ++k) {
        mine[k] = std::max(mine[k], theirs[k]);
      }
    }
  }

  /// What all steps of a body do to one buffer.
  struct round {
    knowledge first = nothing(), last = nothing();
    unsigned writers = 0;
    unsigned begins = 0;  ///< engines of the first step
  };

  /// One channel for each pair of engines and number of rounds: from the last step to the first.
  void between(int r) {
    const region& here = c_.regions[static_cast<std::size_t>(r)];
    if (here.kind == region_kind::root || here.fenced) {
      return;
    }
    std::map<int, round> rounds;  // of each buffer that several engines touch
    const region_touches& all = touches_[static_cast<std::size_t>(r)];
    for (std::size_t s = 0; s < all.size(); ++s) {
      for (const auto& [b, t] : all[s]) {
        const bool inside = at(b).region != r && detail::is_inside(c_, at(b).region, r);
        const bool outside = at(b).region != r && !inside;
        if (std::popcount(at(b).engines) < 2 || inside ||
            (outside && here.kind != region_kind::loop)) {
          continue;
        }
        round& all_of = rounds[b];
        all_of.begins = all_of.begins == 0 ? t.engines() : all_of.begins;
        all_of.writers |= t.writers;
        for (int x = 0; x < units_; ++x) {
          if ((t.engines() >> x & 1u) != 0) {
            const auto u = static_cast<std::size_t>(x);
            all_of.first[u] = all_of.first[u] < 0 ? static_cast<int>(s) : all_of.first[u];
            all_of.last[u] = static_cast<int>(s);
          }
        }
      }
    }
    std::map<std::tuple<int, int, int>, std::pair<int, int>> found;  // -> (from, to)
    for (const auto& [b, all_of] : rounds) {
      const bool own = at(b).region == r;
      for (int x = 0; x < units_; ++x) {
        for (int y = 0; y < units_; ++y) {
          const int from = all_of.last[static_cast<std::size_t>(x)];
          const int to = all_of.first[static_cast<std::size_t>(y)];
          // Who begins a buffer of the region anew orders everybody else behind itself.
          const bool counts = own ? (all_of.begins >> y & 1u) != 0
                                  : ((all_of.writers >> x | all_of.writers >> y) & 1u) != 0;
          if (x == y || from < 0 || to < 0 || !counts) {
            continue;
          }
          auto& ends = found.try_emplace({x, y, own ? at(b).slots : 1}, from, to).first->second;
          ends = {std::max(ends.first, from), std::min(ends.second, to)};
        }
      }
    }
    for (const auto& [key, ends] : found) {
      c_.channels.push_back({.region = r,
                             .from_unit = std::get<0>(key),
                             .to_unit = std::get<1>(key),
                             .from = ends.first,
                             .to = ends.second,
                             .rounds = std::get<2>(key),
                             .semaphore = next_++});
    }
  }

  chip_program& c_;
  int units_ = isa::first_dma_unit + c_.machine.dma_engines;
  std::vector<region_touches> touches_;
  std::vector<std::vector<std::size_t>> sharing_;  ///< buffers with bytes in common
  std::map<std::tuple<int, int, int>, int> shared_{};
  int next_ = 0;
};

}  // namespace detail

/// Finds the channels. Returns: false where the machine has not as many semaphores.
inline bool synchronise(chip_program& c) {
  c.channels.clear();
  detail::hazard_finder(c).run();
  return std::all_of(c.channels.begin(), c.channels.end(),
                     [&](const channel& x) { return x.semaphore < c.machine.semaphores; });
}

}  // namespace ashlar::chip::npu_codegen

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/npu/codegen/analyse.hpp"
#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/codegen/layout.hpp"
#include "ashlar/chip/npu/codegen/stages.hpp"
#include "ashlar/chip/npu/validate.hpp"
#include "ashlar/plan/gaps.hpp"

/// Addresses in the scratchpad, and how many rounds of a loop may be on their way at a time.
namespace ashlar::chip::npu_codegen {

namespace detail {

class allocator {
 public:
  explicit allocator(chip_program& c) : c_(c) {}

  /// Addresses for all buffers. Returns: the bytes that this takes.
  ///
  /// Buffers that are not alive together share bytes where one and the same engine touches both:
  /// then its own order keeps them apart. With `compact` they always share, and engines have to
  /// meet at the borders of every region.
  std::int64_t place_all(bool compact) {
    std::vector<std::size_t> shared;  // buffers without slots of their own
    std::vector<std::int64_t> bytes;
    std::int64_t used = 0;
    for (std::size_t k = 0; k < c_.buffers.size(); ++k) {
      c_.buffers[k].address = -1;
      if (c_.buffers[k].region >= 0 && c_.buffers[k].slots == 1) {
        shared.push_back(k);
        bytes.push_back(c_.buffers[k].bytes);
      }
    }
    for (std::size_t r = 0; r < c_.regions.size(); ++r) {
      used = slotted(static_cast<int>(r), used);
    }
    const auto apart = [&](std::size_t i, std::size_t j) {
      const buffer &b = c_.buffers[shared[i]], &o = c_.buffers[shared[j]];
      const bool one_engine = std::popcount(b.engines | o.engines) == 1;
      return !(compact || one_engine) || alive_together(c_, b, o);
    };
    const std::vector<std::int64_t> at =
        plan::offsets(bytes, apart, {alignment(), used, plan::gap::lowest});
    for (std::size_t i = 0; i < shared.size(); ++i) {
      c_.buffers[shared[i]].address = at[i];
      used = std::max(used, at[i] + bytes[i]);
    }
    return used;
  }

  /// Gives the buffers of a region that engines share so many slots; with `transfers`, only those
  /// that DMA shares with another engine.
  void set_slots(int r, int slots, bool transfers) {
    c_.regions[static_cast<std::size_t>(r)].slots = slots;
    for (buffer& b : c_.buffers) {
      if (b.region == r) {
        b.slots = rotates(b, transfers) ? slots : 1;
      }
    }
  }
  [[nodiscard]] bool has_rotating(int r, bool transfers) const {
    return std::any_of(c_.buffers.begin(), c_.buffers.end(),
                       [&](const buffer& b) { return b.region == r && rotates(b, transfers); });
  }

 private:
  static bool rotates(const buffer& b, bool transfers) {
    const bool moved = b.engines >> isa::first_dma_unit != 0;
    return std::popcount(b.engines & ~(1u << isa::control_unit)) > 1 && (moved || !transfers);
  }
  [[nodiscard]] std::int64_t alignment() const {
    return std::max<std::int64_t>(8, c_.machine.scratchpad_alignment);
  }

  /// The slots of a region lie one behind the other from `begin` on. Returns: where they end.
  std::int64_t slotted(int r, std::int64_t begin) {
    region& here = c_.regions[static_cast<std::size_t>(r)];
    std::int64_t bytes = 0;
    for (buffer& b : c_.buffers) {
      if (b.region == r && b.slots > 1) {
        b.address = begin + bytes;
        bytes += round_up(b.bytes, alignment());
      }
    }
    here.slot_bytes = bytes;
    return begin + (bytes > 0 ? bytes * here.slots : 0);
  }

  chip_program& c_;
};

}  // namespace detail

/// Bytes that buffers may have: addresses are constants of instructions, too.
inline std::int64_t capacity_of(const chip_program& c) {
  return std::min<std::int64_t>(c.machine.scratchpad_bytes, isa::max_constant);
}

/// Returns: the bytes that it takes where all buffers that are not alive together share them.
inline std::int64_t least_bytes(chip_program& c) { return detail::allocator(c).place_all(true); }

/// Decides addresses and slots. Returns: false where the scratchpad is too small.
///
/// First every region gets one slot. Where there is room and a register for it, loops get more,
/// the innermost first, up to `stages`, or where that is 0 up to their `stages_for`. With
/// `compact`, buffers share bytes and the engines run in turn.
inline bool allocate(chip_program& c, int stages, bool compact = false) {
  detail::allocator a(c);
  const std::int64_t capacity = capacity_of(c);
  if (a.place_all(compact) > capacity) {
    return false;
  }
  if (compact) {
    for (region& r : c.regions) {
      r.fenced = r.kind != region_kind::root;
    }
    return true;
  }
  std::vector<int> loops;
  for (std::size_t r = 0; r < c.regions.size(); ++r) {
    if (c.regions[r].kind == region_kind::loop && a.has_rotating(static_cast<int>(r), false)) {
      loops.push_back(static_cast<int>(r));
    }
  }
  std::stable_sort(loops.begin(), loops.end(), [&](int x, int y) {
    return c.regions[static_cast<std::size_t>(x)].depth >
           c.regions[static_cast<std::size_t>(y)].depth;
  });
  std::vector<bool> transfers(c.regions.size(), true);  // only these have slots
  const auto attempt = [&](int r, int slots, bool only) {
    region& here = c.regions[static_cast<std::size_t>(r)];
    const int before = here.slots;
    const bool has_register =
        here.slot_register > 0 ||
        (c.first_free_register > 0 && c.first_free_register <= c.last_free_register);
    if (!has_register || !a.has_rotating(r, only)) {
      return;
    }
    a.set_slots(r, slots, only);
    if (a.place_all(false) > capacity) {
      a.set_slots(r, before, transfers[static_cast<std::size_t>(r)]);
      return;
    }
    transfers[static_cast<std::size_t>(r)] = only;
    if (here.slot_register == 0) {
      here.slot_register = c.first_free_register++;
    }
  };
  std::vector<int> limits(c.regions.size(), stages);
  if (stages == 0) {
    const std::vector<round_cost> costs = costs_of(c);
    std::transform(costs.begin(), costs.end(), limits.begin(),
                   [&](const round_cost& round) { return stages_for(c.machine, round); });
  }
  const int most = *std::max_element(limits.begin(), limits.end());
  for (int slots = 2; slots <= most; ++slots) {
    for (const bool only : {true, false}) {
      for (const int r : loops) {
        const int has = c.regions[static_cast<std::size_t>(r)].slots;
        if (slots <= limits[static_cast<std::size_t>(r)] &&
            (has == slots - 1 || (has == slots && !only))) {
          attempt(r, slots, only && (slots == 2 || transfers[static_cast<std::size_t>(r)]));
        }
      }
    }
  }
  a.place_all(false);
  return true;
}

}  // namespace ashlar::chip::npu_codegen

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "ashlar/memory/caching_allocator.hpp"
#include "memory/upstreams.hpp"

/// What an allocator did, as text that can be worked out by hand.
namespace stories {

constexpr std::size_t k = 1024, m = 1024 * 1024;

[[nodiscard]] inline std::string size_text(std::size_t bytes) {
  if (bytes != 0 && bytes % m == 0) {
    return std::to_string(bytes / m) + "M";
  }
  if (bytes != 0 && bytes % k == 0) {
    return std::to_string(bytes / k) + "K";
  }
  return std::to_string(bytes);
}

/// An allocator over paper memory that tells what it did: segments have letters, blocks lie at an
/// offset: `+A 20M; A+0:2M` is a segment of 20 MiB from the chip and a block of 2 MiB at its start,
/// `^A+20M:20M` are 20 MiB that were mapped, `vA+0:20M` some that were unmapped.
template <class... Policies>
class story {
  using upstream = upstreams::paper<0>;
  using allocator =
      ashlar::memory::caching_allocator<upstream, Policies..., ashlar::memory::recorded<4096>,
                                        ashlar::memory::pytorch_policies>;

 public:
  allocator a;

  explicit story(std::size_t capacity = ~std::size_t{0}) : reset_(capacity) {}
  ~story() {
    upstreams::give_all(a, held_);
    for (auto& [q, clock] : upstream::now) {
      clock.reached = clock.recorded;
    }
  }

  std::size_t get(std::size_t bytes, ashlar::memory::queue_id queue = 0) {
    held_.push_back({a.allocate(bytes, queue), bytes});
    return held_.size() - 1;
  }
  bool fails(std::size_t bytes) {
    try {
      get(bytes);
    } catch (const ashlar::memory::out_of_memory& e) {
      tried = e.tried;
      return true;
    }
    return false;
  }
  void give(std::size_t which) {
    a.deallocate(held_[which].p, held_[which].bytes);
    held_[which].p = nullptr;
  }
  std::byte* operator[](std::size_t which) const { return held_[which].p; }
  void queue_reaches_its_end(ashlar::memory::queue_id q) {
    upstream::now[q].reached = upstream::now[q].recorded;
  }

  /// What has happened since the last call.
  std::string told() {
    std::string text;
    const auto all = a.actions();
    for (; seen_ < all.size(); ++seen_) {
      const ashlar::memory::trace_entry& e = all[seen_];
      const char* sign = nullptr;
      switch (e.what) {
        case ashlar::memory::action::segment_map:
          starts_grow(e.address);
          sign = "^";
          break;
        case ashlar::memory::action::segment_unmap:
          sign = "v";
          break;
        case ashlar::memory::action::segment_alloc:
          starts_.push_back(e.address);
          sign = "+";
          break;
        case ashlar::memory::action::segment_free:
          sign = "-";
          break;
        case ashlar::memory::action::alloc:
          sign = "";
          break;
        case ashlar::memory::action::free_requested:
          continue;
        case ashlar::memory::action::free_completed:
          sign = "~";
          break;
        default:
          text += text.empty() ? "oom" : "; oom";
          continue;
      }
      std::size_t segment = 0;
      for (std::size_t i = 0; i < starts_.size(); ++i) {
        segment = starts_[i] <= e.address ? i : segment;
      }
      text += (text.empty() ? "" : "; ") + std::string(sign) +
              static_cast<char>('A' + static_cast<char>(segment));
      if (e.what == ashlar::memory::action::segment_alloc ||
          e.what == ashlar::memory::action::segment_free) {
        text += " " + size_text(e.bytes);
      } else {
        text += "+" + size_text(e.address - starts_[segment]) + ":" + size_text(e.bytes);
      }
    }
    return text;
  }
  unsigned tried = 0;

 private:
  /// The first address that is mapped of a range is where its segment starts.
  void starts_grow(std::uintptr_t address) {
    const auto range = std::prev(upstream::ranges.upper_bound(address));
    for (const std::uintptr_t s : starts_) {
      if (s >= range->first && s < range->first + range->second) {
        return;
      }
    }
    starts_.push_back(address);
  }
  struct reset {
    explicit reset(std::size_t capacity) { upstream::reset(capacity); }
  };
  reset reset_;
  std::vector<upstreams::held> held_;
  std::vector<std::uintptr_t> starts_;
  std::size_t seen_ = 0;
};

}  // namespace stories

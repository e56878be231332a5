// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/detail/picture_page.hpp"
#include "ashlar/memory/snapshot.hpp"
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/page.hpp"

/// Snapshots of an allocator as JSON, and as a picture for a browser.
namespace ashlar::memory {

namespace detail {

/// `{"name":number,...}`, `[...]`: text that is JSON when every list and object was closed.
class json {
 public:
  std::string text;

  json& open(char bracket) {
    separate();
    text += bracket;
    return *this;
  }
  json& close(char bracket) {
    text += bracket;
    return *this;
  }
  json& key(std::string_view name) {
    separate();
    trace::append_json_string(text, name);
    text += ':';
    return *this;
  }
  template <std::integral N>
  json& value(N n) {
    separate();
    text += std::to_string(n);
    return *this;
  }
  json& value(std::string_view s) {
    separate();
    trace::append_json_string(text, s);
    return *this;
  }

 private:
  void separate() {
    if (!text.empty() && std::string_view("[{:,").find(text.back()) == std::string_view::npos) {
      text += ',';
    }
  }
};

inline void append(json& out, const statistics& s) {
  out.open('{').key("requested").value(s.requested).key("allocated").value(s.allocated);
  out.key("peak_allocated").value(s.peak_allocated).key("reserved").value(s.reserved);
  out.key("peak_reserved").value(s.peak_reserved).key("requests").value(s.requests);
  out.key("upstream_requests").value(s.upstream_requests).key("retries").value(s.retries);
  out.key("failures").value(s.failures).close('}');
}

/// Calls `f(first, last)` for the blocks of each segment.
template <class F>
void for_each_segment(const std::vector<block_info>& blocks, F&& f) {
  for (auto from = blocks.begin(); from != blocks.end();) {
    const auto to = std::find_if(from, blocks.end(),
                                 [&](const block_info& b) { return b.segment != from->segment; });
    f(from, to);
    from = to;
  }
}

/// Addresses that the chip has bytes for. Pieces that were mapped join, segments do not.
class address_ranges {
 public:
  void add(std::uintptr_t at, std::size_t bytes, bool joins) {
    auto here = all_.insert_or_assign(at, range{at + bytes, joins}).first;
    if (joins) {
      if (const auto next = std::next(here);
          next != all_.end() && next->second.joins && next->first == here->second.end) {
        here->second.end = next->second.end;
        all_.erase(next);
      }
      if (here != all_.begin()) {
        const auto before = std::prev(here);
        if (before->second.joins && before->second.end == here->first) {
          before->second.end = here->second.end;
          all_.erase(here);
        }
      }
    }
  }
  void remove(std::uintptr_t at, std::size_t bytes) {
    auto here = all_.upper_bound(at);
    if (here == all_.begin() || (--here)->second.end < at + bytes) {
      return;  // an action that was recorded before the others
    }
    const range old = here->second;
    const std::uintptr_t from = here->first;
    all_.erase(here);
    if (from < at) {
      all_[from] = {at, true};
    }
    if (at + bytes < old.end) {
      all_[at + bytes] = {old.end, true};
    }
  }
  template <class F>
  void for_each(F&& f) const {
    for (const auto& [from, r] : all_) {
      f(from, r.end);
    }
  }

 private:
  struct range {
    std::uintptr_t end;
    bool joins;
  };
  std::map<std::uintptr_t, range> all_;
};

/// What the recorded actions say about every moment, worked out from the end: what was there
/// before the oldest one follows from what is there now.
class history {
 public:
  struct span {
    std::uint64_t from, to;
    std::uintptr_t address;
    std::size_t bytes;
    const char* label;
  };
  struct moment {
    std::uint64_t number;
    std::size_t reserved = 0, in_use = 0, largest_free = 0;
    std::map<const char*, std::size_t> by_label = {};
  };
  std::vector<span> spans;
  std::vector<moment> moments;
  std::map<std::uintptr_t, std::uintptr_t> layout;  ///< every address seen, as ranges apart

  history(const snapshot& s, std::size_t samples) {
    const std::vector<trace_entry>& all = s.actions;
    if (all.empty()) {
      return;
    }
    for_each_segment(s.blocks, [&](auto from, auto to) {
      const auto end = std::prev(to)->address + std::prev(to)->bytes;
      ranges_.add(from->segment, end - from->segment, true);
    });
    for (const block_info& b : s.blocks) {
      see(b.address, b.bytes);
      if (b.is != block_info::state::free) {
        live_[b.address] = {0, 0, b.address, b.bytes, b.label};
      }
    }
    for (std::size_t i = all.size(); i-- > 0;) {
      undo(all[i]);
    }
    const std::uint64_t first = all.front().number, last = all.back().number + 1;
    for (auto& [at, l] : live_) {
      l.from = first;
    }
    const std::size_t step = std::max<std::size_t>(1, all.size() / samples);
    look(first);
    for (std::size_t i = 0; i < all.size(); ++i) {
      redo(all[i]);
      if ((i + 1) % step == 0 || i + 1 == all.size()) {
        look(all[i].number + 1);
      }
    }
    for (const auto& [at, l] : live_) {
      spans.push_back(l);
      spans.back().to = last;
    }
  }

 private:
  void see(std::uintptr_t at, std::size_t bytes) {
    std::uintptr_t from = at, to = at + bytes;
    auto next = layout.upper_bound(to);
    while (next != layout.begin() && std::prev(next)->second >= from) {
      --next;
      from = std::min(from, next->first);
      to = std::max(to, next->second);
      next = layout.erase(next);
    }
    layout[from] = to;
  }
  void undo(const trace_entry& e) {
    switch (e.what) {
      case action::alloc:
        live_.erase(e.address);
        break;
      case action::free_completed:
        live_[e.address] = {0, 0, e.address, e.bytes, e.label};
        break;
      case action::segment_alloc:
      case action::segment_map:
        ranges_.remove(e.address, e.bytes);
        break;
      case action::segment_free:
      case action::segment_unmap:
        ranges_.add(e.address, e.bytes, e.what == action::segment_unmap);
        break;
      default:
        return;
    }
    see(e.address, e.bytes);
  }
  void redo(const trace_entry& e) {
    switch (e.what) {
      case action::alloc:
        live_[e.address] = {e.number, 0, e.address, e.bytes, e.label};
        break;
      case action::free_completed:
        if (const auto l = live_.find(e.address); l != live_.end()) {
          spans.push_back(l->second);
          spans.back().to = e.number;
          live_.erase(l);
        }
        break;
      case action::segment_alloc:
      case action::segment_map:
        ranges_.add(e.address, e.bytes, e.what == action::segment_map);
        break;
      case action::segment_free:
      case action::segment_unmap:
        ranges_.remove(e.address, e.bytes);
        break;
      default:
        break;
    }
  }
  void look(std::uint64_t number) {
    moment m{number};
    auto next = live_.begin();
    ranges_.for_each([&](std::uintptr_t at, std::uintptr_t end) {
      m.reserved += end - at;
      for (; next != live_.end() && next->first < end; ++next) {
        m.largest_free =
            std::max<std::size_t>(m.largest_free, next->first - std::min(at, next->first));
        at = next->first + next->second.bytes;
      }
      m.largest_free = std::max<std::size_t>(m.largest_free, end - std::min(at, end));
    });
    for (const auto& [at, l] : live_) {
      m.in_use += l.bytes;
      m.by_label[l.label] += l.bytes;
    }
    moments.push_back(std::move(m));
  }

  address_ranges ranges_;
  std::map<std::uintptr_t, span> live_;
};

}  // namespace detail

/// Returns: the snapshot as JSON, with the names of PyTorch's memory snapshots: `segments` with
/// their `blocks`, `device_traces` with an object for each action, and `stats`.
[[nodiscard]] inline std::string to_json(const snapshot& s) {
  constexpr std::string_view states[] = {"inactive", "active_allocated", "active_pending_free"};
  detail::json out;
  out.open('{').key("stats");
  append(out, s.stats);
  out.key("segments").open('[');
  detail::for_each_segment(s.blocks, [&](auto from, auto to) {
    std::size_t total = 0, allocated = 0;
    std::for_each(from, to, [&](const block_info& b) {
      total += b.bytes;
      allocated += b.is == block_info::state::in_use ? b.bytes : 0;
    });
    out.open('{').key("address").value(from->segment).key("total_size").value(total);
    out.key("allocated_size").value(allocated).key("stream").value(from->queue);
    out.key("segment_type").value(from->kind).key("segment_pool_id");
    out.value(static_cast<std::uint64_t>(from->owner)).key("blocks").open('[');
    std::for_each(from, to, [&](const block_info& b) {
      out.open('{').key("address").value(b.address).key("size").value(b.bytes);
      out.key("requested_size").value(b.requested).key("state");
      out.value(states[static_cast<std::size_t>(b.is)]);
      if (b.label != nullptr) {
        out.key("label").value(std::string_view(b.label));
      }
      out.close('}');
    });
    out.close(']').close('}');
  });
  out.close(']').key("device_traces").open('[').open('[');
  for (const trace_entry& e : s.actions) {
    out.open('{').key("action").value(name_of(e.what)).key("number").value(e.number);
    out.key("addr").value(e.address).key("size").value(e.bytes).key("stream").value(e.queue);
    if (e.label != nullptr) {
      out.key("label").value(std::string_view(e.label));
    }
    out.close('}');
  }
  out.close(']').close(']').close('}');
  return std::move(out.text);
}

/// Returns: one HTML file that shows the snapshot: the segments as they are now and, where actions
/// were recorded, the address space over time, live bytes by label, and how what is free lies in
/// pieces. It needs a browser and no network.
[[nodiscard]] inline std::string to_html(const snapshot& s, std::string title = "Memory",
                                         std::size_t samples = 400) {
  const detail::history past(s, std::max<std::size_t>(samples, 1));
  std::vector<std::string_view> labels;
  const auto label = [&](const char* name) {
    if (name == nullptr) {
      return -1;
    }
    const auto at = std::find(labels.begin(), labels.end(), std::string_view(name));
    const auto index = static_cast<int>(at - labels.begin());
    if (at == labels.end()) {
      labels.emplace_back(name);
    }
    return index;
  };
  // Addresses without the gaps between segments.
  std::map<std::uintptr_t, std::uint64_t> offsets;
  std::uint64_t extent = 0;
  for (const auto& [from, to] : past.layout) {
    offsets[from] = extent;
    extent += to - from;
  }
  const auto offset = [&](std::uintptr_t address) {
    const auto range = std::prev(offsets.upper_bound(address));
    return range->second + (address - range->first);
  };

  detail::json out;
  out.open('{').key("stats");
  append(out, s.stats);
  out.key("extent").value(std::max<std::uint64_t>(extent, 1));
  out.key("first").value(s.actions.empty() ? 0 : s.actions.front().number);
  out.key("last").value(s.actions.empty() ? 0 : s.actions.back().number + 1);
  out.key("segments").open('[');
  detail::for_each_segment(s.blocks, [&](auto from, auto to) {
    const auto& top = *std::prev(to);
    out.open('{').key("address").value(from->segment);
    out.key("bytes").value(top.address + top.bytes - from->segment);
    out.key("queue").value(from->queue);
    out.key("owner").value(static_cast<std::uint64_t>(from->owner)).key("blocks").open('[');
    std::for_each(from, to, [&](const block_info& b) {
      out.open('[').value(b.address - from->segment).value(b.bytes);
      out.value(static_cast<int>(b.is)).value(b.requested).value(label(b.label)).close(']');
    });
    out.close(']').close('}');
  });
  out.close(']').key("spans").open('[');
  for (const auto& l : past.spans) {
    out.open('[').value(l.from).value(l.to).value(offset(l.address)).value(l.bytes);
    out.value(label(l.label)).value(l.address).close(']');
  }
  out.close(']').key("curve").open('[');
  std::map<int, std::vector<std::size_t>> stacks;
  for (std::size_t k = 0; k < past.moments.size(); ++k) {
    const auto& m = past.moments[k];
    out.open('[').value(m.number).value(m.reserved).value(m.in_use).value(m.largest_free);
    out.close(']');
    for (const auto& [name, bytes] : m.by_label) {
      auto& row = stacks[label(name)];
      row.resize(past.moments.size());
      row[k] += bytes;
    }
  }
  out.close(']').key("stacks").open('[');
  for (const auto& [index, bytes] : stacks) {
    out.open('{').key("label").value(index).key("bytes").open('[');
    for (const std::size_t b : bytes) {
      out.value(b);
    }
    out.close(']').close('}');
  }
  out.close(']').key("labels").open('[');
  for (const std::string_view name : labels) {
    out.value(name);
  }
  out.close(']').close('}');
  return trace::to_html({std::move(title), detail::picture_body, std::move(out.text),
                         detail::picture_script, detail::picture_style});
}

}  // namespace ashlar::memory

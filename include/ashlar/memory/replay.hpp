// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <source_location>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/memory/action.hpp"
#include "ashlar/memory/block_info.hpp"
#include "ashlar/memory/resource.hpp"
#include "ashlar/plan/arena.hpp"

/// The same requests against any allocator.
namespace ashlar::memory {

/// One line of a trace: `a ID BYTES [QUEUE]` asks for a block, `f ID` gives it back.
struct request {
  bool gives_back = false;
  std::uint32_t id = 0;  ///< of the block; free to be used again after it was given back
  std::size_t bytes = 0;
  queue_id queue = 0;
  friend bool operator==(const request&, const request&) = default;
};

/// A trace that cannot be what it says it is.
struct trace_error final : error {
  std::string entity;  ///< who was given it, e.g. `ashlar::memory::read_trace`
  std::size_t line;    ///< or request, from 1
  std::string reason;

  trace_error(std::string called, std::size_t number, std::string why,
              std::source_location at = std::source_location::current())
      : error(at), entity(std::move(called)), line(number), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return entity + ": line " + std::to_string(line) + ": " + reason;
  }
};

namespace detail {

/// What is held at a place of a trace, by id.
class trace_state {
 public:
  static constexpr std::size_t most_ids = std::size_t{1} << 24U;
  static constexpr std::size_t most_bytes = std::size_t{1} << 48U;  ///< of a block

  explicit trace_state(const char* entity) : entity_(entity) {}

  /// Throws: `trace_error` for a number out of range, an id that is in use, one that is given back
  ///         but was not, or more bytes than can be counted.
  void take(const request& r, std::size_t line) {
    const auto require = [&](bool holds, const std::string& reason) {
      if (!holds) [[unlikely]] {
        throw trace_error(entity_, line, "block " + std::to_string(r.id) + ' ' + reason);
      }
    };
    require(r.id < most_ids, "has an id above " + std::to_string(most_ids - 1));
    held_.resize(std::max<std::size_t>(held_.size(), r.id + std::size_t{1}), none);
    std::size_t& bytes = held_[r.id];
    if (r.gives_back) {
      require(bytes != none, "is not in use");
      live_ -= std::exchange(bytes, none);
    } else {
      require(bytes == none, "is in use");
      require(r.bytes <= most_bytes && r.bytes <= none - live_,
              "has too many bytes: " + std::to_string(r.bytes));
      live_ += bytes = r.bytes;
    }
  }
  [[nodiscard]] std::size_t live() const { return live_; }        ///< bytes
  [[nodiscard]] std::size_t ids() const { return held_.size(); }  ///< all were below

 private:
  static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  const char* entity_;
  std::vector<std::size_t> held_;
  std::size_t live_ = 0;
};

}  // namespace detail

[[nodiscard]] inline std::string write_trace(const std::vector<request>& all) {
  std::string text;
  for (const request& r : all) {
    text += r.gives_back ? "f " + std::to_string(r.id)
                         : "a " + std::to_string(r.id) + ' ' + std::to_string(r.bytes);
    if (!r.gives_back && r.queue != 0) {
      text += ' ' + std::to_string(r.queue);
    }
    text += '\n';
  }
  return text;
}

/// Reads what `write_trace` writes; empty lines and those that begin with `#` say nothing.
/// Throws: `trace_error` for a line of another form, a number out of range, an id that is in use,
/// or one that is given back but was not.
[[nodiscard]] inline std::vector<request> read_trace(std::string_view text) {
  constexpr const char* entity = "ashlar::memory::read_trace";
  std::vector<request> all;
  detail::trace_state state(entity);
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') {
      line.remove_suffix(1);
    }
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const auto next = [&](std::size_t most, std::string_view what) {
      while (!line.empty() && line.front() == ' ') {
        line.remove_prefix(1);
      }
      std::uint64_t value = 0;
      const auto [to, code] = std::from_chars(line.data(), line.data() + line.size(), value);
      if (code != std::errc{} || value > most) {
        throw trace_error(entity, number,
                          "expected " + std::string(what) + ", at most " + std::to_string(most));
      }
      line.remove_prefix(static_cast<std::size_t>(to - line.data()));
      return value;
    };
    request r;
    r.gives_back = line.front() == 'f';
    if (!r.gives_back && line.front() != 'a') {
      throw trace_error(entity, number, "expected `a ID BYTES [QUEUE]` or `f ID`");
    }
    line.remove_prefix(1);
    r.id = static_cast<std::uint32_t>(next(state.most_ids - 1, "an id"));
    if (!r.gives_back) {
      r.bytes = next(state.most_bytes, "a number of bytes");
      if (line.find_first_not_of(' ') != std::string_view::npos) {
        r.queue = static_cast<queue_id>(next(~queue_id{0}, "a queue"));
      }
    }
    if (line.find_first_not_of(' ') != std::string_view::npos) {
      throw trace_error(entity, number, "more than was expected");
    }
    state.take(r, number);
    all.push_back(r);
  }
  return all;
}

/// When each block of a trace is in use, in lines, for `plan::plan_arena`: what one arena would
/// have to hold if everything were known beforehand.
/// Throws: `trace_error` where a request does not fit those before it.
[[nodiscard]] inline std::vector<plan::lifetime> lifetimes_of(const std::vector<request>& trace) {
  std::vector<plan::lifetime> all;
  std::vector<std::size_t> block;  // the last one of each id
  detail::trace_state state("ashlar::memory::lifetimes_of");
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const request& r = trace[i];
    const auto now = static_cast<std::int64_t>(i);
    state.take(r, i + 1);
    if (r.gives_back) {
      all[block[r.id]].last = now;
    } else {
      block.resize(state.ids());
      block[r.id] = all.size();
      all.push_back(
          {now, static_cast<std::int64_t>(trace.size()), static_cast<std::int64_t>(r.bytes)});
    }
  }
  return all;
}

/// What a trace came to.
struct replay_result {
  std::size_t peak_live = 0;      ///< bytes that callers asked for and held
  std::size_t peak_reserved = 0;  ///< bytes held from the chip
  std::uint64_t chip_calls = 0;   ///< segments asked for
  std::uint64_t refused = 0;      ///< requests that ended in `out_of_memory`
  double nanoseconds = 0;         ///< per request, the chip's calls included
  /// The share of free bytes that lay outside the largest free block, as a mean over `samples`.
  double fragmentation = 0;

  /// The share of the chip's bytes that no caller asked for, when it was at its worst.
  [[nodiscard]] double overhead() const {
    return peak_live == 0 ? 0
                          : static_cast<double>(peak_reserved) / static_cast<double>(peak_live) - 1;
  }
};

namespace detail {

template <class Allocator>
double fragmentation_of(const Allocator& a) {
  std::size_t free = 0, largest = 0;
  for (const auto& b : a.blocks()) {
    if (b.is == block_info::state::free) {
      free += b.bytes;
      largest = std::max(largest, b.bytes);
    }
  }
  return free == 0 ? 0 : 1 - static_cast<double>(largest) / static_cast<double>(free);
}

}  // namespace detail

/// Runs a trace; at its end everything is given back. `samples`: how often, apart from the clock,
/// it is looked how free memory lies.
/// Throws: `trace_error` where a request does not fit those before it; none was made then.
template <class Allocator>
[[nodiscard]] replay_result replay(Allocator& a, const std::vector<request>& trace,
                                   std::size_t samples = 0) {
  struct held {
    std::byte* p = nullptr;
    std::size_t bytes = 0;
  };
  replay_result result;
  detail::trace_state state("ashlar::memory::replay");
  for (std::size_t i = 0; i < trace.size(); ++i) {  // apart from the clock
    state.take(trace[i], i + 1);
    result.peak_live = std::max(result.peak_live, state.live());
  }
  std::vector<held> blocks(state.ids());
  using clock = std::chrono::steady_clock;
  const std::size_t step = samples == 0 ? trace.size() + 1 : trace.size() / (samples + 1) + 1;
  std::size_t until = step, looked = 0;
  auto start = clock::now();
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const request& r = trace[i];
    if (i == until) {
      const auto before = clock::now();
      result.fragmentation += detail::fragmentation_of(a);
      ++looked;
      until += step;
      start += clock::now() - before;
    }
    held& h = blocks[r.id];
    if (r.gives_back) {
      a.deallocate(h.p, h.bytes);
      h = {};
    } else {
      try {
        h = {r.queue == 0 ? a.allocate(r.bytes) : a.allocate(r.bytes, r.queue), r.bytes};
      } catch (const out_of_memory&) {
        ++result.refused;
      }
    }
  }
  const std::chrono::duration<double, std::nano> took = clock::now() - start;
  result.fragmentation /= static_cast<double>(std::max<std::size_t>(looked, 1));
  for (const held& h : blocks) {
    a.deallocate(h.p, h.bytes);
  }
  const auto counts = a.stats();
  result.peak_reserved = counts.peak_reserved;
  result.chip_calls = counts.upstream_requests;
  result.nanoseconds = trace.empty() ? 0 : took.count() / static_cast<double>(trace.size());
  return result;
}

}  // namespace ashlar::memory

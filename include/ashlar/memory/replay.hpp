// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/memory/action.hpp"
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
  std::size_t line;  ///< from 1
  std::string reason;

  trace_error(std::size_t number, std::string why,
              std::source_location at = std::source_location::current())
      : error(at), line(number), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::memory::read_trace: line " + std::to_string(line) + ": " + reason;
  }
};

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
  std::vector<request> all;
  std::vector<bool> held;
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
        throw trace_error(number,
                          "expected " + std::string(what) + ", at most " + std::to_string(most));
      }
      line.remove_prefix(static_cast<std::size_t>(to - line.data()));
      return value;
    };
    request r;
    r.gives_back = line.front() == 'f';
    if (!r.gives_back && line.front() != 'a') {
      throw trace_error(number, "expected `a ID BYTES [QUEUE]` or `f ID`");
    }
    line.remove_prefix(1);
    constexpr std::size_t most_blocks = std::size_t{1} << 24U;
    r.id = static_cast<std::uint32_t>(next(most_blocks - 1, "an id"));
    if (!r.gives_back) {
      r.bytes = next(std::size_t{1} << 48U, "a number of bytes");
      if (line.find_first_not_of(' ') != std::string_view::npos) {
        r.queue = static_cast<queue_id>(next(~queue_id{0}, "a queue"));
      }
    }
    if (line.find_first_not_of(' ') != std::string_view::npos) {
      throw trace_error(number, "more than was expected");
    }
    if (held.size() <= r.id) {
      held.resize(r.id + 1);
    }
    if (held[r.id] != r.gives_back) {
      throw trace_error(number, r.gives_back ? "block " + std::to_string(r.id) + " is not in use"
                                             : "block " + std::to_string(r.id) + " is in use");
    }
    held[r.id] = !r.gives_back;
    all.push_back(r);
  }
  return all;
}

/// When each block of a trace is in use, in lines, for `plan::plan_arena`: what one arena would
/// have to hold if everything were known beforehand.
[[nodiscard]] inline std::vector<plan::lifetime> lifetimes_of(const std::vector<request>& trace) {
  std::vector<plan::lifetime> all;
  std::vector<std::size_t> block;  // the last one of each id
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const request& r = trace[i];
    const auto now = static_cast<std::int64_t>(i);
    if (r.gives_back) {
      all[block[r.id]].last = now;
    } else {
      block.resize(std::max<std::size_t>(block.size(), r.id + std::size_t{1}));
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
    if (b.is == std::remove_cvref_t<decltype(b.is)>::free) {
      free += b.bytes;
      largest = std::max(largest, b.bytes);
    }
  }
  return free == 0 ? 0 : 1 - static_cast<double>(largest) / static_cast<double>(free);
}

}  // namespace detail

/// Runs a trace; at its end everything is given back. `samples`: how often, apart from the clock,
/// it is looked how free memory lies.
template <class Allocator>
[[nodiscard]] replay_result replay(Allocator& a, const std::vector<request>& trace,
                                   std::size_t samples = 0) {
  struct held {
    std::byte* p = nullptr;
    std::size_t bytes = 0;
  };
  std::uint32_t most = 0;
  for (const request& r : trace) {
    most = std::max(most, r.id);
  }
  std::vector<held> blocks(trace.empty() ? 0 : most + std::size_t{1});
  replay_result result;
  std::size_t live = 0;
  for (const request& r : trace) {  // apart from the clock
    held& h = blocks[r.id];
    live += r.gives_back ? -h.bytes : r.bytes;
    h.bytes = r.gives_back ? 0 : r.bytes;
    result.peak_live = std::max(result.peak_live, live);
  }
  std::fill(blocks.begin(), blocks.end(), held{});
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

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/memory/detail/block.hpp"

/// What an allocator writes down while it works.
namespace ashlar::memory {

/// What happened. Source: the actions of PyTorch's allocator traces.
enum class action : std::uint8_t {
  alloc,           ///< a block was handed out
  free_requested,  ///< a caller gave a block back
  free_completed,  ///< the block may serve again: at once, or when other queues are done with it
  segment_alloc,   ///< the chip gave memory
  segment_free,    ///< the chip got memory back
  segment_map,     ///< pages of a reserved range got memory
  segment_unmap,   ///< pages of a reserved range lost it
  snapshot,        ///< somebody looked
  oom,             ///< a request failed; the address is the chip's number of free bytes, if known
};

[[nodiscard]] constexpr std::string_view name_of(action a) {
  constexpr std::string_view names[] = {"alloc",         "free_requested", "free_completed",
                                        "segment_alloc", "segment_free",   "segment_map",
                                        "segment_unmap", "snapshot",       "oom"};
  return names[static_cast<std::size_t>(a)];
}

struct trace_entry {
  action what;
  std::uint64_t number;  ///< counts actions from 0
  std::uintptr_t address;
  std::size_t bytes;  ///< of the block or segment
  queue_id queue;
  const char* label;  ///< who asked, or null
  friend bool operator==(const trace_entry&, const trace_entry&) = default;
};

/// Names who asks for memory on this thread while it lives; what is recorded, and the message of
/// `out_of_memory`, repeat it. Requires: `name` outlives the allocator (a literal does).
class label_scope {
 public:
  explicit label_scope(const char* name) : before_(std::exchange(current(), name)) {}
  ~label_scope() { current() = before_; }
  label_scope(const label_scope&) = delete;
  label_scope& operator=(const label_scope&) = delete;

  [[nodiscard]] static const char*& current() {
    static constinit thread_local const char* name = nullptr;
    return name;
  }

 private:
  const char* before_;
};

namespace detail {

/// The last `Count` actions. Its memory is taken when it is made: writing cannot fail.
template <std::size_t Count>
class action_log {
 public:
  action_log() : ring_(Count) {}
  void add(action what, const std::byte* address, std::size_t bytes, queue_id queue,
           const char* label) noexcept {
    ring_[static_cast<std::size_t>(written_ % Count)] = {
        what, written_, reinterpret_cast<std::uintptr_t>(address), bytes, queue, label};
    ++written_;
  }
  /// Oldest first.
  [[nodiscard]] std::vector<trace_entry> entries() const {
    std::vector<trace_entry> all;
    const std::uint64_t from = written_ < Count ? 0 : written_ - Count;
    all.reserve(static_cast<std::size_t>(written_ - from));
    for (std::uint64_t i = from; i < written_; ++i) {
      all.push_back(ring_[static_cast<std::size_t>(i % Count)]);
    }
    return all;
  }

 private:
  std::vector<trace_entry> ring_;
  std::uint64_t written_ = 0;
};
template <>
class action_log<0> {
 public:
  void add(action, const std::byte*, std::size_t, queue_id, const char*) noexcept {}
};

}  // namespace detail
}  // namespace ashlar::memory

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/memory/detail/block.hpp"

/// What can be seen of an allocator's blocks.
namespace ashlar::memory {

/// A private pool: its blocks serve nobody but who captures into it.
enum class pool_id : std::uint32_t { shared = 0 };

struct block_info {
  enum class state : unsigned char { free, in_use, waiting };  ///< waiting: for other queues
  std::uintptr_t address;
  std::size_t bytes;
  std::size_t requested;   ///< by whom it was cut for; 0 unless in use
  std::uintptr_t segment;  ///< where its segment starts
  std::size_t kind;        ///< `SegmentPolicy::pool` of its size
  pool_id owner;
  queue_id queue;
  state is;
  const char* label;
};

/// The blocks of a private pool at one moment, by address.
struct pool_checkpoint {
  pool_id of = pool_id::shared;
  std::vector<block_info> blocks;
};

/// What a return to a checkpoint did to callers' blocks.
struct pool_restored {
  std::vector<std::byte*> freed;  ///< were in use before, not at the checkpoint: nobody's now
  std::vector<std::byte*> taken;  ///< were in use at the checkpoint, not before: the caller's again
};

/// A checkpoint whose segments are not there any more.
struct checkpoint_error final : error {
  std::uintptr_t segment;
  explicit checkpoint_error(std::uintptr_t missing,
                            std::source_location at = std::source_location::current())
      : error(at), segment(missing) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::memory: the segment at " + std::to_string(segment) +
           " of this checkpoint was given back; restore before the pool is dropped";
  }
};

}  // namespace ashlar::memory

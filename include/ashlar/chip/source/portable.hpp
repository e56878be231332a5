// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/strips.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

/// A chip whose launches can be written down, so that they become source.
namespace ashlar::chip {

namespace source {

/// One launch of a program.
struct launch {
  std::size_t program = 0;  ///< its place in `launch_log::programs`
  tile::grid grid{};
  std::vector<tile::argument> arguments{};
};

/// The launches of a thread on `chip::portable`, in order, for as long as a `listening` lives.
struct launch_log {
  std::vector<tile::program> programs{};  ///< each once
  std::vector<launch> launches{};
  bool copied = false;  ///< elements went between the host and the chip, not by a launch

  class listening {
   public:
    explicit listening(launch_log& to) : before_(std::exchange(current(), &to)) {}
    ~listening() { current() = before_; }
    listening(const listening&) = delete;
    listening& operator=(const listening&) = delete;

   private:
    launch_log* before_;
  };
  /// Who listens to this thread, or null.
  static launch_log*& current() {
    static constinit thread_local launch_log* log = nullptr;
    return log;
  }

  void add(const tile::program& p, const tile::grid& grid,
           std::span<const tile::argument> arguments) {
    const auto known = std::find(programs.begin(), programs.end(), p);
    const auto place = static_cast<std::size_t>(known - programs.begin());
    if (known == programs.end()) {
      programs.push_back(p);
    }
    launches.push_back({place, grid, {arguments.begin(), arguments.end()}});
  }
};

}  // namespace source

/// The host as a chip that runs tile programs and nothing else, strip by strip: what runs on it can
/// be written down as launches, and those as C++ source (`chip::source::emit`).
///
/// Include `ashlar/ops/tile.hpp` for the operators.
struct portable {
  static constexpr chip_description description{
      .name = "portable",
      .vector_bytes = host::description.vector_bytes,
      .scratchpad_bytes = host::description.scratchpad_bytes,
      .register_bytes = host::description.register_bytes,
      .cache_bytes = host::description.cache_bytes};
  /// The host's, but not for the host to read: small results are no part of their tensors.
  struct memory {
    static constexpr std::size_t alignment = host::memory::alignment;
    static std::byte* allocate(std::size_t bytes) noexcept { return host::memory::allocate(bytes); }
    static void free(std::byte* p, std::size_t bytes) noexcept { host::memory::free(p, bytes); }
    static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
      tell();
      host::memory::copy_in(to, from, bytes);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
      tell();
      host::memory::copy_out(to, from, bytes);
    }

   private:
    static void tell() {
      if (source::launch_log* const log = source::launch_log::current()) {
        log->copied = true;
      }
    }
  };
  using queue = host::queue;

  /// Products in tiles of many rows, which share what is read of the right side: what is written
  /// has panels for caches and loops over registers of its own.
  struct blocks : default_blocks {
    static constexpr matmul_blocks product(const chip_description&, const matmul_work& w) {
      const auto size = [](std::int64_t n, int least, int most) {
        int up_to = least;
        while (up_to < n && up_to < most) {
          up_to *= 2;
        }
        return up_to;
      };
      return {w.m == 1 ? 1 : size(w.m, 8, 128), size(w.n, 32, 64), size(w.k, 16, 32)};
    }
  };

  struct codegen {
    /// Throws: as `strip_program`.
    static void run(context<portable>&, const tile::program& p, const tile::grid& grid,
                    std::span<const tile::argument> arguments) {
      made_for(p)(grid, arguments);
      if (source::launch_log* const log = source::launch_log::current()) {
        log->add(p, grid, arguments);
      }
    }

   private:
    /// The last programs of this thread, the newest first.
    static const strip_program& made_for(const tile::program& p) {
      constexpr std::size_t most = 128;
      static thread_local std::vector<strip_program> made;
      for (std::size_t i = 0; i < made.size(); ++i) {
        if (made[i].program() == p) {
          std::rotate(made.begin(), made.begin() + static_cast<std::ptrdiff_t>(i),
                      made.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          return made.front();
        }
      }
      if (made.size() == most) {
        made.pop_back();
      }
      made.insert(made.begin(), strip_program(p));
      return made.front();
    }
  };
};

}  // namespace ashlar::chip

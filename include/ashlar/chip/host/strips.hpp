// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "ashlar/chip/host/detail/scratch.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/chip/host/strips/machine.hpp"
#include "ashlar/chip/host/strips/plan.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/sharing.hpp"
#include "ashlar/tile/verify.hpp"

/// Programs that are made while the host runs, without a compiler.
namespace ashlar::chip {

/// A tile program that runs as it is on the host: each instruction is one vectorised loop over a
/// whole tile, and elementwise instructions that follow each other take turns strip by strip, so
/// that what is between them stays in the first cache. Copies share what was made.
///
/// Its results have the bits of `launch`, and of `tile::interpret` with the host's functions.
class strip_program {
 public:
  /// Throws: `program_error` where `verify` finds something; `strips::unsupported`.
  /// Cost:   under a millisecond for a program of a hundred instructions.
  explicit strip_program(const tile::program& p, const strips::options& how = {}) {
    tile::expect_valid(p);
    made_ = std::make_shared<const made>(p, how);
  }

  [[nodiscard]] const tile::program& program() const { return made_->written; }

  /// Runs the program for every place of the grid, in parallel.
  ///
  /// Effects: what two programs of the grid write to one place is unordered, except by atomics.
  /// Throws:  `launch_error` where arguments or grid do not fit; `execution_error`.
  /// Cost:    a few nanoseconds for each instruction and strip of 256 elements beside the work
  ///          itself. Blocks that lie in one piece are read and written where they are.
  void operator()(const tile::grid& grid, std::span<const tile::argument> arguments) const {
    tile::expect_matching(made_->written, arguments);
    const std::int64_t places = tile::places_of(grid);
    const strips::plan& plan = made_->plan;
    const bool direct = made_->apart && !tile::shares_memory(plan.code, arguments);
    try {
      parallel_for(places, made_->grain, [&](std::int64_t begin, std::int64_t end) {
        struct memory_of_strips;
        auto* const memory =
            static_cast<std::byte*>(host_kernels::detail::thread_scratch<memory_of_strips>(
                strips::machine::bytes_for(plan)));
        strips::machine m(plan, memory, grid, arguments, direct);
        for (std::int64_t n = begin; n < end; ++n) {
          m.run({n % grid[0], n / grid[0] % grid[1], n / grid[0] / grid[1]});
        }
      });
    } catch (const tile::execution_error& e) {
      throw tile::execution_error(e.reason,
                                  tile::written_place(plan.code, e.instruction, made_->written),
                                  e.place, e.number);
    }
  }

 private:
  struct made {
    made(const tile::program& p, const strips::options& how)
        : written(p),
          plan(tile::passes::optimise(p), how),
          grain(grain_of(plan.code)),
          apart(!tile::reads_what_it_writes(plan.code)) {}
    /// Programs of the grid for which a second thread pays.
    static std::int64_t grain_of(const tile::program& p) {
      std::int64_t elements = 1;
      bool loops = false;
      for (int i = 0; i < p.size; ++i) {
        elements += p.at(i).type.is_value() ? p.at(i).type.size() : 0;
        loops = loops || p.at(i).op == tile::opcode::loop || p.at(i).op == tile::opcode::repeat;
      }
      constexpr std::int64_t enough = 1 << 17;  // elements computed while threads start
      return std::max<std::int64_t>(enough / (loops ? elements * 32 : elements), 1);
    }
    tile::program written;
    strips::plan plan;
    std::int64_t grain;
    bool apart;  ///< no view is both read and written
  };
  std::shared_ptr<const made> made_{};
};

}  // namespace ashlar::chip

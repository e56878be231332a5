// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <source_location>
#include <span>

#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/npu/codegen/run.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/memory/host_pages.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"

namespace ashlar::chip {

/// The reference accelerator as a chip: a simulated device whose global memory is the host's.
///
/// Models: `ashlar::RunsTiles`. It has no kernels of its own: tile programs are compiled for it,
/// see docs/npu_codegen.md. Programs of `npu_isa` run by `run`.
template <npu_description D>
struct npu {
  static_assert(
      D.valid(),
      "ashlar::chip::npu<D>: D must have positive sizes, powers of two for alignments and "
      "1 to 13 DMA engines");
  static constexpr npu_description machine = D;
  static constexpr chip_description description = D.general();
  static constexpr int devices = D.devices;

  struct memory : ashlar::memory::host_pages {
    static constexpr std::size_t alignment = static_cast<std::size_t>(D.alignment);
    static constexpr bool host_addressable = true;
    static std::byte* allocate(std::size_t bytes) noexcept {
      return static_cast<std::byte*>(
          ::operator new(bytes, std::align_val_t{alignment}, std::nothrow));
    }
    static void free(std::byte* p, std::size_t) noexcept {
      ::operator delete(p, std::align_val_t{alignment});
    }
    static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
      std::memcpy(to, from, bytes);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
      std::memcpy(to, from, bytes);
    }
  };
  /// Programs run when they are launched; there is nothing to wait for.
  struct queue {
    void wait() noexcept {}
  };

  struct codegen {
    /// Compiles the program where it has not been yet, and runs it on the simulator.
    ///
    /// Throws: `launch_error`; `npu_codegen::unsupported`, `npu_codegen::out_of_scratchpad`; the
    ///         simulator's faults.
    template <class Context>
    static void run(Context&, const tile::program& program, const tile::grid& grid,
                    std::span<const tile::argument> arguments) {
      npu_codegen::run(cache(), program, grid, arguments);
    }
    /// Compiles the program; what comes back runs it. Where its arguments share memory, it is
    /// compiled once more, with one DMA engine, when it is launched so for the first time.
    ///
    /// Throws: `npu_codegen::unsupported`, `npu_codegen::out_of_scratchpad`.
    static npu_codegen::cached_program compile(const tile::program& program) {
      return {cache(), program};
    }
    /// Cycles of all tile programs that have run, on all its devices.
    static std::int64_t cycles() { return cache().cycles(); }

   private:
    static npu_codegen::program_cache& cache() {
      static npu_codegen::program_cache all(D);
      return all;
    }
  };

  /// `npu_isa::simulate` on this machine.
  static npu_isa::run_report run(const npu_isa::program& p,
                                 std::span<const npu_isa::region> regions,
                                 std::span<const std::int64_t> arguments = {},
                                 const npu_isa::run_options& options = {},
                                 std::source_location where = std::source_location::current()) {
    return npu_isa::simulate(D, p, regions, arguments, options, where);
  }
};

/// What an `npu` counts for a launch [s], where a cycle takes `1 / hertz`. Models `chip::Measure`.
///
/// Requires: nobody else uses the chip meanwhile.
template <class C>
struct npu_clock {
  double hertz = 1e9;

  template <class F>
  double operator()(const F& launch) const {
    const std::int64_t before = C::codegen::cycles();
    launch();
    return static_cast<double>(C::codegen::cycles() - before) / hertz;
  }
};

}  // namespace ashlar::chip

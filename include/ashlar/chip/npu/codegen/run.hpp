// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <list>
#include <mutex>
#include <ostream>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/chip/npu/codegen/compile.hpp"
#include "ashlar/chip/npu/report.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/detail/interpreter.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/sharing.hpp"

/// Launches: a compiled tile program on the simulator.
namespace ashlar::chip::npu_codegen {

namespace detail {

/// What a failed check means for the tile program. The machine does not say in which place of the
/// grid it was.
inline tile::execution_error stopped(const compiled& c, const isa::check_failed& fault) {
  const tile::program& p = c.program;
  const auto found = std::find(c.ir.sources.begin(), c.ir.sources.end(), fault.at.source);
  const auto at = static_cast<int>(found - c.ir.sources.begin());
  constexpr tile::grid nowhere{-1, -1, -1};
  if (at < p.size && p.at(at).op == tile::opcode::require) {
    return {tile::execution_error::requirement, at, nowhere, p.at(at).index};
  }
  return {tile::execution_error::loop_step, at, nowhere};
}

/// What the machine shows, as the lines that the interpreter would write.
class print_reader {
 public:
  print_reader(const tile::program& p, std::ostream& out) : p_(p), out_(out) {}

  /// First comes the place in the grid, then the elements.
  void operator()(const isa::printed& x) {
    if (!placed_) {
      std::memcpy(place_.data(), x.bytes.data(), sizeof(place_));
    } else {
      const auto at = static_cast<int>(x.number);
      const tile::tile_type& type = p_.type_of(p_.operand(at, 0));
      out_ << tile::detail::print_text(p_.at(at).index, place_, type, x.bytes.data());
    }
    placed_ = !placed_;
  }

 private:
  const tile::program& p_;
  std::ostream& out_;
  tile::grid place_{};
  bool placed_ = false;
};

}  // namespace detail

/// Runs a compiled program on its machine; views are read and written where the host has them.
///
/// `out` gets what the program prints; without one, the machine's own `options.print` does.
/// Throws: `launch_error` where the arguments or the grid do not fit; `execution_error` where a
///         `require` does not hold or a loop has no step, with an instruction of `c.program`.
inline isa::run_report launch(const compiled& c, const tile::grid& size,
                              std::span<const tile::argument> arguments,
                              isa::run_options options = {.timeline = false},
                              std::ostream* out = nullptr) {
  tile::expect_matching(c.program, arguments);
  for (const std::int64_t n : size) {
    if (n < 0) {
      throw tile::launch_error(-1, "an axis of the grid is negative");
    }
  }
  std::vector<isa::region> memory;
  for (const tile::argument& a : arguments) {
    const auto [first, last] = tile::reach_of(a);
    if (a.rank >= 0 && last > first) {
      memory.push_back(
          {first,
           {a.data + (first - static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(a.data))),
            static_cast<std::size_t>(last - first)}});
    }
  }
  std::vector<std::int64_t> words = words_for(c.ir, size, arguments);
  const auto held = static_cast<std::size_t>(c.ir.registers);
  std::vector<std::int64_t> table(words.begin() + static_cast<std::ptrdiff_t>(held), words.end());
  words.resize(held);
  if (!table.empty()) {
    memory.push_back(isa::region::of(std::span(table)));
    words.push_back(memory.back().address);
  }
  if (out != nullptr) {
    options.print = detail::print_reader(c.program, *out);
  }
  try {
    return isa::simulate(c.ir.machine, c.code, memory, words, options);
  } catch (const isa::check_failed& fault) {
    throw detail::stopped(c, fault);
  }
}

/// Keeps what was compiled for one machine, and counts what it ran.
class program_cache {
 public:
  explicit program_cache(const npu_description& d) : machine_(d) {}

  /// Cycles of all that `run` ran, by whatever thread.
  [[nodiscard]] std::int64_t cycles() const { return cycles_; }
  void count(std::int64_t cycles) { cycles_ += cycles; }

  /// Compiles the program unless that has happened before.
  const compiled& find(const tile::program& p, bool one_dma) {
    const std::lock_guard lock(mutex_);
    for (const entry& e : entries_) {
      if (e.one_dma == one_dma && e.source == p) {
        return e.made;
      }
    }
    entries_.push_front({p, one_dma, compile(machine_, p, {.one_dma = one_dma})});
    return entries_.front().made;
  }

 private:
  struct entry {
    tile::program source;
    bool one_dma;
    compiled made;
  };
  npu_description machine_;
  std::atomic<std::int64_t> cycles_ = 0;
  std::mutex mutex_;
  std::list<entry> entries_;
};

/// The program as it runs with these arguments, compiled unless that has happened before.
inline const compiled& prepare(program_cache& cache, const tile::program& p,
                               std::span<const tile::argument> arguments) {
  tile::expect_matching(p, arguments);
  return cache.find(p, tile::reads_what_it_writes(p) || tile::shares_memory(p, arguments));
}

/// Compiles where it has to, and runs: what `codegen::run` of the chip does. Programs print to
/// `std::cerr`.
inline isa::run_report run(program_cache& cache, const tile::program& p, const tile::grid& size,
                           std::span<const tile::argument> arguments) {
  isa::run_report r =
      launch(prepare(cache, p, arguments), size, arguments, {.timeline = false}, &std::cerr);
  cache.count(r.cycles);
  return r;
}

/// A program that a cache keeps compiled.
class cached_program {
 public:
  cached_program(program_cache& cache, const tile::program& p) : cache_(&cache), program_(p) {
    cache.find(p, tile::reads_what_it_writes(p));
  }
  [[nodiscard]] const tile::program& program() const { return program_; }
  void operator()(const tile::grid& size, std::span<const tile::argument> arguments) const {
    run(*cache_, program_, size, arguments);
  }

 private:
  program_cache* cache_;
  tile::program program_;
};

}  // namespace ashlar::chip::npu_codegen

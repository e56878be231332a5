// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ashlar/chip/llvm/gpu_math.hpp"
#include "ashlar/chip/llvm/lower.hpp"
#include "ashlar/chip/llvm/target.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/passes/few_rounds.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"
#include "ashlar/tile/verify.hpp"

namespace ashlar::chip {

/// One argument of a compiled kernel, as it lies in memory: 80 bytes on every target.
struct llvm_argument {
  void* data = nullptr;  ///< of a view: its element at (0, 0 ...)
  std::array<std::int64_t, tile::max_rank> extents{};
  std::array<std::int64_t, tile::max_rank> strides{};  ///< in elements
  std::int64_t bits = 0;                               ///< of a scalar: its `constant_bits`

  constexpr llvm_argument() = default;
  explicit llvm_argument(const tile::argument& a)
      : data(a.data), extents(a.extents), strides(a.strides), bits(a.bits) {}
};
static_assert(sizeof(llvm_argument) == 80 && sizeof(void*) == 8);

/// A compiled kernel, for one place of the grid: arguments, scratch memory, place, size of the
/// grid.
///
/// Returns: 0, or 1 + the number of the instruction that failed.
using llvm_function = std::int32_t (*)(const llvm_argument*, void*, std::int64_t, std::int64_t,
                                       std::int64_t, std::int64_t, std::int64_t, std::int64_t);

/// Who listens to `print`: a module that has one exports the pointers `__ashlar_print`, to such a
/// function, and `__ashlar_print_to`, which is given to it. Both are null at first: nobody listens.
///
/// `function` and `instruction` say which `print` it is, `elements` lie in row-major order.
using llvm_listener = void (*)(void* to, std::int32_t function, std::int32_t instruction,
                               const void* elements, std::int64_t place0, std::int64_t place1,
                               std::int64_t place2);

/// LLVM IR of some programs.
struct llvm_module {
  struct function {
    std::string symbol;
    std::int64_t scratch_bytes = 0;  ///< of the memory that one place of the grid works in
    std::int64_t shared_bytes = 0;   ///< of the memory that a block of threads shares, on GPUs
    int threads = 1;                 ///< of a block, exactly
    int blocks = 0;  ///< that should run on a processor of a GPU at once; 0: as many as can
  };
  std::string text{};
  std::vector<function> functions{};  ///< one for each program, in order
};

namespace llvm_codegen {

/// A C identifier: the program's name, and its number where there are several. What else a module
/// has begins with `__ashlar_`, so that a kernel may have any name.
inline std::string symbol_of(const tile::program& p, std::size_t number, std::size_t count) {
  std::string symbol = "ashlar_";
  for (const char c : p.name()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    symbol += plain ? c : '_';
  }
  return count == 1 ? symbol : symbol + "_" + std::to_string(number);
}

/// Throws: `launch_error` where a view is not aligned as `llvm_target::view_alignment` promises.
inline void expect_aligned(const llvm_target& target, std::span<const tile::argument> given) {
  for (std::size_t k = 0; target.view_alignment > 0 && k < given.size(); ++k) {
    const tile::argument& a = given[k];
    const auto bytes = static_cast<std::int64_t>(size_of(a.element));
    bool aligned = a.rank <= 0 || reinterpret_cast<std::uintptr_t>(a.data) %
                                          static_cast<std::uintptr_t>(target.view_alignment) ==
                                      0;
    bool empty = false;  // of which nothing is read or written
    for (int axis = 0; axis < a.rank; ++axis) {
      const auto u = static_cast<std::size_t>(axis);
      empty = empty || a.extents[u] == 0;
      aligned =
          aligned && (a.extents[u] <= 1 ||
                      (axis + 1 == a.rank ? a.strides[u] == 1
                                          : a.strides[u] * bytes % target.view_alignment == 0));
    }
    if (!aligned && !empty) {
      throw tile::launch_error(static_cast<int>(k), "the view is not aligned as the code expects");
    }
  }
}

/// Throws: `launch_error` where a view that is written shares memory with another against the
/// promise
///         of `llvm_target::views_apart`; what lies between a view's first element and its last
///         counts as its own.
inline void expect_apart(const llvm_target& target, const tile::program& p,
                         std::span<const tile::argument> given) {
  struct range {
    std::uintptr_t first = 0, end = 0;
  };
  const auto range_of = [](const tile::argument& a) {
    const auto bytes = static_cast<std::int64_t>(size_of(a.element));
    std::int64_t low = 0;
    std::int64_t high = bytes;
    for (int axis = 0; axis < a.rank; ++axis) {
      const auto u = static_cast<std::size_t>(axis);
      const std::int64_t far = (a.extents[u] - 1) * a.strides[u] * bytes;
      if (a.extents[u] == 0) {
        return range{};
      }
      (far < 0 ? low : high) += far;
    }
    const auto at = reinterpret_cast<std::uintptr_t>(a.data);
    return range{at + static_cast<std::uintptr_t>(low), at + static_cast<std::uintptr_t>(high)};
  };
  for (std::size_t k = 0; target.views_apart && k < given.size(); ++k) {
    for (std::size_t n = 0; n < given.size(); ++n) {
      const tile::argument& a = given[k];
      const tile::argument& b = given[n];
      if (n == k || a.rank < 0 || b.rank < 0 || !p.parameter_at(static_cast<int>(k)).written ||
          (a.data == b.data && a.rank == b.rank && a.strides == b.strides &&
           a.element == b.element)) {
        continue;
      }
      const range x = range_of(a);
      const range y = range_of(b);
      if (x.first < y.end && y.first < x.end) {
        throw tile::launch_error(static_cast<int>(k), "the view shares memory with another");
      }
    }
  }
}

/// What a chip's code is made from: the program after the passes, which keep every bit.
///
/// Throws: `program_error` where `verify` finds something.
inline tile::program optimised(const tile::program& p) {
  tile::expect_valid(p);
  return tile::passes::optimise(p);
}
/// The same for a target: a team that is promised views apart keeps rows of a few blocks in
/// registers.
inline tile::program optimised(const tile::program& p, const llvm_target& target) {
  tile::program better = optimised(p);
  if (target.in_teams() && target.views_apart) {
    // Two: see `team_fold`. More take registers, and a thread's time where they do not come.
    better = optimised(tile::passes::few_rounds(better, std::array{2}));
  }
  return better;
}

/// Writes programs as one module of textual LLVM IR, with opaque pointers; each as it is.
///
/// Throws: `program_error` where `verify` finds something; `llvm_unsupported`.
/// Cost:   linear in the length of the text, some 100 bytes per instruction of the IR.
inline llvm_module emit(std::span<const tile::program> programs, const llvm_target& target) {
  llvm_module m;
  std::set<std::string> declared;
  std::string bodies;
  for (std::size_t i = 0; i < programs.size(); ++i) {
    tile::expect_valid(programs[i]);
    lowering l(programs[i], target, static_cast<int>(i));
    m.functions.push_back({symbol_of(programs[i], i, programs.size())});
    bodies += "\n" + l.run(m.functions.back().symbol);
    m.functions.back().scratch_bytes = l.scratch_bytes();
    m.functions.back().shared_bytes = l.shared_bytes();
    m.functions.back().threads = l.threads();
    m.functions.back().blocks = l.blocks();
    declared.insert(l.declared().begin(), l.declared().end());
  }
  m.text = cat("target triple = \"", target.triple(), "\"\n");
  if (target.in_teams()) {
    m.text += "\n@__ashlar_shared = external addrspace(3) global [0 x i8], align 64\n";
    m.text += gpu_functions(bodies, declared);
  }
  m.text += bodies + "\n";
  for (const std::string& line : declared) {
    m.text += line + "\n";
  }
  // Loops that copy stay loops: the code needs no C library but for its functions.
  m.text += "\nattributes #0 = { nounwind \"no-builtins\" }\n";
  if (target.in_teams()) {
    std::string kernels;
    for (std::size_t i = 0; i < m.functions.size(); ++i) {
      m.text += cat("!", i, " = !{ptr @", m.functions[i].symbol, ", !\"kernel\", i32 1, ",
                    "!\"reqntidx\", i32 ", m.functions[i].threads,
                    ", !\"reqntidy\", i32 1, !\"reqntidz\", i32 1");
      const int blocks = m.functions[i].blocks;
      m.text += blocks > 0 ? cat(", !\"minctasm\", i32 ", blocks, "}\n") : "}\n";
      kernels += cat(i == 0 ? "!" : ", !", i);
    }
    m.text += cat("!nvvm.annotations = !{", kernels, "}\n");
  }
  return m;
}

}  // namespace llvm_codegen

}  // namespace ashlar::chip

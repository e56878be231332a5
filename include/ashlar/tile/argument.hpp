// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/type.hpp"

namespace ashlar::tile {

/// Arguments, or a grid, with which a program cannot be run.
struct launch_error final : error {
  int argument;        ///< its place; -1 where the grid or the number of arguments is at fault
  std::string reason;  ///< what must hold

  launch_error(int which, std::string why,
               std::source_location at = std::source_location::current())
      : error(at), argument(which), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::tile: " +
           (argument < 0 ? std::string()
                         : std::string("argument ") + std::to_string(argument) + ": ") +
           reason;
  }
};

/// Programs along the axes 0, 1 and 2.
using grid = std::array<std::int64_t, 3>;

/// A program that stopped while it ran.
struct execution_error final : error {
  static constexpr std::string_view requirement = "what the kernel requires does not hold";
  static constexpr std::string_view loop_step = "loop: the step must be above 0";

  std::string_view reason;  ///< a sentence
  int instruction;          ///< its place in the program; -1 where only the passes' copy is known
  grid place;               ///< of the program in the grid
  int number;               ///< of a `require`: the one that the kernel gave it

  execution_error(std::string_view why, int at, const grid& program_id, int id = 0,
                  std::source_location where = std::source_location::current())
      : error(where), reason(why), instruction(at), place(program_id), number(id) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text("ashlar::tile: ");
    if (instruction >= 0) {
      text.append(1, '%').append(std::to_string(instruction)).append(" of ");
    }
    return text.append("program (") + std::to_string(place[0]) + ", " + std::to_string(place[1]) +
           ", " + std::to_string(place[2]) + "): " + std::string(reason);
  }
};

/// Where instruction `i` of what passes made of a program, a loop or one that speaks, stands in the
/// program as it was written.
///
/// Passes keep the order of those. So the k-th here is the k-th there if they are as many; -1 where
/// they are not and several could be meant.
constexpr int written_place(const program& made, int i, const program& written) {
  const auto same = [&](const instruction& a) {
    return a.op == made.at(i).op && a.index == made.at(i).index;
  };
  int here = 0;
  int before = 0;
  for (int k = 0; k < made.size; ++k) {
    here += same(made.at(k)) ? 1 : 0;
    before += k < i && same(made.at(k)) ? 1 : 0;
  }
  int there = 0;
  int found = -1;
  for (int k = 0; k < written.size; ++k) {
    if (same(written.at(k))) {
      found = there == before || found < 0 ? k : found;
      ++there;
    }
  }
  return there == here || there == 1 ? found : -1;
}

/// What a kernel is run with: a view in memory, or a scalar. Owns nothing.
struct argument {
  std::byte* data = nullptr;  ///< of a view: its element at (0, 0 ...)
  dtype element = dtype::float32;
  int rank = -1;  ///< -1 for a scalar
  bool writable = false;
  std::array<std::int64_t, max_rank> extents{};
  std::array<std::int64_t, max_rank> strides{};  ///< in elements; may be 0 or negative
  std::int64_t bits = 0;                         ///< of a scalar: its `constant_bits`

  constexpr argument() = default;

  template <Scalar T>
  constexpr argument(T scalar) : element(dtype_of<T>) {
    bits = constant_bits(static_cast<compute_type<T>>(scalar));
  }

  /// Throws: `launch_error` where there are more than four axes or not as many strides.
  template <class T>
    requires Scalar<std::remove_const_t<T>>
  argument(T* first, std::span<const std::int64_t> shape, std::span<const std::int64_t> steps)
      : element(dtype_of<std::remove_const_t<T>>), writable(!std::is_const_v<T>) {
    if (shape.size() > static_cast<std::size_t>(max_rank) || steps.size() != shape.size()) {
      throw launch_error(-1, "a view has at most 4 axes, and one stride for each");
    }
    rank = static_cast<int>(shape.size());
    // Only a view for writing is written through.
    data = reinterpret_cast<std::byte*>(const_cast<std::remove_const_t<T>*>(first));
    for (std::size_t a = 0; a < shape.size(); ++a) {
      extents[a] = shape[a];
      strides[a] = steps[a];
    }
  }

  template <class T>
  argument(const ashlar::view<T>& v)
      : argument(v.data, v.shape(), {v.spec->stride.data(), static_cast<std::size_t>(v.rank())}) {}
};

/// Checks that a program can be run with these arguments.
///
/// Throws: `launch_error` where their number, kinds, element types or ranks are not the
///         parameters', an extent is negative, memory is missing or may not be written.
inline void expect_matching(const program& p, std::span<const argument> arguments) {
  if (arguments.size() != static_cast<std::size_t>(p.parameter_count)) {
    throw launch_error(-1, std::string(p.name()) + " takes " + std::to_string(p.parameter_count) +
                               " arguments, not " + std::to_string(arguments.size()));
  }
  for (int k = 0; k < p.parameter_count; ++k) {
    const parameter& wanted = p.parameter_at(k);
    const argument& given = arguments[static_cast<std::size_t>(k)];
    if (given.rank != wanted.rank) {
      const auto shown = [](int rank) {
        return rank < 0 ? std::string("a scalar")
                        : std::string("a view of rank ") + std::to_string(rank);
      };
      throw launch_error(k, "it is " + shown(given.rank) + "; give " + shown(wanted.rank));
    }
    if (given.element != wanted.element) {
      throw launch_error(k, std::string("it is of ") + std::string(name_of(given.element)) +
                                "; give " + std::string(name_of(wanted.element)));
    }
    bool empty = false;
    for (int a = 0; a < given.rank; ++a) {
      const std::int64_t n = given.extents[static_cast<std::size_t>(a)];
      if (n < 0) {
        throw launch_error(k, std::string("axis ") + std::to_string(a) + " has a negative extent");
      }
      empty = empty || n == 0;
    }
    if (given.rank >= 0 && given.data == nullptr && !empty) {
      throw launch_error(k, "it has no memory");
    }
    if (wanted.written && !given.writable) {
      throw launch_error(k, "the kernel writes it, and it is only for reading");
    }
  }
}

}  // namespace ashlar::tile

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "ashlar/chip/host/codegen/reduce.hpp"
#include "ashlar/chip/host/strips/kernels.hpp"
#include "ashlar/tile/opcode.hpp"

/// What a plan is made of.
namespace ashlar::chip::strips {

struct options {
  /// Elements of a group's values that are computed before the next ones: they stay in the first
  /// cache, and one look-up of what to do is spread over all of them.
  std::int64_t strip = 256;
};

/// Most tiles that one reduction or scan takes.
inline constexpr int max_folded = 8;

/// A value as an operand: where it lies, and how far its elements are apart.
struct place {
  int value = -1;
  bool fixed = false;        ///< sixteen elements stand for all of them
  bool local = false;        ///< only the strip at hand is there
  std::int64_t element = 0;  ///< bytes
};

/// One kernel over the elements of one tile, or of a strip of it.
struct call {
  kernel run = nullptr;
  opcode op = opcode::add;
  tile::rounding how = tile::rounding::nearest_even;
  int count = 0;
  place out{};
  std::array<place, 3> in{};
};

enum class step_kind : std::uint8_t {
  group,  ///< calls, strip by strip
  leaf,
  load,
  store,
  gather,
  scatter,
  splat,  ///< a scalar, sixteen times
  shape,
  dot,
  dot_scaled,
  random_bits,
  fold,
  loop,
  repeat,
  branch,
  say
};

struct step {
  step_kind kind;
  int at = -1;                        ///< the instruction
  std::int64_t size = 0;              ///< elements
  std::vector<call> calls{};          ///< of a group
  std::vector<int> through{};         ///< stores whose tile a group may write to where it belongs
  std::array<int, 2> blocks{-1, -1};  ///< of an instruction with regions
  int more = -1;                      ///< of a fold: which
  std::vector<int> wide{};            ///< of a product: rooms for its narrow operands, widened
};

/// A reduction or scan, whose region runs over many elements at once where it can.
struct fold_plan {
  host_codegen::detail::axis_extents extents{};
  std::vector<call> body{};                       ///< of the region, on `most` elements at a time
  std::vector<std::pair<place, int>> captured{};  ///< scalars from around it: sixteen times each
  std::vector<int> leaves{};                      ///< instructions of the region that run once
  std::vector<place> given{};                     ///< what the region gives
  std::vector<int> sums{}, blocks{}, results{};   ///< values: by operand
  kernel single = nullptr;                        ///< of a region that is one operation
  opcode op = opcode::add;
  bool by_element = false;  ///< the region holds more than elementwise operations
  static constexpr std::int64_t most = 256;
};

}  // namespace ashlar::chip::strips

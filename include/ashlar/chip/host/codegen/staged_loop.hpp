// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "ashlar/chip/host/codegen/memory.hpp"
#include "ashlar/chip/host/codegen/memory_steps.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// Loops over lines: where a round's blocks lie is found before its body, and for as many rounds at
/// once as all of them are inside their views.
///
/// The loop that runs most often then has no calls. Vectors live through no call, so that one for a
/// line over the edge, however rare, would put all that the loop carries into memory.
namespace ashlar::chip::host_codegen::detail {

/// The instructions from `Begin` to `End`, which is a `yield` or the end of the program.
template <class Source, int Begin, int End>
ASHLAR_TILE_STEP void run_region(frame<Source>& f);
template <class Source, int Yield, int To>
ASHLAR_TILE_STEP void carry(frame<Source>& f);

/// One load or store of a staged loop.
template <class Source, int I>
class staged_line {
  using facts_of = facts<Source>;
  static constexpr tile::instruction i = instruction_of<Source, I>;
  static constexpr bool writes = i.op == tile::opcode::store;
  static constexpr int counter = tile::at(facts_of::structure.owner, I) + 1;
  static constexpr tile::tile_type type =
      writes ? facts_of::code.type_of(facts_of::code.operand(I, 0)) : i.type;
  static constexpr std::int64_t size = type.size();
  static constexpr int rank = facts_of::code.parameter_at(i.index).rank;
  using T = scalar_of<type.element>;

 public:
  /// The line of the round that the counter stands at. Of one that runs over the end of its view
  /// the first elements are read and written; one that is cut in another way is copied.
  ///
  /// Returns: the end of the counters for which as much is there, in rounds of `step`; the least
  ///          number where that is this round alone.
  ASHLAR_TILE_STEP std::int64_t find(frame<Source>& f, std::int64_t step) {
    const view_in_frame& v = f.views[i.index];
    const auto at = offsets < Source, I, writes ? 1 : 0 > (f);
    std::uint64_t place = 0;  // an offset outside the view may be any number
    std::uint64_t forward = 0;
    unsigned inside = v.strides[rank - 1] == 1;  // the first element is, and those in a row with it
    std::int64_t end = std::numeric_limits<std::int64_t>::max();
    constexpr auto moves = [](int k) {
      return facts_of::code.operand(I, k + (writes ? 1 : 0)) == counter;
    };
    [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
      constexpr auto room = [](int k) { return k == rank - 1 ? size : 1; };
      ((place += static_cast<std::uint64_t>(at[K]) * static_cast<std::uint64_t>(v.strides[K])),
       ...);
      ((inside &= static_cast<unsigned>(at[K] >= 0) & static_cast<unsigned>(at[K] < v.extents[K])),
       ...);
      ((forward +=
        moves(K) ? static_cast<std::uint64_t>(step) * static_cast<std::uint64_t>(v.strides[K]) : 0),
       ...);
      ((end = moves(K) ? std::min(end, v.extents[K] - room(K) + 1) : end), ...);
    }(std::make_integer_sequence<int, rank>{});
    const std::int64_t there = inside != 0 ? v.extents[rank - 1] - at[rank - 1] : 0;
    forward_ = static_cast<std::int64_t>(forward * sizeof(T));
    copied_ = inside == 0 || (!simd::Lane<T> && there < size);
    if (!copied_) [[likely]] {
      f.lines[I] = f.views[i.index].data + static_cast<std::int64_t>(place * sizeof(T));
      f.there[I] = std::min(there, size);
      return moves(rank - 1) && there < size ? std::numeric_limits<std::int64_t>::min() : end;
    }
    if constexpr (!writes) {
      gather_block<type, rank>(copy_, f.arguments[i.index], at, tile::constant_value<T>(i.value));
    }
    f.lines[I] = reinterpret_cast<std::byte*>(copy_);
    f.there[I] = size;
    return std::numeric_limits<std::int64_t>::min();
  }
  ASHLAR_TILE_STEP void advance(frame<Source>& f) const { f.lines[I] += forward_; }
  /// Writes what of a copied line is inside.
  ASHLAR_TILE_STEP void leave(frame<Source>& f) const {
    if constexpr (writes) {
      if (copied_) {
        scatter_block<type, rank>(copy_, f.arguments[i.index], offsets<Source, I, 1>(f));
      }
    }
  }

 private:
  std::int64_t forward_;  ///< bytes from a round to the next
  bool copied_;
  alignas(64) T copy_[static_cast<std::size_t>(size)];
};

template <class Source, int... I>
struct staged_line_set : staged_line<Source, I>... {};

/// The rounds of loop `I` from `n` to `end`, whose carried values are set.
template <class Source, int I>
ASHLAR_TILE_STEP void staged_loop(frame<Source>& f, std::int64_t n, std::int64_t end,
                                  std::int64_t step) {
  constexpr int yield = facts<Source>::first_yield(I);
  constexpr auto& list = facts<Source>::template staged_lines<I>;
  [&]<std::size_t... K>(std::index_sequence<K...>) ASHLAR_TILE_LAMBDA {
    staged_line_set<Source, list[K]...> lines;
    for (bool more = n < end; more;) {
      static_cast<slot<Source, I + 1>&>(f).x.value = n;
      std::int64_t until = end;
      ((until = std::min(until, lines.staged_line<Source, list[K]>::find(f, step))), ...);
      for (;;) {
        static_cast<slot<Source, I + 1>&>(f).x.value = n;
        run_region<Source, I + 1, yield>(f);
        carry<Source, yield, I + 2>(f);
        more = end - n > step;
        if (!more) {
          break;
        }
        n += step;
        if (n >= until) {
          break;
        }
        (lines.staged_line<Source, list[K]>::advance(f), ...);
      }
      (lines.staged_line<Source, list[K]>::leave(f), ...);
    }
  }(std::make_index_sequence<list.size()>{});
}

}  // namespace ashlar::chip::host_codegen::detail

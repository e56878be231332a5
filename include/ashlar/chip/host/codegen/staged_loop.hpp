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
ASHLAR_INLINE void run_region(frame<Source>& f);
template <class Source, int Yield, int To>
ASHLAR_INLINE void carry(frame<Source>& f);

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
  /// The line of the round that the counter stands at; a copy of it where it is not all there.
  ///
  /// Returns: the end of the counters for which it is all there, in rounds of `step`; the least
  ///          number where it is not.
  ASHLAR_INLINE std::int64_t find(frame<Source>& f, std::int64_t step) {
    const view_in_frame& v = f.views[i.index];
    const auto at = offsets < Source, I, writes ? 1 : 0 > (f);
    std::uint64_t place = 0;  // an offset outside the view may be any number
    std::uint64_t forward = 0;
    unsigned whole = v.strides[rank - 1] == 1;
    std::int64_t end = std::numeric_limits<std::int64_t>::max();
    unrolled<rank>([&](auto k) __attribute__((always_inline)) {
      const auto stride = static_cast<std::uint64_t>(v.strides[k]);
      const std::int64_t most = v.extents[k] - (k == rank - 1 ? size : 1);
      const std::int64_t o = at[static_cast<std::size_t>(k())];
      place += static_cast<std::uint64_t>(o) * stride;
      whole &= static_cast<unsigned>(o >= 0) & static_cast<unsigned>(o <= most);
      if constexpr (facts_of::code.operand(I, k + (writes ? 1 : 0)) == counter) {
        forward += static_cast<std::uint64_t>(step) * stride;
        end = std::min(end, most + 1);
      }
    });
    forward_ = static_cast<std::int64_t>(forward * sizeof(T));
    copied_ = whole == 0;
    if (!copied_) [[likely]] {
      f.lines[I] = f.views[i.index].data + static_cast<std::int64_t>(place * sizeof(T));
      return end;
    }
    if constexpr (!writes) {
      gather_block<type, rank>(copy_, f.arguments[i.index], at, tile::constant_value<T>(i.value));
    }
    f.lines[I] = reinterpret_cast<std::byte*>(copy_);
    return std::numeric_limits<std::int64_t>::min();
  }
  ASHLAR_INLINE void advance(frame<Source>& f) const { f.lines[I] += forward_; }
  /// Writes what of a copied line is inside.
  ASHLAR_INLINE void leave(frame<Source>& f) const {
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

/// The rounds of loop `I` from `n` to `end`, whose carried values are set.
template <class Source, int I>
ASHLAR_INLINE void staged_loop(frame<Source>& f, std::int64_t n, std::int64_t end,
                               std::int64_t step) {
  constexpr int yield = facts<Source>::first_yield(I);
  constexpr auto& list = facts<Source>::template staged_lines<I>;
  [&]<std::size_t... K>(std::index_sequence<K...>) __attribute__((always_inline)) {
    std::tuple<staged_line<Source, list[K]>...> lines;
    for (bool more = n < end; more;) {
      f.template get<I + 1>().value = n;
      const std::int64_t until = std::min({std::get<K>(lines).find(f, step)...});
      for (;;) {
        f.template get<I + 1>().value = n;
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
        (std::get<K>(lines).advance(f), ...);
      }
      (std::get<K>(lines).leave(f), ...);
    }
  }
  (std::make_index_sequence<list.size()>{});
}

}  // namespace ashlar::chip::host_codegen::detail

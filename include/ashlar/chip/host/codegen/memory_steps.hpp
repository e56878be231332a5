// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/memory.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/program.hpp"

/// Instructions that read or write views.
namespace ashlar::chip::host_codegen::detail {

/// The scalar operands from `From` on: offsets.
template <class Source, int I, int From>
ASHLAR_TILE_STEP auto offsets(frame<Source>& f) {
  constexpr int n = facts<Source>::code.at(I).count - From;
  return [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
    return std::array<std::int64_t, static_cast<std::size_t>(n)>{
        static_cast<operand_slot<Source, I, From + K>&>(f).x.value...};
  }(std::make_integer_sequence<int, n>{});
}

template <class Source, int I>
ASHLAR_TILE_STEP void load(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using T = scalar_of<i.type.element>;
  auto& to = static_cast<slot<Source, I>&>(f).x;
  if constexpr (facts<Source>::is_staged_line(I)) {
    constexpr int packets = tile_value<T, i.type.size()>::packets;
    const T* const from = reinterpret_cast<const T*>(f.lines[I]);
    if constexpr (simd::Lane<T>) {
      if (f.there[I] < i.type.size()) [[unlikely]] {
        const T fill = tile::constant_value<T>(i.value);
        const auto there = static_cast<int>(f.there[I]);
        each_vector_in_loop<packets>([&](auto k) ASHLAR_TILE_LAMBDA {
          const int n = std::clamp(there - k * lanes, 0, lanes);
          to.part[k] = simd::load_partial(from + (n > 0 ? k * lanes : 0), n, fill);
        });
        return;
      }
    }
    each_vector_in_loop<packets>(
        [&](auto k) ASHLAR_TILE_LAMBDA { to.part[k] = load_packet<T>(from + k * lanes); });
  } else {
    constexpr int view_rank = facts<Source>::code.parameter_at(i.index).rank;
    const T fill = tile::constant_value<T>(i.value);
    const auto at = offsets<Source, I, 0>(f);
    const auto b = block<const T, i.type, view_rank>::make(f.views[i.index], at);
    if constexpr (i.type.rank == 0) {
      to.value = b.whole ? b.data[b.at] : fill;
    } else if constexpr (facts<Source>::is_direct(I)) {
      if (b.whole && b.unit()) [[likely]] {
        to.data = b.data + b.at;
        to.row = b.stride[0];
      } else {
        gather_block<i.type, view_rank>(to.copy, f.arguments[i.index], at, fill);
        to.data = to.copy;
        to.row = i.type.extent(1);
      }
      to.column = 1;
    } else {
      load_block<i.type, view_rank, T>(to, b, f.arguments[i.index], at, fill);
    }
  }
}

template <class Source, int I>
ASHLAR_TILE_STEP void store(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  constexpr tile::tile_type type = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
  using T = scalar_of<type.element>;
  const auto& from = static_cast<operand_slot<Source, I, 0>&>(f).x;
  if constexpr (facts<Source>::is_staged_line(I)) {
    constexpr int packets = tile_value<T, type.size()>::packets;
    T* const to = reinterpret_cast<T*>(f.lines[I]);
    if constexpr (simd::Lane<T>) {
      if (f.there[I] < type.size()) [[unlikely]] {
        const auto there = static_cast<int>(f.there[I]);
        each_vector_in_loop<packets>([&](auto k) ASHLAR_TILE_LAMBDA {
          const int n = std::clamp(there - k * lanes, 0, lanes);
          simd::store_partial(to + (n > 0 ? k * lanes : 0), n, from.part[k]);
        });
        return;
      }
    }
    each_vector_in_loop<packets>(
        [&](auto k) ASHLAR_TILE_LAMBDA { store_packet<T>(to + k * lanes, from.part[k]); });
  } else {
    constexpr int view_rank = facts<Source>::code.parameter_at(i.index).rank;
    const auto at = offsets<Source, I, 1>(f);
    const auto b = block<T, type, view_rank>::make(f.views[i.index], at);
    if constexpr (type.rank == 0) {
      if (b.whole) {
        b.data[b.at] = from.value;
      }
    } else {
      store_block<facts<Source>::may_stream, type, view_rank, T>(from, b, f.arguments[i.index], at,
                                                                 f.streams);
    }
  }
}

/// Calls `f(place in the tile, pointer or null)` for the element that each index names.
template <class Source, int I, int From, class T, std::int64_t Size, class F>
ASHLAR_TILE_STEP void each_indexed(frame<Source>& f, const F& visit) {
  constexpr int n = facts<Source>::code.at(I).count - From;
  const auto in_memory = [](const auto& v) {
    using V = std::remove_cvref_t<decltype(v)>;
    if constexpr (std::is_same_v<V, scalar_value<std::int64_t>>) {
      return v;
    } else {
      return tile_memory<std::int64_t, V::size>(v);
    }
  };
  const auto at = [](const auto& v, std::int64_t k) {
    if constexpr (requires { v.value; }) {
      return v.value;
    } else {
      return v.element[k];
    }
  };
  [&]<int... K>(std::integer_sequence<int, K...>) {
    const auto indices =
        std::tuple(in_memory(static_cast<operand_slot<Source, I, From + K>&>(f).x)...);
    for (std::int64_t k = 0; k < Size; ++k) {
      const std::array<std::int64_t, static_cast<std::size_t>(n)> index{
          at(std::get<K>(indices), k)...};
      visit(k, element_at<T>(f.arguments[instruction_of<Source, I>.index], index));
    }
  }(std::make_integer_sequence<int, n>{});
}

template <class Source, int I>
void gather(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using T = scalar_of<i.type.element>;
  const T fill = tile::constant_value<T>(i.value);
  constexpr std::int64_t size = i.type.size();
  tile_memory<T, size> to;
  each_indexed<Source, I, 0, const T, size>(
      f, [&](std::int64_t k, const T* p) { to.element[k] = p != nullptr ? *p : fill; });
  if constexpr (i.type.rank == 0) {
    static_cast<slot<Source, I>&>(f).x.value = to.element[0];
  } else {
    to.read_into(static_cast<slot<Source, I>&>(f).x);
  }
}

template <class Source, int I>
void scatter(frame<Source>& f) {
  constexpr tile::tile_type type = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
  using T = scalar_of<type.element>;
  const auto run = [&](const T* from) {
    each_indexed<Source, I, 1, T, type.size()>(f, [&](std::int64_t k, T* p) {
      if (p != nullptr) {
        change<instruction_of<Source, I>.op>(p, from[k]);
      }
    });
  };
  const auto& from = static_cast<operand_slot<Source, I, 0>&>(f).x;
  if constexpr (type.rank == 0) {
    run(&from.value);
  } else {
    run(tile_memory<T, type.size()>(from).element);
  }
}

}  // namespace ashlar::chip::host_codegen::detail

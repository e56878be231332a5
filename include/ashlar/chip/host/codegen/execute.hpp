// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/dot.hpp"
#include "ashlar/chip/host/codegen/elementwise_steps.hpp"
#include "ashlar/chip/host/codegen/memory_steps.hpp"
#include "ashlar/chip/host/codegen/region_steps.hpp"
#include "ashlar/chip/host/codegen/shape.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// One step per instruction, chosen while compiling: what remains is straight code and loops.
namespace ashlar::chip::host_codegen {

namespace detail {

template <class Source, int I>
void say(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  const auto& x = static_cast<operand_slot<Source, I, 0>&>(f).x;
  using V = std::remove_cvref_t<decltype(x)>;
  using T = typename V::value_type;
  const auto visit = [&](const T* p, std::int64_t n) {
    if constexpr (i.op == opcode::require) {
      for (std::int64_t k = 0; k < n; ++k) {
        if (!p[k]) {
          throw tile::execution_error(tile::execution_error::requirement, written_place<Source, I>,
                                      f.place, i.index);
        }
      }
    } else {
      const tile::tile_type& type = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
      const std::string line = tile::printed_line(i.index, f.place, type, [&](std::int64_t k) {
        return tile::constant_bits(static_cast<compute_type<T>>(p[k]));
      });
      std::fputs(line.c_str(), stderr);
    }
  };
  if constexpr (requires { x.value; }) {
    visit(&x.value, 1);
  } else {
    visit(tile_memory<T, V::size>(x).element, V::size);
  }
}

template <class Source, int I>
void random_bits(frame<Source>& f) {
  const auto seed = static_cast<std::uint64_t>(static_cast<operand_slot<Source, I, 0>&>(f).x.value);
  const auto word = [seed](std::int64_t counter) {
    return static_cast<std::int32_t>(philox_block(seed, static_cast<std::uint64_t>(counter))[0]);
  };
  const auto& counters = static_cast<operand_slot<Source, I, 1>&>(f).x;
  auto& to = static_cast<slot<Source, I>&>(f).x;
  if constexpr (requires { to.value; }) {
    to.value = word(counters.value);
  } else {
    constexpr std::int64_t size = std::remove_cvref_t<decltype(to)>::size;
    const tile_memory<std::int64_t, size> from(counters);
    tile_memory<std::int32_t, size> bits;
    for (std::int64_t k = 0; k < size; ++k) {
      bits.element[k] = word(from.element[k]);
    }
    bits.read_into(to);
  }
}

template <class Source, int I>
ASHLAR_TILE_STEP void step(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  constexpr tile::opcode_kind kind = info(i.op).kind;
  using facts_of = facts<Source>;
  if constexpr (i.op == opcode::region_input) {
    // Set by the instruction that owns the region.
  } else if constexpr (i.op == opcode::constant) {
    static_cast<slot<Source, I>&>(f).x.value =
        tile::constant_value<scalar_of<i.type.element>>(i.value);
  } else if constexpr (i.op == opcode::iota) {
    fill_iota<i.type, i.index>(static_cast<slot<Source, I>&>(f).x);
  } else if constexpr (i.op == opcode::program_id) {
    static_cast<slot<Source, I>&>(f).x.value = f.place[static_cast<std::size_t>(i.index)];
  } else if constexpr (i.op == opcode::grid_size) {
    static_cast<slot<Source, I>&>(f).x.value = f.grid[static_cast<std::size_t>(i.index)];
  } else if constexpr (i.op == opcode::extent) {
    static_cast<slot<Source, I>&>(f).x.value =
        f.views[i.index].extents[static_cast<std::size_t>(i.value)];
  } else if constexpr (i.op == opcode::argument) {
    static_cast<slot<Source, I>&>(f).x.value =
        tile::constant_value<scalar_of<i.type.element>>(f.arguments[i.index].bits);
  } else if constexpr (i.op == opcode::load) {
    load<Source, I>(f);
  } else if constexpr (i.op == opcode::store) {
    store<Source, I>(f);
  } else if constexpr (i.op == opcode::gather) {
    gather<Source, I>(f);
  } else if constexpr (kind == opcode_kind::memory) {
    scatter<Source, I>(f);
  } else if constexpr (kind == opcode_kind::shape) {
    constexpr tile::tile_type from = facts_of::code.type_of(facts_of::code.operand(I, 0));
    if constexpr (i.op == opcode::join) {
      join<from>(static_cast<slot<Source, I>&>(f).x, static_cast<operand_slot<Source, I, 0>&>(f).x,
                 static_cast<operand_slot<Source, I, 1>&>(f).x);
    } else {
      reshaped<i.op, from, i.type, i.op == opcode::split ? i.index : i.value>(
          static_cast<slot<Source, I>&>(f).x, static_cast<operand_slot<Source, I, 0>&>(f).x);
    }
  } else if constexpr (i.op == opcode::dot) {
    dot<facts_of::code.type_of(facts_of::code.operand(I, 0)), i.type, order_of<Source>>(
        static_cast<slot<Source, I>&>(f).x, static_cast<operand_slot<Source, I, 0>&>(f).x,
        static_cast<operand_slot<Source, I, 1>&>(f).x,
        static_cast<operand_slot<Source, I, 2>&>(f).x);
  } else if constexpr (i.op == opcode::dot_scaled) {
    dot_scaled<facts_of::code.type_of(facts_of::code.operand(I, 0)), i.type>(
        static_cast<slot<Source, I>&>(f).x, static_cast<operand_slot<Source, I, 0>&>(f).x,
        static_cast<operand_slot<Source, I, 1>&>(f).x,
        static_cast<operand_slot<Source, I, 2>&>(f).x,
        static_cast<operand_slot<Source, I, 3>&>(f).x,
        static_cast<operand_slot<Source, I, 4>&>(f).x);
  } else if constexpr (i.op == opcode::reduce || i.op == opcode::scan) {
    fold<Source, I>(f);
  } else if constexpr (i.op == opcode::loop) {
    loop<Source, I>(f);
  } else if constexpr (i.op == opcode::repeat) {
    repeat<Source, I>(f);
  } else if constexpr (i.op == opcode::branch) {
    branch<Source, I>(f);
  } else if constexpr (i.op == opcode::result) {
    result<Source, I>(f);
  } else if constexpr (i.op == opcode::random_bits) {
    random_bits<Source, I>(f);
  } else if constexpr (i.op == opcode::print || i.op == opcode::require) {
    say<Source, I>(f);
  } else {
    elementwise<Source, I>(f);
  }
}

/// The instructions `list[At] ...` of a region: groups of packet-wise ones, else one by one.
template <class Source, auto& List, std::size_t At>
ASHLAR_TILE_STEP void run_from(frame<Source>& f) {
  constexpr std::size_t end = List.size() - 1;
  if constexpr (At < end) {
    constexpr std::size_t length = facts<Source>::group_length(List, At);
    if constexpr (length > 1) {
      [&]<std::size_t... K>(std::index_sequence<K...>) ASHLAR_TILE_LAMBDA {
        run_group(f, std::integer_sequence<int, List[At + K]...>{});
      }(std::make_index_sequence<length>{});
      run_from<Source, List, At + length>(f);
    } else {
      step<Source, List[At]>(f);
      run_from<Source, List, At + 1>(f);
    }
  }
}

template <class Source, int Begin, int End>
ASHLAR_TILE_STEP void run_region(frame<Source>& f) {
  constexpr auto& list = facts<Source>::template top_level<Begin, End>;
  if constexpr (facts<Source>::has_groups(list)) {
    run_from<Source, facts<Source>::template top_level<Begin, End>, 0>(f);
  } else {
    [&]<std::size_t... K>(std::index_sequence<K...>) ASHLAR_TILE_LAMBDA {
      (step<Source, list[K]>(f), ...);
    }(std::make_index_sequence<list.size() - 1>{});
  }
}

}  // namespace detail

/// Calls `f(frame)` with a frame of the calling thread.
template <class Source, class F>
ASHLAR_TILE_STEP void with_frame(const tile::argument* arguments, const tile::grid& grid,
                                 const F& f) {
  const auto run = [&](frame<Source>& own) ASHLAR_TILE_LAMBDA {
    own.arguments = arguments;
    [&]<std::size_t... K>(std::index_sequence<K...>) ASHLAR_TILE_LAMBDA {
      ((own.views[K] = view_in_frame(arguments[K])), ...);
    }(std::make_index_sequence<facts<Source>::code.parameter_count>{});
    own.grid = grid;
    own.streams = false;
    f(own);
  };
  constexpr std::size_t most_on_stack = 64 * 1024;
  if constexpr (sizeof(frame<Source>) > most_on_stack) {
    static thread_local const auto kept = std::make_unique_for_overwrite<frame<Source>>();
    run(*kept);
  } else {
    frame<Source> own;
    run(own);
  }
}

/// Programs `begin` to `end` of the grid, of which the first axis counts fastest; `streams`: see
/// `facts::streams`.
///
/// One frame serves them all: what it takes from the arguments and what does not depend on the
/// place is done once, which weighs where a program is short.
/// Requires: begin < end.
template <class Source>
ASHLAR_TILE_PROGRAM void execute(const tile::argument* arguments, std::int64_t begin,
                                 std::int64_t end, const tile::grid& grid, bool streams = false) {
  with_frame<Source>(arguments, grid, [&](frame<Source>& f) ASHLAR_TILE_LAMBDA {
    f.place = {begin % grid[0], begin / grid[0] % grid[1], begin / grid[0] / grid[1]};
    f.streams = streams;
    for (std::int64_t n = begin;;) {
      detail::run_region<Source, 0, facts<Source>::size>(f);
      if (++n == end) {
        break;
      }
      if (++f.place[0] == grid[0]) {
        f.place[0] = 0;
        if (++f.place[1] == grid[1]) {
          f.place[1] = 0;
          ++f.place[2];
        }
      }
    }
  });
}

}  // namespace ashlar::chip::host_codegen

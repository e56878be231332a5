// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/elementwise.hpp"
#include "ashlar/chip/host/codegen/shape.hpp"
#include "ashlar/chip/host/codegen/source.hpp"
#include "ashlar/chip/host/codegen/value.hpp"
#include "ashlar/config.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/scalar.hpp"

/// Elementwise instructions: one by one on small tiles, packet by packet through several on large.
namespace ashlar::chip::host_codegen::detail {

/// One packet of an elementwise instruction, of the packets of its operands.
template <class Source, int I, class... Packet>
ASHLAR_TILE_STEP auto elementwise_packet(const Packet&... x) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using A = scalar_of<facts<Source>::code.type_of(facts<Source>::code.operand(I, 0)).element>;
  using R = scalar_of<i.type.element>;
  if constexpr (i.op == opcode::cast) {
    return apply_cast<R, A>(x..., static_cast<tile::rounding>(i.index));
  } else if constexpr (i.op == opcode::bitcast) {
    return apply_bitcast<R, A>(x...);
  } else if constexpr (i.op == opcode::select) {
    return apply_select<R>(x...);
  } else if constexpr (i.op == opcode::fma) {
    return apply_fma<R>(x...);
  } else {
    return apply<i.op>(std::type_identity<A>{}, x...);
  }
}

/// Whether an instruction is long code for each packet: a function, or integers that a machine may
/// not have vectors of.
constexpr bool is_long(opcode op, dtype operand) {
  return op == opcode::exp || op == opcode::log || op == opcode::tanh || op == opcode::sigmoid ||
         op == opcode::erf || operand == dtype::int64;
}

template <class Source, int I>
ASHLAR_TILE_STEP void elementwise(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  auto& to = static_cast<slot<Source, I>&>(f).x;
  if constexpr (i.type.rank > 0) {
    constexpr int packets = std::remove_cvref_t<decltype(to)>::packets;
    constexpr dtype operand =
        facts<Source>::code.type_of(facts<Source>::code.operand(I, 0)).element;
    constexpr bool in_loop = is_long(i.op, operand) ||
                             facts<Source>::is_staged(tile::at(facts<Source>::structure.owner, I));
    [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
      const auto packet_at = [&](auto k) ASHLAR_TILE_LAMBDA {
        to.part[k] =
            elementwise_packet<Source, I>(static_cast<operand_slot<Source, I, K>&>(f).x.part[k]...);
      };
      if constexpr (in_loop) {
        each_vector_in_loop<packets>(packet_at);
      } else {
        each_vector<packets>(packet_at);
      }
    }(std::make_integer_sequence<int, i.count>{});
  } else {
    using R = scalar_of<i.type.element>;
    const auto a = static_cast<operand_slot<Source, I, 0>&>(f).x.value;
    constexpr std::type_identity<std::remove_const_t<decltype(a)>> as{};
    constexpr auto how = static_cast<tile::rounding>(i.index);
    if constexpr (i.op == opcode::cast) {
      to.value = tile::eval::cast<R>(a, how);
    } else if constexpr (i.op == opcode::bitcast) {
      to.value = tile::eval::bitcast<R>(a);
    } else if constexpr (info(i.op).kind == opcode_kind::unary) {
      to.value = apply<i.op>(as, a);
    } else if constexpr (i.op == opcode::select) {
      to.value = a ? static_cast<operand_slot<Source, I, 1>&>(f).x.value
                   : static_cast<operand_slot<Source, I, 2>&>(f).x.value;
    } else if constexpr (i.op == opcode::fma) {
      to.value = tile::eval::fma<host_math>(a, static_cast<operand_slot<Source, I, 1>&>(f).x.value,
                                            static_cast<operand_slot<Source, I, 2>&>(f).x.value);
    } else {
      to.value = apply<i.op>(as, a, static_cast<operand_slot<Source, I, 1>&>(f).x.value);
    }
  }
}

/// The packets of one step through a group of instructions.
template <class Source, int I>
struct packet_slot {
  packet<scalar_of<facts<Source>::code.type_of(I).element>> value;
};
template <class Source, class Members>
struct packet_slots;
template <class Source, int... I>
struct packet_slots<Source, std::integer_sequence<int, I...>> : packet_slot<Source, I>... {
  static constexpr bool has(int i) { return ((i == I) || ...); }
};

/// Packet `k` of value `I`: of this step where the group computes it.
template <class Source, int I, class Slots>
ASHLAR_TILE_STEP const auto& packet_in(frame<Source>& f, const Slots& now, int k) {
  if constexpr (Slots::has(I)) {
    return static_cast<const packet_slot<Source, I>&>(now).value;
  } else {
    return static_cast<slot<Source, I>&>(f).x.part[k];
  }
}

template <class Source, int I, class Slots>
ASHLAR_TILE_STEP void packet_step(frame<Source>& f, Slots& now, int k) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  auto& to = static_cast<packet_slot<Source, I>&>(now).value;
  if constexpr (i.op == opcode::broadcast) {
    constexpr tile::tile_type from = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
    to = broadcast_packet<from, i.type>(static_cast<operand_slot<Source, I, 0>&>(f).x, k);
  } else {
    [&]<int... K>(std::integer_sequence<int, K...>) ASHLAR_TILE_LAMBDA {
      to = elementwise_packet<Source, I>(
          packet_in<Source, facts<Source>::code.operand(I, K)>(f, now, k)...);
    }(std::make_integer_sequence<int, i.count>{});
  }
  if constexpr (facts<Source>::used_beside(I, [](int user) { return Slots::has(user); })) {
    static_cast<slot<Source, I>&>(f).x.part[k] = to;
  }
}

template <class Source, int... I>
ASHLAR_TILE_STEP void run_group(frame<Source>& f, std::integer_sequence<int, I...> members) {
  constexpr int first = std::min({I...});
  constexpr std::int64_t size = facts<Source>::code.type_of(first).size();
  for (int k = 0; k < tile_value<float, size>::packets; ++k) {
    packet_slots<Source, decltype(members)> now;
    (packet_step<Source, I>(f, now, k), ...);
  }
}

}  // namespace ashlar::chip::host_codegen::detail

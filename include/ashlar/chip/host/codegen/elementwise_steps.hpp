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

/// One packet of an elementwise instruction; `operand(k)` gives the packet of its operand `k`.
template <class Source, int I, class Operand>
ASHLAR_INLINE auto elementwise_packet(const Operand& operand) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  using A = scalar_of<facts<Source>::code.type_of(facts<Source>::code.operand(I, 0)).element>;
  using R = scalar_of<i.type.element>;
  constexpr auto how = static_cast<tile::rounding>(i.index);
  constexpr std::type_identity<A> as{};
  constexpr std::integral_constant<int, 0> first{};
  constexpr std::integral_constant<int, 1> second{};
  constexpr std::integral_constant<int, 2> third{};
  if constexpr (i.op == opcode::cast) {
    return apply_cast<R, A>(operand(first), how);
  } else if constexpr (i.op == opcode::bitcast) {
    return apply_bitcast<R, A>(operand(first));
  } else if constexpr (info(i.op).kind == opcode_kind::unary) {
    return apply<i.op>(as, operand(first));
  } else if constexpr (i.op == opcode::select) {
    return apply_select<R>(operand(first), operand(second), operand(third));
  } else if constexpr (i.op == opcode::fma) {
    return apply_fma<R>(operand(first), operand(second), operand(third));
  } else {
    return apply<i.op>(as, operand(first), operand(second));
  }
}

/// Whether an instruction is long code for each packet: a function, or integers that a machine may
/// not have vectors of.
constexpr bool is_long(opcode op, dtype operand) {
  return op == opcode::exp || op == opcode::log || op == opcode::tanh || op == opcode::sigmoid ||
         op == opcode::erf || operand == dtype::int64;
}

template <class Source, int I>
ASHLAR_INLINE void elementwise(frame<Source>& f) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  auto& to = f.template get<I>();
  if constexpr (i.type.rank > 0) {
    constexpr int packets = std::remove_cvref_t<decltype(to)>::packets;
    const auto packet_at = [&](auto k) __attribute__((always_inline)) {
      const auto operand = [&]<int K>(std::integral_constant<int, K>) __attribute__((always_inline))
                               ->const auto& {
        return f.template operand<I, K>().part[k];
      };
      to.part[k] = elementwise_packet<Source, I>(operand);
    };
    constexpr dtype operand =
        facts<Source>::code.type_of(facts<Source>::code.operand(I, 0)).element;
    if constexpr (is_long(i.op, operand) ||
                  facts<Source>::is_staged(tile::at(facts<Source>::structure.owner, I))) {
      each_vector_in_loop<packets>(packet_at);
    } else {
      each_vector<packets>(packet_at);
    }
  } else {
    using R = scalar_of<i.type.element>;
    const auto a = f.template operand<I, 0>().value;
    constexpr std::type_identity<std::remove_const_t<decltype(a)>> as{};
    constexpr auto how = static_cast<tile::rounding>(i.index);
    if constexpr (i.op == opcode::cast) {
      to.value = tile::eval::cast<R>(a, how);
    } else if constexpr (i.op == opcode::bitcast) {
      to.value = tile::eval::bitcast<R>(a);
    } else if constexpr (info(i.op).kind == opcode_kind::unary) {
      to.value = apply<i.op>(as, a);
    } else if constexpr (i.op == opcode::select) {
      to.value = a ? f.template operand<I, 1>().value : f.template operand<I, 2>().value;
    } else if constexpr (i.op == opcode::fma) {
      to.value = tile::eval::fma<host_math>(a, f.template operand<I, 1>().value,
                                            f.template operand<I, 2>().value);
    } else {
      to.value = apply<i.op>(as, a, f.template operand<I, 1>().value);
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

template <class Source, int I, class Slots>
ASHLAR_INLINE void packet_step(frame<Source>& f, Slots& now, int k) {
  constexpr tile::instruction i = instruction_of<Source, I>;
  auto& to = static_cast<packet_slot<Source, I>&>(now).value;
  if constexpr (i.op == opcode::broadcast) {
    constexpr tile::tile_type from = facts<Source>::code.type_of(facts<Source>::code.operand(I, 0));
    to = broadcast_packet<from, i.type>(f.template operand<I, 0>(), k);
  } else {
    const auto operand = [&]<int K>(std::integral_constant<int, K>) __attribute__((always_inline))
                             ->const auto& {
      constexpr int o = facts<Source>::code.operand(I, K);
      if constexpr (Slots::has(o)) {
        return static_cast<const packet_slot<Source, o>&>(now).value;
      } else {
        return f.template get<o>().part[k];
      }
    };
    to = elementwise_packet<Source, I>(operand);
  }
  if constexpr (facts<Source>::used_beside(I, [](int user) { return Slots::has(user); })) {
    f.template get<I>().part[k] = to;
  }
}

template <class Source, int... I>
ASHLAR_INLINE void run_group(frame<Source>& f, std::integer_sequence<int, I...> members) {
  constexpr int first = std::min({I...});
  constexpr std::int64_t size = facts<Source>::code.type_of(first).size();
  for (int k = 0; k < tile_value<float, size>::packets; ++k) {
    packet_slots<Source, decltype(members)> now;
    (packet_step<Source, I>(f, now, k), ...);
  }
}

}  // namespace ashlar::chip::host_codegen::detail

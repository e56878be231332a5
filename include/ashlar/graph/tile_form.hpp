// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "ashlar/core/spec.hpp"
#include "ashlar/dispatch/step.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/traced.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/tile/functions.hpp"

/// What an operator computes of one tile, so that several of them become one program.
namespace ashlar::graph {

/// How an operator becomes part of a tile program. Specialise it for operators of your own that
/// name no `function`:
///
/// `part(in, attributes)` says what it is there; `emit<Attributes>(x, attributes)` computes in the
/// compute type, of tiles (rows, columns), what is then rounded to the result's element type.
template <class Op>
struct tile_form {
  static constexpr bool exists = false;
};

namespace detail {

/// An attribute as whatever member it initialises.
template <class Attribute>
struct any_attribute {
  const Attribute& value;

  template <class T>
  constexpr operator T() const {  // implicit, as an initialiser has to be
    return value.template as<T>();
  }
};
template <class Attribute>
any_attribute(const Attribute&) -> any_attribute<Attribute>;

struct in_tiles {
  static constexpr bool exists = true;
};
/// One element from one element of each.
struct by_element : in_tiles {
  static constexpr tile_part part(std::span<const tensor_spec>, const auto&) {
    return {.what = tile_part::kind::elementwise};
  }
};

template <class Op>
concept NamesFunction = requires { typename Op::function; };

constexpr bool is_last_axis(const tensor_spec& x, std::int64_t axis) {
  return x.rank > 0 && (axis == -1 || axis == x.rank - 1);
}

/// Elements that `sum` and `mean` add up before partial sums are put together.
inline constexpr std::int64_t sum_length = 4096;

/// A reduction of the last axis of floating elements.
template <bool Sums>
struct by_row : in_tiles {
  static constexpr tile_part part(std::span<const tensor_spec> in, const auto& attributes) {
    const shape axes = attributes[0].template as<shape>();
    if (!is_floating(in[0].type) || axes.rank() != 1 || !is_last_axis(in[0], axes[0])) {
      return {};
    }
    constexpr std::int64_t any = std::numeric_limits<std::int64_t>::max();
    return {.what = tile_part::kind::row,
            .sums = Sums,
            .drops_axis = !attributes[1].template as<bool>(),
            .same_up_to = Sums ? sum_length : any};
  }
};
/// The sum of a row: +0 where all of it is -0, as sums begin.
constexpr traced row_sum(const traced& x) {
  return fold_rows(tile::opcode::add, x) + constant_like(x, 0.0);
}
constexpr traced row_length(const traced& x) {
  const tile::tile_type& t = x.type();
  return constant_like(x, static_cast<double>(t.extent(t.rank - 1)));
}
/// 1 / sqrt(mean(x^2) + eps)
constexpr traced inverse_root(const traced& x, double eps) {
  const traced squares = fold_rows(tile::opcode::add, x * x) / row_length(x);
  return constant_like(x, 1.0) / sqrt(squares + constant_like(x, eps));
}

struct softmax_form : in_tiles {
  static constexpr tile_part part(std::span<const tensor_spec> in, const auto& attributes) {
    if (!is_last_axis(in[0], attributes[0].template as<std::int64_t>())) {
      return {};
    }
    return {.what = tile_part::kind::row, .sums = true};
  }
};
/// Kernels add up squares by multiply-adds; a program has the squares first.
struct norm_form : in_tiles {
  static constexpr tile_part part(std::span<const tensor_spec>, const auto&) {
    return {.what = tile_part::kind::row, .sums = true, .same_up_to = 0};
  }
};

}  // namespace detail

template <detail::NamesFunction Op>
struct tile_form<Op> : detail::by_element {
  template <std::size_t Attributes>
  static constexpr traced emit(std::span<const traced> x, const auto& attributes) {
    return [&]<std::size_t... I, std::size_t... K>(std::index_sequence<I...>,
                                                   std::index_sequence<K...>) {
      return typename Op::function{detail::any_attribute{attributes[K]}...}(x[I]...);
    }(std::make_index_sequence<Op::arguments.size()>{}, std::make_index_sequence<Attributes>{});
  }
};
template <class T>
struct tile_form<ops::cast<T>> : detail::by_element {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    return x[0];
  }
};
template <>
struct tile_form<ops::clone> : tile_form<ops::cast<float>> {};

template <>
struct tile_form<ops::sum> : detail::by_row<true> {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    return detail::row_sum(x[0]);
  }
};
template <>
struct tile_form<ops::mean> : detail::by_row<true> {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    return detail::row_sum(x[0]) / detail::row_length(x[0]);
  }
};
template <>
struct tile_form<ops::max> : detail::by_row<false> {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    return fold_rows(tile::opcode::max, x[0]);
  }
};
template <>
struct tile_form<ops::min> : detail::by_row<false> {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    return fold_rows(tile::opcode::min, x[0]);
  }
};
template <>
struct tile_form<ops::softmax> : detail::softmax_form {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    const traced terms = exp(x[0] - fold_rows(tile::opcode::max, x[0]));
    return terms / fold_rows(tile::opcode::add, terms);
  }
};
template <>
struct tile_form<ops::log_softmax> : detail::softmax_form {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto&) {
    const traced less = x[0] - fold_rows(tile::opcode::max, x[0]);
    return less - log(fold_rows(tile::opcode::add, exp(less)));
  }
};
template <>
struct tile_form<ops::rms_norm> : detail::norm_form {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto& attributes) {
    return x[0] * detail::inverse_root(x[0], attributes[0].template as<double>()) * x[1];
  }
};
template <>
struct tile_form<ops::layer_norm> : detail::norm_form {
  template <std::size_t>
  static constexpr traced emit(std::span<const traced> x, const auto& attributes) {
    const traced centred = x[0] - fold_rows(tile::opcode::add, x[0]) / detail::row_length(x[0]);
    return centred * detail::inverse_root(centred, attributes[0].template as<double>()) * x[1] +
           x[2];
  }
};

namespace detail {

/// The element type in which a function of `type` is computed.
constexpr dtype compute_dtype(dtype type) {
  return is_narrow_floating(type) ? dtype::float32 : type;
}

/// The arguments of a call as its function computes with them: promoted to the call's type, then
/// in its compute type. Those in `fixed` keep their type.
constexpr std::vector<traced> ready_for(std::span<const traced> in, dtype type,
                                        std::uint32_t fixed) {
  std::vector<traced> ready;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if ((fixed >> i & 1u) != 0) {
      ready.push_back(cast(in[i], compute_dtype(in[i].element())));
      continue;
    }
    traced x = cast(in[i], compute_dtype(type));
    if (type != in[i].element() && is_narrow_floating(type)) {
      x = cast(cast(x, type), compute_dtype(type));  // promotion rounds
    }
    // Programs only combine truth values: as numbers they are 0 and 1.
    ready.push_back(type == dtype::boolean && fixed == 0 ? cast(x, dtype::int8) : x);
  }
  return ready;
}

/// The result in its element type, spread over what the arguments meet in where `each` element
/// has its own.
constexpr traced finished(traced result, std::span<const traced> in, dtype type, bool each) {
  if (is_narrow_floating(type) && result.element() != dtype::float32) {
    result = cast(result, dtype::float32);
  }
  result = cast(result, type);
  if (each) {
    tile::tile_type to = result.type();
    for (const traced& x : in) {
      to = meet(to, x.type());
    }
    result.id = spread(result, to);
  }
  return result;
}

/// What a call of `Op` in `Type` computes of tiles: with the bits of its kernels.
template <class Op, dtype Type, std::uint32_t Fixed, dtype Result, std::size_t Attributes>
constexpr traced emit_call(std::span<const traced> in, const auto& attributes) {
  const std::vector<traced> ready = ready_for(in, Type, Fixed);
  return finished(
      tile_form<Op>::template emit<Attributes>(std::span<const traced>(ready), attributes), in,
      Result, Elementwise<Op>);
}
/// Of the tensor arguments, those that keep their element type.
template <class Op, std::size_t Arguments>
inline constexpr std::uint32_t fixed_arguments = []<std::size_t... I>(std::index_sequence<I...>) {
  return ((ashlar::detail::is_fixed<Op, I>() ? 1u << I : 0u) | ... | 0u);
}(std::make_index_sequence<Arguments>{});

}  // namespace detail

}  // namespace ashlar::graph

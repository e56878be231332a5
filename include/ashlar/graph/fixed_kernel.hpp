// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/fixed.hpp"
#include "ashlar/graph/fused_body.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/tile/passes/pipeline.hpp"

/// Constant graphs as kernels: what is called is in the program, no compiler runs later.
namespace ashlar::graph {

namespace detail {

/// How a constant graph walks its elements.
template <const fixed_graph& G>
struct fixed_walk {
  static constexpr std::size_t inputs = [] {
    std::size_t n = 0;
    for (const fixed_node& x : G.nodes) {
      n += x.kind == node_kind::placeholder ? 1u : 0u;
    }
    return n;
  }();
  static constexpr std::size_t outputs = G.outputs.size();
  static constexpr std::size_t arguments = inputs + outputs;
  static constexpr bool by_rows = [] {
    for (const fixed_node& n : G.nodes) {
      if (n.kind == node_kind::call && n.op.part.what == tile_part::kind::row) {
        return true;
      }
    }
    return false;
  }();
  /// What is walked: the largest of the results and of what rows are made of.
  static constexpr tensor_spec domain = [] {
    tensor_spec s = G.spec(G.outputs[0]);
    for (const fixed_node& n : G.nodes) {
      if (n.kind == node_kind::call) {
        const tensor_spec& mine =
            G.spec(n.op.part.what == tile_part::kind::row ? n.in[0] : n.out[0]);
        s = mine.size > s.size || mine.rank > s.rank ? mine : s;
      }
    }
    return s;
  }();
  static constexpr std::array<tensor_spec, arguments> specs = [] {
    std::array<tensor_spec, arguments> all{};
    std::size_t i = 0;
    for (const fixed_node& n : G.nodes) {
      if (n.kind == node_kind::placeholder) {
        all[i++] = G.spec(n.out[0]);
      }
    }
    for (const value_id v : G.outputs) {
      all[i++] = G.spec(v);
    }
    return all;
  }();

  static constexpr tile_layout layout() {
    std::array<tensor_spec, arguments> all = specs;
    for (std::size_t k = 0; k < outputs; ++k) {
      const auto at =
          static_cast<std::size_t>(G.values[static_cast<std::size_t>(G.outputs[k])].node);
      if (G.nodes[at].kind == node_kind::call && G.nodes[at].op.part.drops_axis) {
        all[inputs + k] = geometry::unsqueeze(all[inputs + k], all[inputs + k].rank);
      }
    }
    for (const fixed_node& n : G.nodes) {
      for (const value_id v : n.in) {
        const auto at = static_cast<std::size_t>(G.values[static_cast<std::size_t>(v)].node);
        if (G.nodes[at].kind == node_kind::call && G.nodes[at].op.part.drops_axis) {
          throw argument_error("ashlar::graph::fixed",
                               "a reduced value that is used inside keeps its axis: keepdim");
        }
      }
    }
    const tile_layout made(all, shape(domain.shape()), by_rows);
    if (made.extents.size() > 4) {
      throw argument_error("ashlar::graph::fixed",
                           "broadcasts leave more than four axes; reshape the arguments");
    }
    return made;
  }
  static constexpr tile_blocks blocks() {
    constexpr std::int64_t elements = 4096;  // of a tile; what is between stays in the cache
    constexpr std::int64_t longest_row = 16384;
    if (by_rows && (domain[-1] == 0 || domain[-1] > longest_row)) {
      throw argument_error("ashlar::graph::fixed", "rows have 1 to 16384 elements");
    }
    if (domain.size == 0) {  // nothing is launched, but there is a program
      return {2, 1, 1, std::vector<std::uint8_t>(arguments, 0)};
    }
    return layout().blocks(elements, by_rows);
  }

  static constexpr tile::program program = write_program(G, "fixed", blocks());
  static constexpr tile::grid grid = layout().grid(blocks());
  static constexpr std::array<tile::argument, arguments> places = [] {
    const tile_layout l = layout();
    const tile_blocks b = blocks();
    std::array<tile::argument, arguments> all{};
    for (std::size_t k = 0; k < arguments; ++k) {
      all[k] = l.argument(k, b);
      all[k].element = specs[k].type;
      all[k].writable = k >= inputs;
    }
    return all;
  }();
};

/// What the host makes its code from.
template <const fixed_graph& G>
struct fixed_source {
  static constexpr const tile::program& written = fixed_walk<G>::program;
  static constexpr chip::product_order order = chip::product_order::unit;
  static constexpr const tile::program& code =
      tile::passes::pipeline<fixed_walk<G>::program>::result;
};

}  // namespace detail

/// The tile program that a constant graph becomes: a constant, too.
template <const fixed_graph& G>
inline constexpr const tile::program& program_of_fixed = detail::fixed_walk<G>::program;

/// A constant graph as a function of tensors on chip `C`: one kernel, made where this is compiled.
///
/// ```
/// constexpr graph::fixed_graph g = graph::capture_fixed(f, graph::fixed_argument<float>{64, 128});
/// const auto y = graph::fixed_kernel<g>{}(x);
/// ```
/// Returns: a tensor, or a tuple of several. Bits are those of the operators, but of sums: those of
///          longer rows and of norms are added up in the order of the program.
/// Throws:  `guard_error` for tensors of other shapes than the graph was captured for.
/// Cost:    one launch; the kernel costs g++ about a second.
template <const fixed_graph& G, class C = chip::host>
struct fixed_kernel {
  template <Tensor... X>
  [[nodiscard]] auto operator()(const X&... x) const {
    using walk = detail::fixed_walk<G>;
    static_assert(sizeof...(X) == walk::inputs,
                  "ashlar::graph::fixed_kernel: give one tensor for each argument of the function");
    using keys = key_set<ashlar::keys::backend<C>>;
    static_assert(
        (std::is_same_v<chip_of<typename X::keys>, C> && ...),
        "ashlar::graph::fixed_kernel: the tensors must be on the kernel's chip; move them "
        "with to<Chip>(x)");
    std::size_t place = 0;
    const auto take = [&]<class Y>(const Y& y) {
      const tensor_spec& wanted = walk::specs[place];
      if (!y || element_type<Y> != wanted.type || !same_shape(y.spec(), wanted)) {
        throw guard_error("argument " + std::to_string(place) + " is " +
                          std::string(name_of(wanted.type)) + to_string(wanted.shape()));
      }
      ++place;
      return contiguous(tensor<typename Y::value_type, keys>(static_cast<const tensor_handle&>(y)));
    };
    const std::tuple in{take(x)...};  // braces: from left to right
    return [&]<std::size_t... I, std::size_t... O>(std::index_sequence<I...>,
                                                   std::index_sequence<O...>) {
      std::tuple out{empty<tensor<scalar_of<walk::specs[walk::inputs + O].type>, keys>>(
          shape(walk::specs[walk::inputs + O].shape()))...};
      std::array<tile::argument, walk::arguments> arguments = walk::places;
      ((arguments[I].data = std::get<I>(in).bytes()), ...);
      ((arguments[walk::inputs + O].data = std::get<O>(out).bytes()), ...);
      if (walk::domain.size != 0) {
        run(arguments);
      }
      if constexpr (sizeof...(O) == 1) {
        return std::get<0>(out);
      } else {
        return out;
      }
    }(std::make_index_sequence<walk::inputs>{}, std::make_index_sequence<walk::outputs>{});
  }

 private:
  static void run(std::span<const tile::argument> arguments) {
    using walk = detail::fixed_walk<G>;
    if constexpr (std::is_same_v<C, chip::host>) {
      chip::host_codegen::run<detail::fixed_source<G>>(walk::grid, arguments);
    } else {
      C::codegen::run(context<C>::current(), walk::program, walk::grid, arguments);
    }
  }
};

}  // namespace ashlar::graph

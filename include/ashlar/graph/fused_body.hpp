// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/traced.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/verify.hpp"

/// Calls that become one tile program, and where its tiles lie in memory.
namespace ashlar::graph::detail {

/// The tiles of a program: `rows` by `columns` of the last two of `axes` axes.
struct tile_blocks {
  int axes = 2;  ///< of the views: 2 or 4
  std::int32_t rows = 1, columns = 1;
  /// Of each argument, inputs first: bit 0 where all rows are one, bit 1 where all columns are.
  std::vector<std::uint8_t> spread{};
  std::int32_t depth = 0;  ///< terms of a product's sums at a time
  std::int32_t parts = 1;  ///< so many tiles beside each other in one program with products

  [[nodiscard]] constexpr std::int64_t elements() const { return std::int64_t{rows} * columns; }

  friend constexpr bool operator==(const tile_blocks&, const tile_blocks&) = default;
};

/// Writes the program of a body, a `graph` or a `fixed_graph`, for certain tiles.
///
/// Throws: `tile::program_error` where it is too long or has too many parameters.
template <class Body>
constexpr tile::program write_program(const Body& body, std::string_view name,
                                      const tile_blocks& at) {
  tile::builder b(name);
  const auto axes = static_cast<std::int8_t>(at.axes);
  int inputs = 0;
  for (const auto& n : body.nodes) {
    if (n.kind == node_kind::placeholder) {
      b.add_parameter({body.spec(n.out[0]).type, axes, false});
      ++inputs;
    }
  }
  for (const value_id v : body.outputs) {
    b.add_parameter({body.spec(v).type, axes, true});
  }

  const auto id = [&](int axis) {
    return b.emit({.op = tile::opcode::program_id, .index = axis, .type = tile::index_type});
  };
  std::vector<tile::value_id> place;
  if (at.axes == 4) {
    const tile::value_id outer = id(2);
    const tile::value_id second =
        b.emit({.op = tile::opcode::extent, .index = inputs, .value = 1, .type = tile::index_type});
    place.push_back(b.binary(tile::opcode::div, outer, second));
    place.push_back(b.binary(tile::opcode::rem, outer, second));
  }
  place.push_back(b.binary(tile::opcode::mul, id(1), b.index(at.rows)));
  place.push_back(b.binary(tile::opcode::mul, id(0), b.index(at.columns)));
  const auto type_of = [&](std::size_t argument, dtype element) {
    const unsigned one = at.spread[argument];
    return tile::tile_type(element,
                           {(one & 1u) != 0 ? 1 : at.rows, (one & 2u) != 0 ? 1 : at.columns});
  };

  std::vector<traced> made(body.values.size());
  std::vector<int> number(body.values.size(), -1);  // of an input's parameter
  int next = 0;
  const auto read = [&](value_id v) {
    traced& x = made[static_cast<std::size_t>(v)];
    if (x.program == nullptr) {  // where it is used first, so that its room is taken late
      const int parameter = number[static_cast<std::size_t>(v)];
      x = {&b, b.emit({.op = tile::opcode::load,
                       .index = parameter,
                       .type = type_of(static_cast<std::size_t>(parameter), body.spec(v).type)},
                      place)};
    }
    return x;
  };
  const auto store = [&](value_id v) {
    for (std::size_t k = 0; k < body.outputs.size(); ++k) {
      if (body.outputs[k] == v) {
        const std::size_t argument = static_cast<std::size_t>(inputs) + k;
        std::vector<tile::value_id> operands{
            spread(made[static_cast<std::size_t>(v)], type_of(argument, body.spec(v).type))};
        operands.insert(operands.end(), place.begin(), place.end());
        b.emit({.op = tile::opcode::store, .index = static_cast<int>(argument)}, operands);
      }
    }
  };
  std::vector<traced> in;
  for (const auto& n : body.nodes) {
    if (n.kind == node_kind::placeholder) {
      number[static_cast<std::size_t>(n.out[0])] = next++;
      continue;
    }
    in.clear();
    for (const value_id v : n.in) {
      in.push_back(read(v));
    }
    made[static_cast<std::size_t>(n.out[0])] = n.op->emit(in, n.attributes);
    store(n.out[0]);
  }
  tile::program p = b.finish();
  tile::expect_valid(p);
  return p;
}

/// Where the arguments of a fused kernel lie: axes that lie evenly in all of them are one.
struct tile_layout {
  std::vector<std::int64_t> extents{};               ///< the last one: columns
  std::vector<std::vector<std::int64_t>> strides{};  ///< of each argument

  /// `keep_last`: the last axis is rows of their own.
  constexpr tile_layout(std::span<const tensor_spec> arguments, const shape& domain,
                        bool keep_last) {
    strides.resize(arguments.size());
    const int rank = domain.rank();
    for (int a = 0; a < rank; ++a) {
      const std::int64_t n = domain[a];
      const bool kept = keep_last && a == rank - 1;
      if (n == 1 && !kept) {
        continue;
      }
      bool joins = !extents.empty() && !kept;
      const auto stride = [&](std::size_t k) {
        const tensor_spec& s = arguments[k];
        const int own = a - (rank - s.rank);
        return own < 0 || s[own] == 1 ? 0 : s.stride_of(own);
      };
      for (std::size_t k = 0; joins && k < arguments.size(); ++k) {
        joins = strides[k].back() == n * stride(k);
      }
      if (joins) {
        extents.back() *= n;
      } else {
        extents.push_back(n);
      }
      for (std::size_t k = 0; k < arguments.size(); ++k) {
        if (joins) {
          strides[k].back() = stride(k);
        } else {
          strides[k].push_back(stride(k));
        }
      }
    }
    while (extents.size() < 2) {
      extents.insert(extents.begin(), 1);
      for (auto& s : strides) {
        s.insert(s.begin(), 0);
      }
    }
  }

  [[nodiscard]] constexpr std::int64_t columns() const { return extents.back(); }
  [[nodiscard]] constexpr std::int64_t rows() const { return extents[extents.size() - 2]; }

  /// Tiles of at most `elements` elements; whole rows where those are kept.
  [[nodiscard]] constexpr tile_blocks blocks(std::int64_t elements, bool keep_last) const {
    tile_blocks b;
    b.axes = extents.size() > 2 ? 4 : 2;
    b.columns = static_cast<std::int32_t>(keep_last ? columns()
                                                    : std::min<std::int64_t>(columns(), elements));
    b.rows = static_cast<std::int32_t>(
        std::clamp<std::int64_t>(elements / std::max<std::int64_t>(b.columns, 1), 1, rows()));
    for (const auto& s : strides) {
      const unsigned row = s[s.size() - 2] == 0 ? 1u : 0u;
      const unsigned column = s.back() == 0 ? 2u : 0u;
      b.spread.push_back(static_cast<std::uint8_t>(row | column));
    }
    return b;
  }

  /// The grid of one launch.
  [[nodiscard]] constexpr tile::grid grid(const tile_blocks& b) const {
    const std::size_t r = extents.size();
    return {ceil_div(columns(), std::int64_t{b.columns}), ceil_div(rows(), std::int64_t{b.rows}),
            (r > 2 ? extents[r - 3] : 1) * (r > 3 ? extents[r - 4] : 1)};
  }
  /// Argument `k` of one launch, without its address.
  [[nodiscard]] constexpr tile::argument argument(std::size_t k, const tile_blocks& b) const {
    tile::argument a;
    a.rank = b.axes;
    const std::size_t r = extents.size();
    for (std::size_t i = 0; i < static_cast<std::size_t>(b.axes); ++i) {
      const std::size_t to = static_cast<std::size_t>(b.axes) - 1 - i;
      a.extents[to] = i < r ? extents[r - 1 - i] : 1;
      a.strides[to] = i < r ? strides[k][r - 1 - i] : 0;
    }
    return a;
  }
  /// Calls `f(offsets)` for each launch: one, or one for each place along the axes before the last
  /// four, with what that adds to the place of each argument's first element.
  template <class F>
  void each_launch(const F& f) const {
    std::vector<std::int64_t> offset(strides.size(), 0);
    const std::size_t lead = extents.size() > 4 ? extents.size() - 4 : 0;
    std::vector<std::int64_t> at(lead, 0);
    while (true) {
      f(offset);
      std::size_t a = lead;
      while (a > 0) {
        --a;
        const bool more = ++at[a] < extents[a];
        for (std::size_t k = 0; k < strides.size(); ++k) {
          offset[k] += (more ? 1 : 1 - extents[a]) * strides[k][a];
        }
        if (more) {
          break;
        }
        at[a] = 0;
        if (a == 0) {
          return;
        }
      }
      if (lead == 0) {
        return;
      }
    }
  }
};

}  // namespace ashlar::graph::detail

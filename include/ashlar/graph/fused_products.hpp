// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/graph/fused_body.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/tile_form.hpp"
#include "ashlar/graph/traced.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/verify.hpp"

/// Products of rows by matrices and what follows them, as one tile program.
namespace ashlar::graph::detail {

/// Whether a call multiplies rows by one matrix, its second argument.
inline bool is_product_of_rows(const node& n) {
  return n.kind == node_kind::call &&
         (n.op->id == &op_id<ops::linear> || n.op->id == &op_id<ops::linear_bias> ||
          n.op->id == &op_id<ops::matmul>);
}

/// What each argument of a body with products is there. Placeholders are its first nodes.
struct product_roles {
  enum class role : std::uint8_t { element, rows, matrix, start };

  std::vector<role> of{};          ///< of each argument
  std::vector<std::int32_t> at{};  ///< the nodes that are products
  bool fits = true;                ///< no argument has two roles

  explicit product_roles(const graph& body) {
    const auto inputs =
        static_cast<std::size_t>(std::count_if(body.nodes.begin(), body.nodes.end(), [](auto& n) {
          return n.kind == node_kind::placeholder;
        }));
    of.assign(inputs, role::element);
    std::vector<bool> known(inputs, false);
    for (std::size_t i = inputs; i < body.nodes.size(); ++i) {
      const node& n = body.nodes[i];
      const bool product = is_product_of_rows(n);
      for (std::size_t k = 0; k < n.in.size(); ++k) {
        const auto v = static_cast<std::size_t>(n.in[k]);
        if (v >= inputs) {
          continue;
        }
        constexpr std::array roles{role::rows, role::matrix, role::start};
        const role now = product ? roles[k] : role::element;
        fits = fits && (!known[v] || of[v] == now);
        of[v] = now;
        known[v] = true;
      }
      if (product) {
        at.push_back(static_cast<std::int32_t>(i));
      }
    }
  }
};

/// A body's program for tiles of `at.rows` by `at.columns` results and `at.depth` terms of each
/// sum at a time. Each sum is one chain of multiply-adds, as in the operators' programs.
///
/// Rows are loaded once for `at.parts` tiles beside each other; what follows takes one tile after
/// the other, since there is not room for more.
/// Requires: products read arguments only, and are equally deep; what follows walks their results.
/// Throws:   `tile::program_error` where it is too long or has too many parameters.
inline tile::program write_products(const graph& body, const product_roles& roles,
                                    std::string_view name, const tile_blocks& at) {
  using role = product_roles::role;
  tile::builder b(name);
  const std::size_t inputs = roles.of.size();
  for (std::size_t k = 0; k < inputs; ++k) {
    const auto axes = static_cast<std::int8_t>(roles.of[k] == role::start ? 1 : 2);
    b.add_parameter({body.values[k].spec.type, axes, false});
  }
  for (const value_id v : body.outputs) {
    b.add_parameter({body.spec(v).type, 2, true});
  }
  const auto id = [&](int axis) {
    return b.emit({.op = tile::opcode::program_id, .index = axis, .type = tile::index_type});
  };
  const tile::value_id row = b.binary(tile::opcode::mul, id(1), b.index(at.rows));
  const auto parts = static_cast<std::size_t>(at.parts);
  std::vector<tile::value_id> column;  // of each part
  column.push_back(b.binary(tile::opcode::mul, id(0), b.index(at.columns * at.parts)));
  for (int part = 1; part < at.parts; ++part) {
    column.push_back(b.binary(tile::opcode::add, column[0], b.index(at.columns * part)));
  }
  const auto load = [&](std::size_t argument, const tile::tile_type& type,
                        std::initializer_list<tile::value_id> place) {
    return b.emit({.op = tile::opcode::load, .index = static_cast<int>(argument), .type = type},
                  place);
  };
  const auto product = [&](std::size_t p) -> const node& {
    return body.nodes[static_cast<std::size_t>(roles.at[p])];
  };

  // What sums begin with: those of each part, product by product.
  std::vector<tile::tile_type> carried{tile::index_type};
  std::vector<tile::value_id> operands{b.index(0), 0, b.index(at.depth)};
  for (std::size_t part = 0; part < parts; ++part) {
    for (std::size_t i = 0; i < roles.at.size(); ++i) {
      const node& n = product(i);
      const dtype sums = compute_dtype(n.op->result_types[0]);
      carried.emplace_back(sums, std::initializer_list<std::int32_t>{at.rows, at.columns});
      tile::value_id start = -1;
      if (n.in.size() == 3) {
        const auto from = static_cast<std::size_t>(n.in[2]);
        const tile::tile_type few(body.values[from].spec.type, {at.columns});
        start = cast(traced{&b, load(from, few, {column[part]})}, sums).id;
      } else {
        start = b.constant(sums, 0.0);
      }
      operands.push_back(b.broadcast(start, carried.back()));
    }
  }
  operands[1] = b.emit({.op = tile::opcode::extent,
                        .index = static_cast<int>(product(0).in[0]),
                        .value = 1,
                        .type = tile::index_type});
  const tile::value_id loop = b.emit({.op = tile::opcode::loop}, operands);
  const tile::value_id k = b.begin_region(carried);
  std::vector<tile::value_id> next;
  std::vector<tile::value_id> rows(inputs, -1);  // those that are loaded
  for (std::size_t part = 0; part < parts; ++part) {
    for (std::size_t i = 0; i < roles.at.size(); ++i) {
      const auto x = static_cast<std::size_t>(product(i).in[0]);
      const auto w = static_cast<std::size_t>(product(i).in[1]);
      if (rows[x] < 0) {
        rows[x] = load(x, tile::tile_type(body.values[x].spec.type, {at.rows, at.depth}), {row, k});
      }
      const tile::tile_type few(body.values[w].spec.type, {at.depth, at.columns});
      const tile::value_id matrix = load(w, few, {k, column[part]});
      const std::size_t sum = 1 + next.size();
      next.push_back(
          b.emit({.op = tile::opcode::dot, .type = carried[sum]},
                 {rows[x], matrix, static_cast<tile::value_id>(k + static_cast<int>(sum))}));
    }
  }
  b.yield(next);

  for (std::size_t part = 0; part < parts; ++part) {
    std::vector<traced> made(body.values.size());
    const auto read = [&](value_id v) {
      traced& x = made[static_cast<std::size_t>(v)];
      if (x.program == nullptr) {
        const unsigned one = at.spread[static_cast<std::size_t>(v)];
        const tile::tile_type few(
            body.spec(v).type, {(one & 1u) != 0 ? 1 : at.rows, (one & 2u) != 0 ? 1 : at.columns});
        x = {&b, load(static_cast<std::size_t>(v), few, {row, column[part]})};
      }
      return x;
    };
    std::size_t sum = part * roles.at.size();
    std::vector<traced> in;
    for (std::size_t i = inputs; i < body.nodes.size(); ++i) {
      const node& n = body.nodes[i];
      traced& y = made[static_cast<std::size_t>(n.out[0])];
      if (is_product_of_rows(n)) {
        const traced x{&b, b.result(loop, static_cast<int>(sum), carried[sum + 1])};
        y = cast(x, n.op->result_types[0]);
        ++sum;
      } else {
        in.clear();
        for (const value_id v : n.in) {
          in.push_back(read(v));
        }
        y = n.op->emit(in, n.attributes);
      }
      for (std::size_t o = 0; o < body.outputs.size(); ++o) {
        if (body.outputs[o] == n.out[0]) {
          const tile::tile_type whole(body.spec(n.out[0]).type, {at.rows, at.columns});
          b.emit({.op = tile::opcode::store, .index = static_cast<int>(inputs + o)},
                 {spread(y, whole), row, column[part]});
        }
      }
    }
  }
  tile::program p = b.finish();
  tile::expect_valid(p);
  return p;
}

/// Where the arguments of a kernel with products lie: matrices, all axes but the last being one.
struct product_layout {
  std::vector<tile::argument> arguments{};  ///< without addresses
  std::vector<std::uint8_t> spread{};       ///< as in `tile_blocks`
  std::int64_t rows = 0, columns = 0, depth = 0;

  /// `all`: the specs of the arguments and results. None where axes do not lie evenly.
  static std::optional<product_layout> of(const graph& body, const product_roles& roles,
                                          std::span<const tensor_spec> all) {
    using role = product_roles::role;
    product_layout made;
    const tensor_spec& result = all[roles.of.size()];
    made.columns = result[-1];
    made.rows = made.columns == 0 ? 0 : result.size / made.columns;
    std::vector<bool> turned(roles.of.size(), false);
    for (const std::int32_t p : roles.at) {
      const node& n = body.nodes[static_cast<std::size_t>(p)];
      made.depth = all[static_cast<std::size_t>(n.in[0])][-1];
      turned[static_cast<std::size_t>(n.in[1])] = n.op->id != &op_id<ops::matmul>;
    }
    for (std::size_t k = 0; k < all.size(); ++k) {
      const role what = k < roles.of.size() ? roles.of[k] : role::element;
      std::optional<tensor_spec> s = all[k];
      if (what == role::matrix && turned[k]) {
        s = geometry::transpose(*s, 0, 1);
      } else if (what == role::rows) {
        s = geometry::try_reshape(*s, {made.rows, made.depth});
      } else if (what == role::element) {
        s = geometry::try_reshape(geometry::expand(*s, shape(result.shape())),
                                  {made.rows, made.columns});
      }
      if (!s) {
        return std::nullopt;
      }
      tile::argument a;
      a.rank = static_cast<std::int8_t>(s->rank);
      a.element = s->type;
      a.writable = k >= roles.of.size();
      for (std::size_t i = 0; i < static_cast<std::size_t>(s->rank); ++i) {
        a.extents[i] = s->extent[i];
        a.strides[i] = s->stride[i];
      }
      const bool one_row = what == role::element && a.strides[0] == 0;
      const bool one_column = what == role::element && a.strides[1] == 0;
      made.arguments.push_back(a);
      made.spread.push_back(
          static_cast<std::uint8_t>((one_row ? 1u : 0u) | (one_column ? 2u : 0u)));
    }
    return made;
  }

  [[nodiscard]] chip::matmul_work work() const {
    return {rows, columns, depth, arguments[0].element};
  }
  /// Blocks that a chip's policy has chosen.
  [[nodiscard]] tile_blocks blocks(const chip::matmul_blocks& b) const {
    return {.axes = 2, .rows = b.m, .columns = b.n, .spread = spread, .depth = b.k};
  }
  /// The blocks of at most `elements` results that move the fewest bytes, of those that take as few
  /// cycles as the best do, or nearly.
  [[nodiscard]] tile_blocks blocks(const chip_description& d, std::size_t products,
                                   std::int64_t elements) const {
    const dtype element = arguments[0].element;
    const auto n_products = static_cast<std::int64_t>(products);
    const chip::matmul_work wide{rows, n_products * columns, depth, element};
    const auto unit = chip::detail::product_unit(d, element);
    const std::int64_t bytes = static_cast<std::int64_t>(size_of(element));
    chip::matmul_blocks best{unit[0], unit[1], unit[2]};
    chip::block_cost cost{};
    std::int32_t beside = 1;
    // Of sums there is one buffer: there is nothing to load beside the last round.
    const auto fits = [&](int m, int all, int k) {
      return chip::detail::buffers(d) * (m + all) * std::int64_t{k} * bytes +
                 std::int64_t{m} * all * chip::detail::sum_bytes(element) <=
             chip::detail::room(d);
    };
    const auto look = [&](const auto& better) {
      for (const int parts : {1, 2}) {
        const int tiles = static_cast<int>(products) * parts;
        chip::detail::each_size(unit[0], rows, [&](int m) {
          chip::detail::each_size(unit[1], columns, [&](int n) {
            chip::detail::each_size(unit[2], depth, [&](int k) {
              const chip::block_cost c = chip::estimate(d, wide, {m, n * tiles, k});
              if (!fits(m, n * tiles, k)) {
                return false;
              }
              const bool allowed = std::int64_t{m} * n <= elements && (parts == 1 || n < columns);
              if (allowed && better(c)) {
                best = {m, n, k};
                cost = c;
                beside = parts;
              }
              return true;
            });
            return true;
          });
          return true;
        });
      }
    };
    bool any = false;
    look([&](const chip::block_cost& c) {
      return !std::exchange(any, true) || c.cycles < cost.cycles;
    });
    constexpr double nearly = 1.02;
    const double enough = nearly * cost.cycles;
    look([&](const chip::block_cost& c) { return c.cycles <= enough && c.memory < cost.memory; });
    return {.axes = 2,
            .rows = best.m,
            .columns = best.n,
            .spread = spread,
            .depth = best.k,
            .parts = beside};
  }
};

}  // namespace ashlar::graph::detail

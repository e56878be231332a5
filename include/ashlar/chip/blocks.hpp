// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "ashlar/chip/description.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"

/// Block sizes from a chip's description: a roofline over its scratchpad, its units and its memory.
///
/// Each kind of kernel has a description of its work, a choice of blocks, an estimate of what the
/// choice costs, and a search for the cheapest. All are constant expressions. An estimate orders
/// choices; that it also comes near the simulator's cycles is tested for matrix products.
namespace ashlar::chip {

/// What a choice of blocks needs, and what it costs: cycles of one core.
struct block_cost {
  bool fits = false;       ///< in the scratchpad and in the registers
  std::int64_t bytes = 0;  ///< of the scratchpad
  double compute = 0;      ///< of the vector or matrix unit, and of the code around it
  double memory = 0;       ///< of the way to memory
  double cycles = 0;       ///< of all, the first load and the last store included
  friend constexpr bool operator==(const block_cost&, const block_cost&) = default;
};

namespace detail {

constexpr double times(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

/// Bytes of an element in sums: `float` for the short formats, int32 for int8.
constexpr std::int64_t sum_bytes(dtype element) {
  return std::max<std::int64_t>(4, static_cast<std::int64_t>(size_of(element)));
}

/// Bytes of the scratchpad for blocks; a sixteenth is left for bias, indices and the like.
constexpr std::int64_t room(const chip_description& d) {
  return static_cast<std::int64_t>(d.scratchpad_bytes - d.scratchpad_bytes / 16);
}

/// Two buffers where transfers run beside the computation.
constexpr int buffers(const chip_description& d) { return d.dma_engines > 0 ? 2 : 1; }

/// M, N, K of a step of a product: of the matrix unit, or of a vector where there is none.
constexpr std::array<int, 3> product_unit(const chip_description& d, dtype element) {
  if (d.matrix_unit == std::array<int, 3>{1, 1, 1}) {
    return {1,
            static_cast<int>(std::max<std::int64_t>(
                static_cast<std::int64_t>(d.vector_bytes) / sum_bytes(element), 1)),
            1};
  }
  return d.matrix_unit;
}

constexpr std::int64_t product_cycles(const chip_description& d, dtype element) {
  switch (size_of(element)) {
    case 1:
      return d.matrix_cycles[2];
    case 2:
      return d.matrix_cycles[1];
    case 4:
      return d.matrix_cycles[0];
    default:
      return std::int64_t{2} * d.matrix_cycles[0];
  }
}

/// Bytes that move for `rows` rows of `bytes` each.
constexpr double moved(const chip_description& d, std::int64_t rows, std::int64_t bytes) {
  return times(rows, ceil_div(bytes, d.memory_burst_bytes) * d.memory_burst_bytes);
}

/// Compute and memory side by side, or in turn where they share the units.
constexpr double together(const chip_description& d, double compute, double memory) {
  return d.copy_uses_compute ? compute + memory : std::max(compute, memory);
}

/// `unit`, twice, four times ... as many, until that covers `n`; `f` says when enough is enough.
template <class F>
constexpr void each_size(std::int64_t unit, std::int64_t n, const F& f) {
  for (std::int64_t size = unit; f(static_cast<int>(size)) && size < n; size *= 2) {
  }
}

}  // namespace detail

// --- matrix products -----------------------------------------------------------------------------

/// A product of M x K by K x N.
struct matmul_work {
  std::int64_t m = 512, n = 512, k = 512;
  dtype element = dtype::float32;
  friend constexpr bool operator==(const matmul_work&, const matmul_work&) = default;
};

/// What one program of a product does at a time: m x n sums, k terms of each in one round.
struct matmul_blocks {
  int m = 1, n = 1, k = 1;
  friend constexpr bool operator==(const matmul_blocks&, const matmul_blocks&) = default;
};

/// What a product costs with these blocks.
///
/// a is read N / n times, b M / m times, c is written once. Where the chip has DMA engines there
/// are two buffers of each. A round of the matrix unit adds to the sums of the round before, so
/// that it takes its latency at least; where sums are in registers, operands come from the
/// scratchpad at `loads_per_cycle`.
constexpr block_cost estimate(const chip_description& d, const matmul_work& w,
                              const matmul_blocks& b) {
  using namespace detail;
  const auto bytes = static_cast<std::int64_t>(size_of(w.element));
  const std::int64_t sum = sum_bytes(w.element);
  const auto unit = product_unit(d, w.element);
  const auto vector = static_cast<std::int64_t>(d.vector_bytes);
  const std::int64_t m = b.m, n = b.n, k = b.k;
  const bool in_registers = d.register_bytes > 0;

  block_cost c;
  const std::int64_t result = bytes == sum ? 0 : m * n * bytes;  // rounded before it is stored
  c.bytes = buffers(d) * (m * k + k * n) * bytes;
  c.bytes += in_registers ? 0 : buffers(d) * m * n * sum + result;
  c.fits =
      c.bytes <= room(d) && (!in_registers || m * n * sum + std::max(n * sum, vector) + vector <=
                                                  static_cast<std::int64_t>(d.register_bytes));

  std::int64_t round = std::max<std::int64_t>(
      ceil_div(m, unit[0]) * ceil_div(n, unit[1]) * product_cycles(d, w.element), d.matrix_latency);
  std::int64_t between = d.control_cycles;  // rounds of blocks along K
  if (in_registers) {
    round = std::max(round, ceil_div((m + ceil_div(n * sum, vector)) * unit[2], d.loads_per_cycle));
    between += ceil_div(2 * ceil_div(m * n * sum, vector), d.loads_per_cycle);  // sums are put away
  }
  const std::int64_t rounds = ceil_div(w.k, k);
  const std::int64_t rows = ceil_div(w.m, m);
  const std::int64_t columns = ceil_div(w.n, n);
  c.compute = times(rows * columns, rounds * (ceil_div(k, unit[2]) * round + between) +
                                        d.matrix_latency + d.control_cycles);

  const double a_block = moved(d, m, k * bytes);
  const double b_block = moved(d, k, n * bytes);
  const double c_block = moved(d, m, n * bytes);
  const double per_cycle = d.memory_bytes_per_cycle;
  const double blocks = times(rows * columns, rounds);
  const double latency =
      blocks * 2 * d.memory_latency / static_cast<double>(std::max(1, d.memory_outstanding));
  c.memory = std::max((blocks * (a_block + b_block) + times(rows, columns) * c_block) / per_cycle,
                      in_registers ? 0.0 : latency);
  c.cycles = together(d, c.compute, c.memory) + d.memory_latency +
             (a_block + b_block + c_block) / per_cycle;
  return c;
}

/// Calls `f(blocks)` for every choice: multiples of the unit by powers of two, up to the product's
/// own size.
template <class F>
constexpr void each_choice(const chip_description& d, const matmul_work& w, const F& f) {
  const auto unit = detail::product_unit(d, w.element);
  detail::each_size(unit[0], w.m, [&](int m) {
    detail::each_size(unit[1], w.n, [&](int n) {
      detail::each_size(unit[2], w.k, [&](int k) { return f(matmul_blocks{m, n, k}); });
      return estimate(d, w, {m, n, unit[2]}).fits;
    });
    return estimate(d, w, {m, unit[1], unit[2]}).fits;
  });
}

/// The cheapest blocks; of equally cheap ones those that need the least scratchpad.
///
/// Where nothing fits, one step of the unit.
constexpr matmul_blocks best_blocks(const chip_description& d, const matmul_work& w) {
  const auto unit = detail::product_unit(d, w.element);
  matmul_blocks best{unit[0], unit[1], unit[2]};
  block_cost cost = estimate(d, w, best);
  each_choice(d, w, [&](const matmul_blocks& b) {
    const block_cost c = estimate(d, w, b);
    if (c.fits && (!cost.fits || c.cycles < cost.cycles ||
                   (c.cycles == cost.cycles && c.bytes < cost.bytes))) {
      best = b;
      cost = c;
    }
    return c.fits;
  });
  return best;
}

// --- rows ----------------------------------------------------------------------------------------

/// Rows of elements that are read, computed with and written, one vector after the other.
struct row_work {
  std::int64_t rows = 64, elements = 1024;
  int inputs = 1, outputs = 1;
  int operations = 4;  ///< on each element
  dtype element = dtype::float32;
  friend constexpr bool operator==(const row_work&, const row_work&) = default;
};

/// What rows cost in blocks of `block` elements.
constexpr block_cost estimate(const chip_description& d, const row_work& w, int block) {
  using namespace detail;
  const auto bytes = static_cast<std::int64_t>(size_of(w.element));
  const std::int64_t wide = sum_bytes(w.element);
  const std::int64_t live = (w.inputs + w.outputs + 1) * std::int64_t{block};
  block_cost c;
  c.bytes = buffers(d) * live * wide;
  c.fits = d.register_bytes > 0 ? live * wide <= static_cast<std::int64_t>(d.register_bytes)
                                : c.bytes <= room(d);
  const std::int64_t steps =
      ceil_div(block * wide, std::max<std::int64_t>(static_cast<std::int64_t>(d.vector_bytes), 1));
  const std::int64_t blocks = w.rows * ceil_div(w.elements, block);
  c.compute = times(blocks, steps * w.operations + d.control_cycles);
  const double in = w.inputs * moved(d, 1, block * bytes) / d.memory_bytes_per_cycle;
  const double out = w.outputs * moved(d, 1, block * bytes) / d.memory_bytes_per_cycle;
  const double latency = static_cast<double>((w.inputs + w.outputs) * d.memory_latency) /
                         std::max(1, d.memory_outstanding);
  c.memory =
      static_cast<double>(blocks) * (d.register_bytes > 0 ? in + out : std::max(in + out, latency));
  c.cycles = together(d, c.compute, c.memory) + d.memory_latency + in + out;
  return c;
}

/// Elements of a row that a program takes at a time: vectors, a power of two of them.
constexpr int best_blocks(const chip_description& d, const row_work& w) {
  const auto lanes = static_cast<std::int64_t>(d.vector_bytes) / detail::sum_bytes(w.element);
  const std::int64_t unit = std::max<std::int64_t>(lanes, 1);
  int best = static_cast<int>(unit);
  block_cost cost = estimate(d, w, best);
  detail::each_size(unit, w.elements, [&](int block) {
    const block_cost c = estimate(d, w, block);
    if (c.fits && (!cost.fits || c.cycles < cost.cycles)) {
      best = block;
      cost = c;
    }
    return c.fits;
  });
  return best;
}

// --- attention -----------------------------------------------------------------------------------

/// Queries of one head against its keys, which pass in blocks.
struct attention_work {
  std::int64_t queries = 512, keys = 512;
  int head = 64;       ///< channels that a program gives
  int key_block = 64;  ///< keys at a time: this is the order of the sums, see `BlockPolicy`
  dtype element = dtype::float32;
  friend constexpr bool operator==(const attention_work&, const attention_work&) = default;
};

/// What attention costs where a program takes `queries` queries: keys and values are read once for
/// each block of them.
constexpr block_cost estimate(const chip_description& d, const attention_work& w, int queries) {
  using namespace detail;
  const auto bytes = static_cast<std::int64_t>(size_of(w.element));
  const std::int64_t sum = sum_bytes(w.element);
  const auto unit = product_unit(d, w.element);
  const std::int64_t m = queries, n = w.key_block, h = w.head;
  block_cost c;
  // Queries, keys and values; scores, their exponentials; what is added up.
  c.bytes = m * h * bytes + buffers(d) * 2 * n * h * bytes + 2 * m * n * sum + m * (h + 2) * sum;
  c.fits = c.bytes <= std::max(room(d), static_cast<std::int64_t>(d.cache_bytes) / 2);
  const auto product = [&](std::int64_t rows, std::int64_t columns, std::int64_t depth) {
    return ceil_div(depth, unit[2]) *
           std::max<std::int64_t>(
               ceil_div(rows, unit[0]) * ceil_div(columns, unit[1]) * product_cycles(d, w.element),
               d.matrix_latency);
  };
  const std::int64_t vectors = ceil_div(m * n * sum, static_cast<std::int64_t>(d.vector_bytes));
  const std::int64_t blocks = ceil_div(w.queries, m);
  const std::int64_t rounds = ceil_div(w.keys, n);
  const std::int64_t operations = 10;  // on a score: scaled, masked, compared, exp, added up
  c.compute = times(blocks, rounds * (product(m, n, h) + product(m, h, n) + vectors * operations +
                                      2 * d.control_cycles) +
                                d.control_cycles);
  const double per_cycle = d.memory_bytes_per_cycle;
  const double pair = 2 * moved(d, n, h * bytes) / per_cycle;
  const double own = 2 * moved(d, m, h * bytes) / per_cycle;
  const double latency =
      2.0 * d.memory_latency / static_cast<double>(std::max(1, d.memory_outstanding));
  c.memory =
      static_cast<double>(blocks) * (static_cast<double>(rounds) * std::max(pair, latency) + own);
  c.cycles = together(d, c.compute, c.memory) + d.memory_latency + pair + own;
  return c;
}

/// Queries of a program of attention; 16 where nothing fits, since all of it then is in memory.
constexpr int best_blocks(const chip_description& d, const attention_work& w) {
  int best = 16;
  block_cost cost;
  detail::each_size(detail::product_unit(d, w.element)[0], w.queries, [&](int queries) {
    const block_cost c = estimate(d, w, queries);
    if (c.fits && (!cost.fits || c.cycles < cost.cycles)) {
      best = queries;
      cost = c;
    }
    return c.fits;
  });
  return best;
}

// --- whose blocks the operators take -------------------------------------------------------------

/// Blocks of the operators' default kernels: what the model finds best.
///
/// Sums along a row, and over keys, are the exception: there the block is part of the order in
/// which numbers are added up. So that results have the same bits on every chip, it is the same on
/// all.
struct default_blocks {
  static constexpr int fold = 64;

  static constexpr matmul_blocks product(const chip_description& d, const matmul_work& w) {
    return best_blocks(d, w);
  }
  static constexpr int row(const chip_description& d, const row_work& w) {
    return best_blocks(d, w);
  }
  static constexpr int queries(const chip_description& d, const attention_work& w) {
    return best_blocks(d, w);
  }
};

/// Chooses the blocks of the operators' default kernels; a chip names its own as `C::blocks`.
///
/// `fold` is the number of partial sums along a row, a power of two of at least 16, and the number
/// of keys that attention takes at a time. Laws: tests/laws/block_policy.hpp.
template <class P>
concept BlockPolicy = requires(const chip_description d, const matmul_work m, const row_work r,
                               const attention_work a) {
  { P::fold } -> std::convertible_to<int>;
  { P::product(d, m) } -> std::same_as<matmul_blocks>;
  { P::row(d, r) } -> std::same_as<int>;
  { P::queries(d, a) } -> std::same_as<int>;
};

namespace detail {
template <class C>
struct blocks_of {
  using type = default_blocks;
};
template <class C>
  requires requires { typename C::blocks; }
struct blocks_of<C> {
  using type = typename C::blocks;
  static_assert(BlockPolicy<type>,
                "ashlar::chip: C::blocks must model BlockPolicy (`fold`, `product`, `row`, "
                "`queries`); derive from chip::default_blocks and replace what differs");
};
}  // namespace detail

/// The policy of chip `C`.
template <class C>
using blocks_of = typename detail::blocks_of<C>::type;

}  // namespace ashlar::chip

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "ashlar/tile/layout.hpp"

/// Bank conflicts of a layout in a scratchpad, and layouts that have none.
namespace ashlar::tile {

/// Word w of `bytes` bytes is in bank w mod `count`; a bank gives one word in a cycle.
struct bank_shape {
  int count = 1;
  int bytes = 8;
  friend constexpr bool operator==(const bank_shape&, const bank_shape&) = default;
};

/// Exchanges offsets within blocks of 2^(base + bits): bits `base` and up of an offset are combined
/// by exclusive or with those `shift` above them. Its own inverse.
struct swizzle {
  int bits = 0;  ///< 0: nothing is exchanged
  int base = 0;
  int shift = 0;  ///< at least `bits`

  constexpr std::int64_t operator()(std::int64_t offset) const {
    const std::int64_t mask = ((std::int64_t{1} << bits) - 1) << base;
    return offset ^ ((offset >> shift) & mask);
  }
  friend constexpr bool operator==(const swizzle&, const swizzle&) = default;
};

/// A layout whose offsets are exchanged.
struct swizzled_layout {
  layout plain;
  swizzle exchange;

  [[nodiscard]] constexpr std::int64_t size() const { return plain.size(); }
  constexpr std::int64_t operator()(std::int64_t place) const { return exchange(plain(place)); }
  /// Elements that must be there: offsets are below.
  [[nodiscard]] constexpr std::int64_t room() const {
    const std::int64_t block = std::int64_t{1}
                               << (exchange.bits == 0 ? 0 : exchange.base + exchange.bits);
    return (plain.last() / block + 1) * block;
  }
  friend constexpr bool operator==(const swizzled_layout&, const swizzled_layout&) = default;
};

/// Cycles beyond the first that the steps of an access need, as the NPU counts them.
///
/// `where` takes places of a tile to offsets in elements of `element_bytes`. The last axis of
/// `access` are the lanes of a step, the others the steps; its offsets are the places they touch.
/// Lanes of one step that touch one word share it.
/// Requires: `base` [bytes] and all offsets are at least 0; at most 1024 lanes, 256 banks.
/// Throws:   `layout_error` where that does not hold.
template <class Where>
constexpr std::int64_t bank_conflicts(const Where& where, const layout& access, int element_bytes,
                                      const bank_shape& banks, std::int64_t base = 0) {
  constexpr std::int64_t most_lanes = 1024;
  constexpr int most_banks = 256;
  const std::int64_t lanes = access.rank() > 0 ? access[access.rank() - 1].extent : 1;
  if (lanes > most_lanes) {
    throw layout_error("bank_conflicts", "the last axis of an access is at most 1024 lanes");
  }
  if (banks.count < 1 || banks.count > most_banks || banks.bytes < 1 || element_bytes < 1) {
    throw layout_error("bank_conflicts", "there are 1 to 256 banks, of 1 byte at least");
  }
  std::array<std::int64_t, most_lanes> words{};
  std::int64_t extra = 0;
  for (std::int64_t step = 0; step < access.size(); step += lanes) {
    std::size_t n = 0;
    for (std::int64_t l = 0; l < lanes; ++l) {
      const std::int64_t place = access(step + l);
      if (place < 0 || place >= where.size()) {
        throw layout_error("bank_conflicts", "the access leads out of the tile");
      }
      const std::int64_t byte = base + where(place) * element_bytes;
      if (byte < 0) {
        throw layout_error("bank_conflicts", "an offset is negative");
      }
      const std::int64_t word = byte / banks.bytes;
      if (n == 0 || words[n - 1] != word) {  // neighbours often share one
        words[n++] = word;
      }
    }
    std::sort(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(n));
    std::array<int, most_banks> used{};
    int most = 1;
    for (std::size_t i = 0; i < n; ++i) {
      if (i == 0 || words[i] != words[i - 1]) {
        most = std::max(most, ++used[static_cast<std::size_t>(words[i] % banks.count)]);
      }
    }
    extra += most - 1;
  }
  return extra;
}

/// A matrix of `rows` x `columns` along its rows, `lanes` at a time. Requires: `lanes` divides
/// them.
constexpr layout row_access(std::int64_t rows, std::int64_t columns, std::int64_t lanes) {
  return {{rows, columns}, {columns / lanes, lanes}, {lanes, 1}};
}
/// The same down its columns.
constexpr layout column_access(std::int64_t rows, std::int64_t columns, std::int64_t lanes) {
  return {{columns, 1}, {rows / lanes, lanes * columns}, {lanes, columns}};
}

/// A layout, and what it costs.
struct placement {
  swizzled_layout where;
  std::int64_t conflicts = 0;
  [[nodiscard]] constexpr std::int64_t room() const { return where.room(); }
  friend constexpr bool operator==(const placement&, const placement&) = default;
};

/// What may be done to a matrix so that banks do not meet.
struct placement_options {
  bool swizzles = true;  ///< exclusive or: for machines that address so
  bool pads = true;      ///< longer rows
  int row_bytes = 1;     ///< a row takes a multiple of this: what DMA and matrix units ask for
};

/// The row-major layout of a matrix with the fewest conflicts over some accesses; of equal ones the
/// smallest, and of those the plain one before an exchange before padding.
///
/// Requires: rows of whole `row_bytes`, where there is no padding.
constexpr placement place_matrix(std::int64_t rows, std::int64_t columns, int element_bytes,
                                 const bank_shape& banks, std::span<const layout> accesses,
                                 const placement_options& options = {}) {
  placement best;
  best.conflicts = std::numeric_limits<std::int64_t>::max();
  const auto attempt = [&](std::int64_t row, const swizzle& exchange) {
    placement p{{layout{{rows, row}, {columns, 1}}, exchange}, 0};
    for (const layout& access : accesses) {
      if (p.conflicts <= best.conflicts) {
        p.conflicts += bank_conflicts(p.where, access, element_bytes, banks);
      }
    }
    if (p.conflicts < best.conflicts || (p.conflicts == best.conflicts && p.room() < best.room())) {
      best = p;
    }
  };
  attempt(columns, {});
  const auto unsigned_word = static_cast<unsigned>(std::max(banks.bytes / element_bytes, 1));
  const int word = static_cast<int>(std::bit_width(unsigned_word)) - 1;
  const int most_bits = static_cast<int>(std::bit_width(static_cast<unsigned>(banks.count))) - 1;
  for (int bits = 1; options.swizzles && bits <= most_bits && best.conflicts > 0; ++bits) {
    for (int base = word; base <= word + most_bits - bits && best.conflicts > 0; ++base) {
      for (int shift = bits; shift <= 16 && best.conflicts > 0; ++shift) {
        if ((std::int64_t{1} << (base + shift)) < rows * columns) {
          attempt(columns, {bits, base, shift});
        }
      }
    }
  }
  const std::int64_t period = std::int64_t{banks.count} * banks.bytes / element_bytes;
  for (std::int64_t pad = 1; options.pads && pad <= period && best.conflicts > 0; ++pad) {
    if ((columns + pad) * element_bytes % options.row_bytes == 0) {
      attempt(columns + pad, {});
    }
  }
  return best;
}

}  // namespace ashlar::tile

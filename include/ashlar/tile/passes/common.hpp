// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/structure.hpp"

namespace ashlar::tile::passes {

namespace detail {

/// A hash table of the values that are visible, chained through the new program.
class common_subexpressions {
 public:
  constexpr explicit common_subexpressions(const program& p) : p_(p), s_(p), out_(p) {
    for (value_id& b : buckets_) {
      b = -1;
    }
  }

  constexpr program run() {
    for (int i = 0; i < p_.size; ++i) {
      step(i);
    }
    return out_.finish();
  }

 private:
  static constexpr std::size_t bucket_count = 128;

  constexpr void step(int i) {
    const instruction& now = p_.at(i);
    const opcode_info& about = info(now.op);
    if (about.regions > 0) {
      // A round of a loop may begin after the writes of the one before.
      version_ += at(s_.has_write, i) ? 1 : 0;
      out_.copy(i);
      return;
    }
    if (now.op == opcode::yield) {
      const value_id owner = at(s_.owner, i);
      const value_id first = at(s_.first_yield, owner);
      const int before = out_[i == first ? owner : first];
      out_.copy(i);
      forget(before + 1);
      return;
    }
    const value_id made = out_.copy(i);
    if (about.effect || now.op == opcode::region_input) {
      version_ += writes(now.op) ? 1 : 0;
      return;
    }
    const program& q = out_.so_far();
    if (made != q.size - 1) {
      return;
    }
    const std::size_t bucket = hash(q, q.at(made));
    for (value_id other = buckets_[bucket]; other >= 0; other = at(next_, other)) {
      if (same(q, q.at(made), q.at(other)) &&
          (!reads(now.op) || at(versions_, other) == version_)) {
        out_.replace(i, other);
        out_.drop_last();
        return;
      }
    }
    at(versions_, made) = version_;
    at(next_, made) = buckets_[bucket];
    at(in_, made) = static_cast<std::int16_t>(bucket + 1);
    buckets_[bucket] = made;
  }

  /// Takes everything from `first` on out of the table: it is no longer visible.
  constexpr void forget(int first) {
    for (int v = out_.so_far().size - 1; v >= first; --v) {
      if (std::int16_t& in = at(in_, v); in != 0) {
        buckets_[static_cast<std::size_t>(in - 1)] = at(next_, v);
        in = 0;
      }
    }
  }

  static constexpr std::size_t hash(const program& q, const instruction& i) {
    std::uint64_t h = static_cast<std::uint64_t>(i.op) * 31 + static_cast<std::uint64_t>(i.index);
    h = h * 31 + static_cast<std::uint64_t>(i.value) + static_cast<std::uint64_t>(i.value >> 32);
    for (const value_id o : q.operands(i)) {
      h = h * 31 + static_cast<std::uint64_t>(o);
    }
    return static_cast<std::size_t>((h ^ (h >> 11) ^ (h >> 44)) % bucket_count);
  }

  static constexpr bool same(const program& q, const instruction& a, const instruction& b) {
    if (a.op != b.op || a.index != b.index || a.value != b.value || a.count != b.count) {
      return false;
    }
    for (std::size_t k = 0; k < a.count; ++k) {
      if (q.operands(a)[k] != q.operands(b)[k]) {
        return false;
      }
    }
    return a.type == b.type;
  }

  const program& p_;
  structure s_;
  rewriter out_;
  std::array<value_id, bucket_count> buckets_{};
  per_instruction<value_id> next_{};
  per_instruction<std::int16_t> in_{};  ///< bucket + 1; 0 where it is in none
  per_instruction<std::int32_t> versions_{};
  std::int32_t version_ = 0;  ///< of the memory
};

}  // namespace detail

/// Computes equal expressions once: the later one takes the value of the earlier one, where that is
/// visible.
///
/// Two reads are equal only where nothing is written between them, to whichever view: any two views
/// may share memory. Instructions with regions are not merged.
/// Cost: O(size) on average.
constexpr program merge_common(const program& p) { return detail::common_subexpressions(p).run(); }

}  // namespace ashlar::tile::passes

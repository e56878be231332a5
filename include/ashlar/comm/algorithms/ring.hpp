// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "ashlar/comm/schedule.hpp"

namespace ashlar::comm {

namespace detail {

inline void ring_reduce_round(int p, int r, const partition& parts, std::size_t shift, int i,
                              round_steps& out) {
  const auto at = [&](int k) {
    const chunk c = parts.at(wrap(k, p));
    return chunk{c.first + shift, c.last + shift};
  };
  out.push_back(send_to(wrap(r + 1, p), at(r - i - 1)));
  out.push_back(reduce_from(wrap(r - 1, p), at(r - i - 2)));
}

inline void ring_gather_round(int p, int r, const partition& parts, std::size_t shift, int i,
                              round_steps& out) {
  const auto at = [&](int k) {
    const chunk c = parts.at(wrap(k, p));
    return chunk{c.first + shift, c.last + shift};
  };
  out.push_back(send_to(wrap(r + 1, p), at(r - i)));
  out.push_back(receive_from(wrap(r - 1, p), at(r - i - 1)));
}

}  // namespace detail

/// Around the ring: a part visits every rank once and grows, or is copied, on its way.
///
/// Order of the reduction: part `c` begins at rank c + 1 and ends at rank c, so an element is
/// `((x[c+1] op x[c+2]) op ...) op x[c]`, ranks modulo p. That is the same on every run, and on two
/// ranks it is the order of `ordered`, bit for bit, since the operations are commutative. On more
/// ranks the order depends on where an element lies; `ordered` is the one to compare with a sum
/// over micro-batches on one rank.
/// Cost:   all-reduce 2 (p - 1) rounds, each rank sends 2 n (p - 1) / p elements; the others half.
/// Source: bandwidth-optimal all-reduce (Patarasuk and Yuan, 2009).
struct ring {
  [[nodiscard]] schedule reduce_scatter(const problem& q) const {
    return {q.ranks - 1, 0, [q](int i, round_steps& out) {
              detail::ring_reduce_round(q.ranks, q.rank, q.parts, 0, i, out);
            }};
  }
  [[nodiscard]] schedule all_gather(const problem& q) const {
    return {q.ranks - 1, 0, [q](int i, round_steps& out) {
              detail::ring_gather_round(q.ranks, q.rank, q.parts, 0, i, out);
            }};
  }
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const int half = q.ranks - 1;
    return {2 * half, 0, [q, half](int i, round_steps& out) {
              i < half ? detail::ring_reduce_round(q.ranks, q.rank, q.parts, 0, i, out)
                       : detail::ring_gather_round(q.ranks, q.rank, q.parts, 0, i - half, out);
            }};
  }
};

/// As `ring`, in pieces that stay in a cache: while one piece is reduced, the one before it is
/// gathered.
///
/// Cost: (k + 1) (p - 1) rounds for k pieces; the bytes of `ring`.
struct segmented_ring {
  std::size_t segment_bytes = std::size_t{1} << 19;  ///< of a piece, all ranks' parts together

  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const std::size_t segment = detail::elements_in(segment_bytes, q);
    const int pieces = detail::segments(q.count, segment);
    const int half = q.ranks - 1;
    const int rounds = detail::checked_rounds((std::int64_t{pieces} + 1) * half);
    return {rounds, 0, [q, segment, pieces, half](int i, round_steps& out) {
              const int piece = i / half;
              const auto parts = [&](chunk c) { return partition(c.size(), q.ranks); };
              if (piece < pieces) {
                const chunk c = detail::segment_of({0, q.count}, segment, piece);
                detail::ring_reduce_round(q.ranks, q.rank, parts(c), c.first, i % half, out);
              }
              if (piece > 0) {
                const chunk c = detail::segment_of({0, q.count}, segment, piece - 1);
                detail::ring_gather_round(q.ranks, q.rank, parts(c), c.first, i % half, out);
              }
            }};
  }
  [[nodiscard]] schedule all_gather(const problem& q) const { return ring{}.all_gather(q); }
};

}  // namespace ashlar::comm

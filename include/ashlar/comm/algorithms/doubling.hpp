// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>

#include "ashlar/comm/schedule.hpp"

namespace ashlar::comm {

namespace detail {

/// Any number of ranks as a power of two: of the first `2 * rest` ranks, each odd one stands for
/// itself and the even one before it.
struct folding {
  int ranks;
  int pow2;
  int rest;

  explicit constexpr folding(int p) : ranks(p), pow2(1), rest(0) {
    while (pow2 * 2 <= p) {
      pow2 *= 2;
    }
    rest = p - pow2;
  }
  [[nodiscard]] constexpr int levels() const { return log2_up(pow2); }
  [[nodiscard]] constexpr bool folds(int rank) const { return rank < 2 * rest; }
  /// This rank's place among the `pow2`, -1 where another stands for it.
  [[nodiscard]] constexpr int place_of(int rank) const {
    return !folds(rank) ? rank - rest : rank % 2 != 0 ? rank / 2 : -1;
  }
  [[nodiscard]] constexpr int rank_at(int where) const {
    return where < rest ? 2 * where + 1 : where + rest;
  }
  /// The first rank for which a place stands; places stand for consecutive ranks.
  [[nodiscard]] constexpr int first_rank(int where) const {
    return where < rest ? 2 * where : where + rest;
  }
  /// What places `first` to `last - 1` own.
  [[nodiscard]] chunk owned(const partition& parts, int first, int last) const {
    return parts.range(first_rank(first), first_rank(last));
  }
};

/// Even ranks give all they have to the odd ones that stand for them.
inline void fold(const folding& f, int r, chunk all, round_steps& out) {
  if (f.folds(r)) {
    out.push_back(r % 2 == 0 ? send_to(r + 1, all) : reduce_from(r - 1, all));
  }
}
/// Odd ranks give the even ones something back.
inline void unfold(const folding& f, int r, chunk what, round_steps& out) {
  if (f.folds(r)) {
    out.push_back(r % 2 == 0 ? receive_from(r + 1, what) : send_to(r - 1, what));
  }
}

/// Halves: after the last round a place has the result of what it owns.
inline schedule halve(const problem& q, const folding& f) {
  const int v = f.place_of(q.rank);
  return {f.levels(), 0, [q, f, v](int i, round_steps& out) {
            if (v < 0) {
              return;
            }
            const int distance = f.pow2 >> (i + 1);
            const int own = v & ~(distance - 1);  // the half that this place is in
            const int other = own ^ distance;
            const int peer = f.rank_at(v ^ distance);
            out.push_back(send_to(peer, f.owned(q.parts, other, other + distance)));
            out.push_back(reduce_from(peer, f.owned(q.parts, own, own + distance), own > other));
          }};
}

/// Doubles: each place begins with what it owns and ends with all.
inline schedule gather_doubling(const problem& q, const folding& f) {
  const int v = f.place_of(q.rank);
  return {f.levels(), 0, [q, f, v](int i, round_steps& out) {
            if (v < 0) {
              return;
            }
            const int distance = 1 << i;
            const int own = v & ~(distance - 1);
            const int other = own ^ distance;
            const int peer = f.rank_at(v ^ distance);
            out.push_back(send_to(peer, f.owned(q.parts, own, own + distance)));
            out.push_back(receive_from(peer, f.owned(q.parts, other, other + distance)));
          }};
}

inline schedule one_round(schedule::rule r) { return {1, 0, std::move(r)}; }

}  // namespace detail

/// Everybody exchanges all it has with the rank at distance 1, 2, 4, ...: few rounds, many bytes.
///
/// Where p is no power of two, p - 2^k ranks give their data away first and get the result last:
/// two rounds more. The lower rank's operand stands left, so every rank forms the same bits.
/// Cost:   floor(log2 p) rounds of n elements (all-reduce), or of n / p, 2 n / p, ... (all-gather).
/// Source: Thakur, Rabenseifner and Gropp, 2005.
struct recursive_doubling {
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const detail::folding f(q.ranks);
    const int v = f.place_of(q.rank);
    const int before = f.rest > 0 ? 1 : 0;
    return {f.levels() + 2 * before, q.count, [q, f, v, before](int i, round_steps& out) {
              const chunk all{0, q.count};
              const int level = i - before;
              if (level < 0) {
                detail::fold(f, q.rank, all, out);
              } else if (level == f.levels()) {
                detail::unfold(f, q.rank, all, out);
              } else if (v >= 0) {
                const int peer = f.rank_at(v ^ (1 << level));
                out.push_back(detail::send_to(peer, all));
                out.push_back(detail::receive_from(peer, all, place::scratch));
                step local = detail::reduce({place::scratch, 0}, {place::data, 0}, q.count);
                local.arrived_is_left = peer < q.rank;
                out.push_back(local);
              }
            }};
  }
  [[nodiscard]] schedule all_gather(const problem& q) const {
    const detail::folding f(q.ranks);
    schedule s = detail::gather_doubling(q, f);
    if (f.rest == 0) {
      return s;
    }
    return detail::one_round([q, f](int, round_steps& out) {
             if (f.folds(q.rank)) {
               const chunk given = q.parts.at(q.rank & ~1);
               out.push_back(q.rank % 2 == 0 ? detail::send_to(q.rank + 1, given)
                                             : detail::receive_from(q.rank - 1, given));
             }
           }) +
           std::move(s) + detail::one_round([q, f](int, round_steps& out) {
             detail::unfold(f, q.rank, {0, q.count}, out);
           });
  }
};

/// Recursive halving, which leaves each rank a part of the result, then recursive doubling.
///
/// Cost:   2 floor(log2 p) rounds and 2 n (p - 1) / p elements; where p is no power of two, two
///         rounds and up to 2 n elements more.
/// Source: Rabenseifner, 2004.
struct rabenseifner {
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const detail::folding f(q.ranks);
    schedule s = detail::halve(q, f) + detail::gather_doubling(q, f);
    if (f.rest == 0) {
      return s;
    }
    return folded(q, f) + std::move(s) + detail::one_round([q, f](int, round_steps& out) {
             detail::unfold(f, q.rank, {0, q.count}, out);
           });
  }
  [[nodiscard]] schedule reduce_scatter(const problem& q) const {
    const detail::folding f(q.ranks);
    schedule s = detail::halve(q, f);
    if (f.rest == 0) {
      return s;
    }
    return folded(q, f) + std::move(s) + detail::one_round([q, f](int, round_steps& out) {
             detail::unfold(f, q.rank, q.parts.at(q.rank & ~1), out);
           });
  }
  [[nodiscard]] schedule all_gather(const problem& q) const {
    return recursive_doubling{}.all_gather(q);
  }

 private:
  static schedule folded(const problem& q, const detail::folding& f) {
    return detail::one_round([q, f](int, round_steps& out) {
      detail::fold(f, q.rank, {0, q.count}, out);
    });
  }
};

}  // namespace ashlar::comm

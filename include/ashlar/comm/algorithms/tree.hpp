// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>

#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/schedule.hpp"

namespace ashlar::comm {

namespace detail {

/// The rank's place in a tree whose root is place 0, and back.
struct rooted {
  int ranks;
  int root;
  [[nodiscard]] int place_of(int rank) const { return wrap(rank - root, ranks); }
  [[nodiscard]] int rank_at(int where) const { return (where + root) % ranks; }
};

/// Parts by place: place 0 owns the first part.
inline chunk owned_by_places(const partition& parts, int first, int last) {
  return parts.range(first, std::min(last, parts.parts()));
}

/// Down a binomial tree; place v ends with the parts of its subtree.
inline schedule binomial_scatter(const problem& q) {
  const rooted t{q.ranks, q.root};
  const int levels = log2_up(q.ranks);
  return {levels, 0, [q, t, levels](int i, round_steps& out) {
            const int distance = 1 << (levels - 1 - i);
            const int v = t.place_of(q.rank);
            if (v % (2 * distance) == 0 && v + distance < q.ranks) {
              out.push_back(send_to(t.rank_at(v + distance),
                                    owned_by_places(q.parts, v + distance, v + 2 * distance)));
            } else if (v % (2 * distance) == distance) {
              out.push_back(
                  receive_from(t.rank_at(v - distance), owned_by_places(q.parts, v, v + distance)));
            }
          }};
}
/// The way back.
inline schedule binomial_gather(const problem& q) {
  const rooted t{q.ranks, q.root};
  return {log2_up(q.ranks), 0, [q, t](int i, round_steps& out) {
            const int distance = 1 << i;
            const int v = t.place_of(q.rank);
            if (v % (2 * distance) == distance) {
              out.push_back(
                  send_to(t.rank_at(v - distance), owned_by_places(q.parts, v, v + distance)));
            } else if (v % (2 * distance) == 0 && v + distance < q.ranks) {
              out.push_back(receive_from(t.rank_at(v + distance),
                                         owned_by_places(q.parts, v + distance, v + 2 * distance)));
            }
          }};
}
/// The ring of places, for parts that belong to places.
inline schedule place_ring(const problem& q, bool reduces) {
  const rooted t{q.ranks, q.root};
  return {q.ranks - 1, 0, [q, t, reduces](int i, round_steps& out) {
            const int v = t.place_of(q.rank);
            reduces ? ring_reduce_round(q.ranks, v, q.parts, 0, i, out)
                    : ring_gather_round(q.ranks, v, q.parts, 0, i, out);
            for (step& s : out) {
              s.peer = t.rank_at(s.peer);
            }
          }};
}

}  // namespace detail

/// Along a binomial tree, the whole data at every edge: few rounds, for short messages.
///
/// Cost: broadcast and reduce ceil(log2 p) rounds, n elements over each of p - 1 edges; all-reduce
///       is one after the other.
struct binomial {
  [[nodiscard]] schedule broadcast(const problem& q) const {
    const detail::rooted t{q.ranks, q.root};
    return {detail::log2_up(q.ranks), 0, [q, t](int i, round_steps& out) {
              const int distance = 1 << i;
              const int v = t.place_of(q.rank);
              if (v < distance && v + distance < q.ranks) {
                out.push_back(detail::send_to(t.rank_at(v + distance), {0, q.count}));
              } else if (v >= distance && v < 2 * distance) {
                out.push_back(detail::receive_from(t.rank_at(v - distance), {0, q.count}));
              }
            }};
  }
  /// What `data` holds on ranks other than the root is partly reduced.
  [[nodiscard]] schedule reduce(const problem& q) const {
    const detail::rooted t{q.ranks, q.root};
    return {detail::log2_up(q.ranks), 0, [q, t](int i, round_steps& out) {
              const int distance = 1 << i;
              const int v = t.place_of(q.rank);
              if (v % (2 * distance) == distance) {
                out.push_back(detail::send_to(t.rank_at(v - distance), {0, q.count}));
              } else if (v % (2 * distance) == 0 && v + distance < q.ranks) {
                out.push_back(detail::reduce_from(t.rank_at(v + distance), {0, q.count}, false));
              }
            }};
  }
  [[nodiscard]] schedule all_reduce(const problem& q) const { return reduce(q) + broadcast(q); }
};

/// Long messages in parts: broadcast scatters them down a binomial tree and gathers them around a
/// ring, reduce does the reverse.
///
/// Cost: ceil(log2 p) + p - 1 rounds; about 2 n (p - 1) / p elements through the root.
struct scatter_gather {
  [[nodiscard]] schedule broadcast(const problem& q) const {
    return detail::binomial_scatter(q) + detail::place_ring(q, false);
  }
  [[nodiscard]] schedule reduce(const problem& q) const {
    return detail::place_ring(q, true) + detail::binomial_gather(q);
  }
};

/// Along a chain of ranks, in segments, so that hops overlap.
///
/// Broadcast goes root, root + 1, ...; reduce comes the other way. All-reduce goes up from rank 0
/// and back down, so that its order is that of the ranks, the order of `ordered`.
/// Cost: k + p - 2 rounds for k segments, n elements over each edge; all-reduce twice that.
struct chain {
  std::size_t segment_bytes = std::size_t{1} << 16;

  [[nodiscard]] schedule broadcast(const problem& q) const {
    return along(q, detail::rooted{q.ranks, q.root}.place_of(q.rank), q.root, 1, false);
  }
  [[nodiscard]] schedule reduce(const problem& q) const {
    // The far end is the root of the way back.
    const int far = detail::wrap(q.root - 1, q.ranks);
    return along(q, detail::wrap(far - q.rank, q.ranks), far, -1, true);
  }
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    return along(q, q.rank, 0, 1, true) + along(q, q.ranks - 1 - q.rank, q.ranks - 1, -1, false);
  }

 private:
  /// `where` is this rank's place; place k is rank `start + k * direction`.
  [[nodiscard]] schedule along(const problem& q, int where, int start, int direction,
                               bool reduces) const {
    const std::size_t segment = detail::elements_in(segment_bytes, q);
    const int pieces = detail::segments(q.count, segment);
    const auto rank_at = [start, direction, p = q.ranks](int k) {
      return detail::wrap((start + k * direction) % p, p);
    };
    return {q.ranks == 1 ? 0 : pieces + q.ranks - 2, 0,
            [=, this_many = q.count, p = q.ranks](int i, round_steps& out) {
              const int arriving = i - (where - 1);
              const int leaving = i - where;
              const chunk all{0, this_many};
              if (where > 0 && arriving >= 0 && arriving < pieces) {
                const chunk c = detail::segment_of(all, segment, arriving);
                out.push_back(reduces ? detail::reduce_from(rank_at(where - 1), c)
                                      : detail::receive_from(rank_at(where - 1), c));
              }
              if (where < p - 1 && leaving >= 0 && leaving < pieces) {
                out.push_back(
                    detail::send_to(rank_at(where + 1), detail::segment_of(all, segment, leaving)));
              }
            }};
  }
};

namespace detail {

/// A binary tree over places 0 to n - 1 in which all but place 0 stand in order: leaves are odd.
struct in_order_tree {
  int parent = -1;
  std::array<int, 2> children = {-1, -1};
  int depth = 0;

  static int parent_of(int v, int n) {
    if (v == 0) {
      return -1;
    }
    const int low = v & -v;
    const int up = (v ^ low) | (low << 1);
    return up < n ? up : v ^ low;
  }
  in_order_tree(int v, int n) : parent(parent_of(v, n)) {
    for (int at = v; at != 0; at = parent_of(at, n)) {
      ++depth;
    }
    if (v == 0) {
      int top = 1;
      while (top * 2 < n) {
        top *= 2;
      }
      children[0] = n > 1 ? top : -1;
      return;
    }
    const int low = v & -v;
    if (low > 1) {
      children[0] = v - low / 2;
      int right = low / 2;  // the largest subtree that is there
      while (right > 0 && v + right >= n) {
        right /= 2;
      }
      children[1] = right > 0 ? v + right : -1;
    }
  }
  /// The depth of place 1, down the leftmost way: nobody is deeper.
  static int height(int n) { return log2_up(n); }
};

}  // namespace detail

/// Two binary trees, each for half of the data: whoever is inside one is a leaf of the other (of
/// an odd number of ranks, all but one), so every rank both sends and receives all the time.
///
/// Cost:   2 h + k - 1 rounds for k segments per tree of height h = ceil(log2 p); a rank sends
///         at most 2 n elements, all together 2 n (p - 1).
/// Source: Sanders, Speck and Traff, 2009.
struct double_tree {
  std::size_t segment_bytes = std::size_t{1} << 16;

  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const int p = q.ranks;
    if (p == 1) {
      return {};
    }
    const std::size_t segment = detail::elements_in(segment_bytes, q);
    const partition halves(q.count, 2);
    const int pieces = detail::segments(halves.at(0).size(), segment);
    const int height = detail::in_order_tree::height(p);
    struct tree {
      detail::in_order_tree node;
      bool mirrored, shifted;
      int ranks;
      [[nodiscard]] int rank_at(int v) const {
        return mirrored ? ranks - 1 - v : shifted ? (v + 1) % ranks : v;
      }
    };
    const bool even = p % 2 == 0;
    const int second = even ? p - 1 - q.rank : detail::wrap(q.rank - 1, p);
    const std::array<tree, 2> trees{{{detail::in_order_tree(q.rank, p), false, false, p},
                                     {detail::in_order_tree(second, p), even, !even, p}}};
    return {2 * height + pieces - 1, 0, [=](int i, round_steps& out) {
              for (std::size_t k = 0; k < 2; ++k) {
                const tree& t = trees[k];
                const chunk half = halves.at(static_cast<int>(k));
                const auto piece = [&](int s) { return detail::segment_of(half, segment, s); };
                const auto there = [&](int s) { return s >= 0 && s < pieces; };
                const int up = i - (height - t.node.depth);  // leaves for the parent
                const int down = i - height - t.node.depth;  // leaves for the children
                if (t.node.parent >= 0 && there(up)) {
                  out.push_back(detail::send_to(t.rank_at(t.node.parent), piece(up)));
                }
                for (const int child : t.node.children) {
                  if (child >= 0 && there(up + 1)) {
                    out.push_back(detail::reduce_from(t.rank_at(child), piece(up + 1), false));
                  }
                }
                if (t.node.parent >= 0 && there(down + 1)) {
                  out.push_back(detail::receive_from(t.rank_at(t.node.parent), piece(down + 1)));
                }
                for (const int child : t.node.children) {
                  if (child >= 0 && there(down)) {
                    out.push_back(detail::send_to(t.rank_at(child), piece(down)));
                  }
                }
              }
            }};
  }
};

}  // namespace ashlar::comm

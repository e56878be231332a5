// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Reduction in order of rank: `((x[0] op x[1]) op x[2]) op ...` for every element, on any number
/// of ranks: bit for bit what one rank gets that adds up the same parts one after the other.
///
/// Every rank gets its part from all others directly. It sends as many bytes as `ring`, in as many
/// messages, but needs memory for n (p - 1) / p elements on more than two ranks, and a network
/// where any two ranks meet.
struct ordered {
  /// The rest of `data` keeps its values.
  [[nodiscard]] schedule reduce_scatter(const problem& q) const {
    const chunk own = q.parts.at(q.rank);
    if (q.ranks == 2) {
      return {1, 0, [=](int, round_steps& out) {
                const int other = 1 - q.rank;
                out.push_back(detail::send_to(other, q.parts.at(other)));
                out.push_back(detail::reduce_from(other, own, other < q.rank));
              }};
    }
    const std::size_t n = own.size();
    const auto slot = [n, r = q.rank](int rank) {
      return region{place::scratch, n * static_cast<std::size_t>(rank < r ? rank : rank - 1)};
    };
    const int p = q.ranks;
    return {p - 1, n * static_cast<std::size_t>(p - 1), [=](int i, round_steps& out) {
              const int to = (q.rank + i + 1) % p;
              const int from = detail::wrap(q.rank - i - 1, p);
              out.push_back(detail::send_to(to, q.parts.at(to)));
              const std::size_t at = slot(from).first;
              out.push_back(detail::receive_from(from, {at, at + n}, place::scratch));
              if (i == p - 2) {
                const region mine{place::data, own.first};
                const region result = q.rank == 0 ? mine : slot(0);
                for (int rank = 1; rank < p; ++rank) {
                  out.push_back(detail::reduce(rank == q.rank ? mine : slot(rank), result, n));
                }
                if (q.rank != 0) {
                  out.push_back(detail::copy(result, mine, n));
                }
              }
            }};
  }
  [[nodiscard]] schedule all_gather(const problem& q) const { return ring{}.all_gather(q); }
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    return reduce_scatter(q) + all_gather(q);
  }
};

/// The rounds of an algorithm with the result of `ordered`, bit for bit.
///
/// Where `Algorithm` moves parts (it has `all_gather`), parts are reduced by their owners in rank
/// order and gathered as it gathers. Else it moves whole messages, and every rank gets all ranks'
/// data by recursive doubling and reduces them itself: n p elements of memory, for short messages.
template <class Algorithm>
struct fixed_order {
  Algorithm base = {};

  [[nodiscard]] schedule reduce_scatter(const problem& q) const {
    return ordered{}.reduce_scatter(q);
  }
  [[nodiscard]] schedule all_reduce(const problem& q) const {
    if constexpr (requires {
                    base.reduce_scatter(q);
                    base.all_gather(q);
                  } || std::is_same_v<Algorithm, segmented_ring>) {
      return reduce_scatter(q) + base.all_gather(q);
    } else if constexpr (std::is_same_v<Algorithm, chain>) {
      return base.all_reduce(q);
    } else {
      return gathered(q);
    }
  }

 private:
  static schedule gathered(const problem& q) {
    const int p = q.ranks;
    const std::size_t n = q.count;
    if (p == 1) {
      return {};
    }
    const std::size_t all = n * static_cast<std::size_t>(p);
    const auto inner = std::make_shared<const schedule>(
        recursive_doubling{}.all_gather(problem::even(p, q.rank, all, q.element_bytes)));
    return {inner->rounds() + 1, all, [=](int i, round_steps& out) {
              if (i == 0) {
                out.push_back(detail::copy(
                    {place::data, 0}, {place::scratch, n * static_cast<std::size_t>(q.rank)}, n));
                return;
              }
              inner->round(i - 1, out);
              for (step& s : out) {
                s.from.in = s.to.in = place::scratch;
              }
              if (i == inner->rounds()) {
                for (int rank = 1; rank < p; ++rank) {
                  out.push_back(detail::reduce({place::scratch, n * static_cast<std::size_t>(rank)},
                                               {place::scratch, 0}, n));
                }
                out.push_back(detail::copy({place::scratch, 0}, {place::data, 0}, n));
              }
            }};
  }
};

/// Groups of `node` consecutive ranks reduce among themselves, then across, then share: slow links
/// between groups carry little.
///
/// Where every group is full, each rank reduces its part of the data with its fellows of the other
/// groups. Else the first rank of each group does so for the group.
/// Cost: with g ranks per group, N groups: 2 (g - 1) + 2 (N - 1) rounds, 2 n (g - 1) / g elements
///       inside and 2 n (N - 1) / (g N) across.
struct hierarchical {
  int node = 2;

  [[nodiscard]] schedule all_reduce(const problem& q) const {
    const int g = std::clamp(node, 1, q.ranks);
    const int first = q.rank / g * g;
    const int inside = q.rank - first;
    const int groups = (q.ranks + g - 1) / g;
    if (q.ranks % g == 0) {
      const problem local = problem::even(g, inside, q.count, q.element_bytes);
      const chunk own = local.parts.at(inside);
      const problem across = problem::even(groups, q.rank / g, own.size(), q.element_bytes);
      return among(ring{}.reduce_scatter(local), first, 1) +
             among(ring{}.all_reduce(across), inside, g, own.first) +
             among(ring{}.all_gather(local), first, 1);
    }
    const int here = std::min(g, q.ranks - first);
    const problem local = problem::even(here, inside, q.count, q.element_bytes);
    const problem across = problem::even(groups, q.rank / g, q.count, q.element_bytes);
    return among(binomial{}.reduce(local), first, 1) +
           (inside == 0 ? among(ring{}.all_reduce(across), 0, g) : schedule()) +
           among(binomial{}.broadcast(local), first, 1);
  }
};

/// All-to-all: who sends how much to whom, of `place::input` and of `place::data`.
struct exchange {
  int ranks = 1;
  int rank = 0;
  partition out;  ///< part `k` of the input goes to rank `k`
  partition in;   ///< part `k` of the data comes from rank `k`

  static exchange even(int ranks, int rank, std::size_t block) {
    const partition all(block * static_cast<std::size_t>(ranks), ranks);
    return {ranks, rank, all, all};
  }
};

/// All-to-all with one partner to send to and one to receive from in each round.
///
/// Cost: p - 1 rounds; what is sent to others is sent once.
struct pairwise {
  [[nodiscard]] schedule all_to_all(const exchange& q) const {
    return {std::max(1, q.ranks - 1), 0, [q](int i, round_steps& out) {
              if (q.ranks > 1) {
                const int to = (q.rank + i + 1) % q.ranks;
                const int from = detail::wrap(q.rank - i - 1, q.ranks);
                out.push_back(detail::send_to(to, q.out.at(to), place::input));
                out.push_back(detail::receive_from(from, q.in.at(from)));
              }
              if (i == 0) {
                const chunk own = q.out.at(q.rank);
                out.push_back(detail::copy({place::input, own.first},
                                           {place::data, q.in.at(q.rank).first}, own.size()));
              }
            }};
  }
};

/// Blocks travel along the binary digits of their distance: few rounds for short messages.
///
/// Cost:   ceil(log2 p) rounds (and one without messages for all-to-all). All-gather n (p - 1) / p
///         elements; all-to-all about n / 2 per round, for blocks of one size.
/// Source: Bruck et al., 1997.
struct bruck {
  [[nodiscard]] schedule all_gather(const problem& q) const {
    const int p = q.ranks;
    if (p == 1) {
      return {};
    }
    // Parts lie in scratch in the order of ranks from this one on.
    const auto start = [q, p](int k) {
      const int at = q.rank + k;
      const std::size_t before = q.parts.start(q.rank);
      return at <= p ? q.parts.start(at) - before : q.count - before + q.parts.start(at - p);
    };
    const int levels = detail::log2_up(p);
    return {
        levels + 1, q.count, [=](int i, round_steps& out) {
          const chunk own = q.parts.at(q.rank);
          if (i == 0) {
            out.push_back(detail::copy({place::data, own.first}, {place::scratch, 0}, own.size()));
            return;
          }
          const int have = 1 << (i - 1);
          const int more = std::min(have, p - have);
          const int from = (q.rank + have) % p;
          out.push_back(
              detail::send_to(detail::wrap(q.rank - have, p), {0, start(more)}, place::scratch));
          out.push_back(
              detail::receive_from(from, {start(have), start(have + more)}, place::scratch));
          if (i == levels) {
            const std::size_t tail = q.count - own.first;  // this rank's and later ones'
            out.push_back(detail::copy({place::scratch, 0}, {place::data, own.first}, tail));
            out.push_back(detail::copy({place::scratch, tail}, {place::data, 0}, q.count - tail));
          }
        }};
  }
  /// Throws: `argument_error` where blocks differ in size.
  [[nodiscard]] schedule all_to_all(const exchange& q) const {
    const int p = q.ranks;
    const std::size_t m = q.out.at(0).size();
    for (int k = 0; k < p; ++k) {
      if (q.in.at(k).size() != m || q.out.at(k).size() != m) {
        throw argument_error("ashlar::comm::bruck", "blocks of different sizes; use pairwise");
      }
    }
    const int levels = detail::log2_up(p);
    const std::size_t all = m * static_cast<std::size_t>(p);
    // Scratch: blocks by distance; then what leaves and what arrives, packed.
    const auto distance_block = [m](int k) {
      return region{place::scratch, m * static_cast<std::size_t>(k)};
    };
    const auto each = [p](int level, auto&& f) {
      std::size_t packed = 0;
      for (int k = 0; k < p; ++k) {
        if ((k >> level & 1) != 0) {
          f(k, packed++);
        }
      }
      return packed;
    };
    return {
        levels + 1, 3 * all, [=](int i, round_steps& out) {
          const auto pack = [&](int level) {
            each(level, [&](int k, std::size_t n) {
              out.push_back(detail::copy(distance_block(k), {place::scratch, all + m * n}, m));
            });
          };
          if (i == 0) {
            for (int k = 0; k < p; ++k) {
              out.push_back(detail::copy({place::input, q.out.at((q.rank + k) % p).first},
                                         distance_block(k), m));
            }
          } else {
            const int level = i - 1;
            const int far = 1 << level;
            const std::size_t n = each(level, [](int, std::size_t) {}) * m;
            out.push_back(detail::send_to((q.rank + far) % p, {all, all + n}, place::scratch));
            out.push_back(detail::receive_from(detail::wrap(q.rank - far, p),
                                               {2 * all, 2 * all + n}, place::scratch));
            each(level, [&](int k, std::size_t at) {
              out.push_back(detail::copy({place::scratch, 2 * all + m * at}, distance_block(k), m));
            });
          }
          if (i < levels) {
            pack(i);
          } else {
            for (int k = 0; k < p; ++k) {
              const int from = detail::wrap(q.rank - k, p);
              out.push_back(detail::copy(distance_block(k), {place::data, q.in.at(from).first}, m));
            }
          }
        }};
  }
};

/// Barrier: ceil(log2 p) rounds of empty messages.
struct dissemination {
  [[nodiscard]] schedule barrier(const problem& q) const {
    return {detail::log2_up(q.ranks), 0, [q](int i, round_steps& out) {
              const int far = 1 << i;
              out.push_back(detail::send_to((q.rank + far) % q.ranks, {}));
              out.push_back(detail::receive_from(detail::wrap(q.rank - far, q.ranks), {}));
            }};
  }
};

}  // namespace ashlar::comm

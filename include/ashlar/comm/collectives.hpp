// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// Tags of the collectives' messages; a program's own messages use 0 to 31999.
///
/// No more than 32767, the least that MPI promises.
namespace tags {
inline constexpr int reduce_scatter = 32000;
inline constexpr int all_gather = 32001;
inline constexpr int broadcast = 32002;
inline constexpr int barrier = 32003;
}  // namespace tags

namespace detail {

template <class T>
std::span<T> part(std::span<T> data, chunk c) {
  return data.subspan(c.first, c.size());
}

/// For queries in concepts only.
struct any_transport {
  [[nodiscard]] int rank() const;
  [[nodiscard]] int size() const;
  void send(int to, std::span<const std::byte> out, int tag);
  void recv(int from, std::span<std::byte> in, int tag);
  void sendrecv(int to, std::span<const std::byte> out, int from, std::span<std::byte> in, int tag);
};

/// `value` modulo `ranks`, for values down to `-ranks`.
constexpr int wrap(int value, int ranks) { return (value + ranks) % ranks; }

inline void check_chunk(const char* entity, std::size_t given, chunk own) {
  if (given != own.size()) {
    throw argument_error(entity, "this rank's chunk has " + std::to_string(given) +
                                     " elements; chunk_of gives " + std::to_string(own.size()));
  }
}

/// Passes chunks on around the ring until every rank has all; rank `r` begins with chunk `r`.
template <Transport Tr, Element T>
void pass_around(Tr& t, std::span<T> data) {
  const int p = t.size();
  const int r = t.rank();
  for (int step = 0; step < p - 1; ++step) {
    const chunk out = chunk_of(data.size(), p, wrap(r - step, p));
    const chunk in = chunk_of(data.size(), p, wrap(r - step - 1, p));
    t.sendrecv(wrap(r + 1, p), std::as_bytes(part(data, out)), wrap(r - 1, p),
               std::as_writable_bytes(part(data, in)), tags::all_gather);
  }
}

}  // namespace detail

/// Waits until every rank has called it.
///
/// Cost: ceil(log2 p) empty messages per rank (dissemination).
template <Transport Tr>
void barrier(Tr& t) {
  const int p = t.size();
  for (int distance = 1; distance < p; distance *= 2) {
    t.sendrecv((t.rank() + distance) % p, {}, detail::wrap(t.rank() - distance, p), {},
               tags::barrier);
  }
}

/// Copies `data` of rank `root` to every rank, in segments along the chain root, root + 1, ...
///
/// Requires: the same size on every rank.
/// Throws: `argument_error` where there is no such root; what the transport throws.
/// Cost:   each rank but the last sends n elements.
template <Transport Tr, Element T>
void broadcast(Tr& t, std::span<T> data, int root) {
  const int p = t.size();
  if (root < 0 || root >= p) {
    throw argument_error("ashlar::comm::broadcast", "there is no rank " + std::to_string(root) +
                                                        " in a group of " + std::to_string(p));
  }
  constexpr std::size_t segment = std::size_t{1} << 14;  // elements: hops overlap beyond this
  const int place = detail::wrap(t.rank() - root, p);
  std::size_t first = 0;
  do {  // at least one message, so that sizes are compared even where one of them is 0
    const auto piece = data.subspan(first, std::min(segment, data.size() - first));
    if (place > 0) {
      t.recv(detail::wrap(t.rank() - 1, p), std::as_writable_bytes(piece), tags::broadcast);
    }
    if (place < p - 1) {
      t.send(detail::wrap(t.rank() + 1, p), std::as_bytes(piece), tags::broadcast);
    }
    first += piece.size();
  } while (first < data.size());
}

/// Collects every rank's chunk: `all` is the same on every rank afterwards.
///
/// Shapes: `all` has n elements; `own` is this rank's `chunk_of(n, p, rank)` of them, and may be
///         that part of `all` itself.
/// Throws: `argument_error` where `own` has another size; what the transport throws.
/// Cost:   p - 1 messages and about n (p - 1) / p elements sent per rank, around the ring.
template <Transport Tr, Element T>
void all_gather(Tr& t, std::span<const T> own, std::span<T> all) {
  const chunk c = chunk_of(all.size(), t.size(), t.rank());
  detail::check_chunk("ashlar::comm::all_gather", own.size(), c);
  if (!own.empty() && own.data() != all.data() + c.first) {
    std::ranges::copy(own, detail::part(all, c).begin());
  }
  detail::pass_around(t, all);
}

/// Reduction around the ring: a chunk visits every rank once and grows on its way.
///
/// Order of the reduction: chunk `c` begins at rank c + 1 and ends at rank c, so an element is
/// `((x[c+1] op x[c+2]) op ...) op x[c]`, ranks modulo p. That is the same on every run, and on two
/// ranks it is the order of `ordered`, bit for bit, since the operations are commutative. On more
/// ranks the order depends on where an element lies; `ordered` is the one to compare with a sum
/// over micro-batches on one rank.
/// Source: bandwidth-optimal all-reduce (Patarasuk and Yuan, 2009).
struct ring {
  /// Reduces `data` over the ranks; afterwards this rank's chunk of it, `chunk_of(n, p, rank)`,
  /// holds the result and the rest holds partial results.
  ///
  /// Cost: p - 1 messages and about n (p - 1) / p elements sent per rank; n / p elements of memory.
  template <Transport Tr, Element T, ReduceOp Op = sum_op>
  static void reduce_scatter(Tr& t, std::span<T> data, Op op = {}) {
    const int p = t.size();
    const int r = t.rank();
    const auto arrived = std::make_unique_for_overwrite<T[]>(chunk_of(data.size(), p, 0).size());
    for (int step = 0; step < p - 1; ++step) {
      const auto out = detail::part(data, chunk_of(data.size(), p, detail::wrap(r - step - 1, p)));
      const auto own = detail::part(data, chunk_of(data.size(), p, detail::wrap(r - step - 2, p)));
      const auto in = std::span(arrived.get(), own.size());
      t.sendrecv(detail::wrap(r + 1, p), std::as_bytes(out), detail::wrap(r - 1, p),
                 std::as_writable_bytes(in), tags::reduce_scatter);
      for (std::size_t i = 0; i < own.size(); ++i) {
        own[i] = op(in[i], own[i]);
      }
    }
  }
};

/// Reduction in order of rank: `((x[0] op x[1]) op x[2]) op ...` for every element, on any number
/// of ranks: bit for bit what one rank gets that adds up the same parts one after the other.
///
/// Every rank gets its chunk from all others directly. It sends as many bytes as `ring`, in as many
/// messages, but needs memory for n (p - 1) / p elements, and a network where any two ranks meet.
struct ordered {
  /// As `ring::reduce_scatter`; the rest of `data` keeps its values.
  template <Transport Tr, Element T, ReduceOp Op = sum_op>
  static void reduce_scatter(Tr& t, std::span<T> data, Op op = {}) {
    const int p = t.size();
    const int r = t.rank();
    const auto own = detail::part(data, chunk_of(data.size(), p, r));
    const std::size_t n = own.size();
    const auto others = std::make_unique_for_overwrite<T[]>(n * static_cast<std::size_t>(p - 1));
    const auto part_of = [&](int rank) {
      return std::span(others.get() + n * static_cast<std::size_t>(rank < r ? rank : rank - 1), n);
    };
    for (int distance = 1; distance < p; ++distance) {
      const int to = (r + distance) % p;
      const int from = detail::wrap(r - distance, p);
      t.sendrecv(to, std::as_bytes(detail::part(data, chunk_of(data.size(), p, to))), from,
                 std::as_writable_bytes(part_of(from)), tags::reduce_scatter);
    }
    const auto result = r == 0 ? own : part_of(0);
    for (int rank = 1; rank < p; ++rank) {
      reduce_into(result, std::span<const T>(rank == r ? own : part_of(rank)), op);
    }
    if (r != 0) {
      std::ranges::copy(result, own.begin());
    }
  }
};

/// A way to reduce, called with the same sizes on every rank: it leaves each rank's chunk of the
/// result with that rank.
template <class A>
concept ReduceAlgorithm =
    requires(detail::any_transport& t, std::span<float> f, std::span<std::int64_t> i) {
      A::reduce_scatter(t, f, sum);
      A::reduce_scatter(t, i, max);
    };

/// Reduces `data` over the ranks; afterwards this rank's chunk holds the result.
///
/// Returns: that chunk, a part of `data`; what the rest holds is up to the algorithm.
/// Throws:  what the transport throws; `data` is then partly reduced.
template <ReduceAlgorithm Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
std::span<T> reduce_scatter(Tr& t, std::span<T> data, Op op = {}) {
  Algorithm::reduce_scatter(t, data, op);
  return detail::part(data, chunk_of(data.size(), t.size(), t.rank()));
}

/// Reduces `data` over the ranks; afterwards every rank holds the result, the same bits.
///
/// Throws: what the transport throws, `size_mismatch` where ranks give different numbers of
///         elements; `data` is then partly reduced.
/// Cost:   2 (p - 1) messages and about 2 n (p - 1) / p elements sent per rank.
template <ReduceAlgorithm Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
void all_reduce(Tr& t, std::span<T> data, Op op = {}) {
  Algorithm::reduce_scatter(t, data, op);
  detail::pass_around(t, data);
}

}  // namespace ashlar::comm

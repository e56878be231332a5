// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/exchange.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/execute.hpp"
#include "ashlar/comm/operation.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

namespace detail {

template <class T>
std::span<T> part(std::span<T> data, chunk c) {
  return data.subspan(c.first, c.size());
}

/// For queries in concepts only.
struct any_transport {
  struct request {};
  [[nodiscard]] int rank() const;
  [[nodiscard]] int size() const;
  request isend(int to, std::span<const std::byte> out, int tag);
  request irecv(int from, std::span<std::byte> in, int tag);
  bool test(request& r);
  void wait(request& r);
};

inline void check_size(const char* entity, const char* what, std::size_t given,
                       std::size_t wanted) {
  if (given != wanted) {
    throw argument_error(entity, std::string(what) + " has " + std::to_string(given) +
                                     " elements; it must have " + std::to_string(wanted));
  }
}
/// Spans and parts fit together.
inline void check_parts(const char* entity, const char* what, std::size_t given,
                        const partition& parts, int ranks) {
  if (parts.parts() != ranks) {
    throw argument_error(
        entity, std::to_string(parts.parts()) + " parts in a group of " + std::to_string(ranks));
  }
  check_size(entity, what, given, parts.count());
}

template <class Op>
constexpr const char* op_name() {
  return std::same_as<Op, sum_op>    ? "sum"
         : std::same_as<Op, prod_op> ? "prod"
         : std::same_as<Op, min_op>  ? "min"
         : std::same_as<Op, max_op>  ? "max"
         : std::same_as<Op, avg_op>  ? "avg"
                                     : "user's operation";
}

template <class T>
memory_of moving(std::span<T> data) {
  return {nullptr, std::as_writable_bytes(data).data(), sizeof(T), nullptr, nullptr, {0, 0}};
}

template <Element T, class Op>
memory_of reducing(std::span<T> data, chunk finished) {
  memory_of m = moving(data);
  m.reduce = reducer_of<T, Op>;
  if constexpr (requires(const Op op, T x) { op.finish(x, 1); }) {
    m.finish = [](std::byte* at, std::size_t n, int ranks) {
      for (T& x : std::span(reinterpret_cast<T*>(at), n)) {
        x = Op{}.finish(x, ranks);
      }
    };
    m.finished = finished;
  }
  return m;
}

template <class T>
operation joined(collective c, std::size_t count, int channel, const char* op = "", int root = 0) {
  if (channel < 0 || channel >= tags::channels) {
    throw argument_error("ashlar::comm", "there is no channel " + std::to_string(channel) +
                                             "; they are 0 to " +
                                             std::to_string(tags::channels - 1));
  }
  return {c, count, dtype_of<T>, op, root, tags::of(c, channel)};
}

}  // namespace detail

/// A way to reduce: a value whose member gives one rank's schedule of an all-reduce.
///
/// Where it also has `reduce_scatter`, that leaves each rank's part of the result with that rank.
template <class A>
concept ReduceAlgorithm = std::copyable<A> && requires(const A a, const problem& q) {
  { a.all_reduce(q) } -> std::same_as<schedule>;
};

/// A collective under way: `test`, `wait`.
template <class Tr>
using work = running<Tr>;

/// Begins an all-reduce on a channel of its own; see `all_reduce`.
///
/// Requires: `data` lives until the work has ended. Work that began on one channel ends in the
/// order
///           in which it began.
template <ReduceAlgorithm Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
[[nodiscard]] work<Tr> start_all_reduce(Tr& t, std::span<T> data, Op /*op*/ = {},
                                        const Algorithm& how = {}, int channel = 0) {
  const problem q = problem::even(t.size(), t.rank(), data.size(), sizeof(T));
  return {t, how.all_reduce(q), detail::reducing<T, Op>(data, {0, data.size()}),
          detail::joined<T>(collective::all_reduce, data.size(), channel, detail::op_name<Op>())};
}

/// Reduces `data` over the ranks; afterwards every rank holds the result, the same bits.
///
/// Throws: what the transport throws, `size_mismatch` where ranks give different numbers of
///         elements; `data` is then partly reduced.
/// Cost:   that of the algorithm; for `ordered` and `ring`, 2 (p - 1) messages and about
///         2 n (p - 1) / p elements sent per rank.
template <ReduceAlgorithm Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
void all_reduce(Tr& t, std::span<T> data, Op op = {}, const Algorithm& how = {}, int channel = 0) {
  start_all_reduce<Algorithm>(t, data, op, how, channel).wait();
}

/// As above, from `in` to `out`, which are of one size and apart.
template <ReduceAlgorithm Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
void all_reduce(Tr& t, std::span<const T> in, std::span<T> out, Op op = {},
                const Algorithm& how = {}, int channel = 0) {
  detail::check_size("ashlar::comm::all_reduce", "the result", out.size(), in.size());
  std::ranges::copy(in, out.begin());
  all_reduce<Algorithm>(t, out, op, how, channel);
}

/// Begins a reduce-scatter; see `reduce_scatter`.
template <class Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
[[nodiscard]] work<Tr> start_reduce_scatter(Tr& t, std::span<T> data, const partition& parts,
                                            Op /*op*/ = {}, const Algorithm& how = {},
                                            int channel = 0) {
  detail::check_parts("ashlar::comm::reduce_scatter", "data", data.size(), parts, t.size());
  problem q = problem::even(t.size(), t.rank(), data.size(), sizeof(T));
  q.parts = parts;
  return {
      t, how.reduce_scatter(q), detail::reducing<T, Op>(data, parts.at(t.rank())),
      detail::joined<T>(collective::reduce_scatter, data.size(), channel, detail::op_name<Op>())};
}

/// Reduces `data` over the ranks; afterwards this rank's chunk, `chunk_of(n, p, rank)`, holds the
/// result. With a `partition`, this rank's part of that.
///
/// Returns: that chunk, a part of `data`; what the rest holds is up to the algorithm.
/// Throws:  `argument_error` where there is not a part for each rank, or they are not `data`'s;
/// what
///          the transport throws: `data` is then partly reduced.
template <class Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
std::span<T> reduce_scatter(Tr& t, std::span<T> data, Op op = {}, const Algorithm& how = {},
                            int channel = 0) {
  return reduce_scatter<Algorithm>(t, data, partition(data.size(), t.size()), op, how, channel);
}
template <class Algorithm = ordered, Transport Tr, Element T, ReduceOp Op = sum_op>
std::span<T> reduce_scatter(Tr& t, std::span<T> data, const partition& parts, Op op = {},
                            const Algorithm& how = {}, int channel = 0) {
  start_reduce_scatter<Algorithm>(t, data, parts, op, how, channel).wait();
  return detail::part(data, parts.at(t.rank()));
}

/// Begins an all-gather of the parts that stand in `all` already; see `all_gather`.
template <class Algorithm = ring, Transport Tr, Scalar T>
[[nodiscard]] work<Tr> start_all_gather(Tr& t, std::span<T> all, const partition& parts,
                                        const Algorithm& how = {}, int channel = 0) {
  detail::check_parts("ashlar::comm::all_gather", "the result", all.size(), parts, t.size());
  problem q = problem::even(t.size(), t.rank(), all.size(), sizeof(T));
  q.parts = parts;
  return {t, how.all_gather(q), detail::moving(all),
          detail::joined<T>(collective::all_gather, all.size(), channel)};
}

/// Collects every rank's chunk: `all` is the same on every rank afterwards.
///
/// Shapes: `all` has n elements; `own` is this rank's `chunk_of(n, p, rank)` of them, or its part
/// of
///         `parts`, and may be that part of `all` itself.
/// Throws: `argument_error` where `own` has another size, or there is not a part for each rank;
/// what
///         the transport throws.
/// Cost:   that of the algorithm; about n (p - 1) / p elements sent per rank.
template <class Algorithm = ring, Transport Tr, Scalar T>
void all_gather(Tr& t, std::span<const T> own, std::span<T> all, const partition& parts,
                const Algorithm& how = {}, int channel = 0) {
  detail::check_parts("ashlar::comm::all_gather", "the result", all.size(), parts, t.size());
  const chunk c = parts.at(t.rank());
  detail::check_size("ashlar::comm::all_gather", "this rank's chunk", own.size(), c.size());
  if (!own.empty() && own.data() != all.data() + c.first) {
    std::ranges::copy(own, detail::part(all, c).begin());
  }
  start_all_gather(t, all, parts, how, channel).wait();
}
template <class Algorithm = ring, Transport Tr, Scalar T>
void all_gather(Tr& t, std::span<const T> own, std::span<T> all, const Algorithm& how = {},
                int channel = 0) {
  all_gather(t, own, all, partition(all.size(), t.size()), how, channel);
}

/// Copies `data` of rank `root` to every rank.
///
/// Requires: the same size on every rank.
/// Throws: `argument_error` where there is no such root; what the transport throws.
/// Cost:   that of the algorithm; along the `chain`, each rank but the last sends n elements.
template <class Algorithm = chain, Transport Tr, Scalar T>
void broadcast(Tr& t, std::span<T> data, int root, const Algorithm& how = {}, int channel = 0) {
  detail::check_rank("ashlar::comm::broadcast", root, t.size());
  const problem q = problem::even(t.size(), t.rank(), data.size(), sizeof(T), root);
  execute(t, how.broadcast(q), detail::moving(data),
          detail::joined<T>(collective::broadcast, data.size(), channel, "", root));
}

/// Reduces `data` over the ranks; afterwards rank `root` holds the result, the others' data is
/// partly reduced.
///
/// Throws: as `broadcast`.
template <class Algorithm = binomial, Transport Tr, Element T, ReduceOp Op = sum_op>
void reduce(Tr& t, std::span<T> data, int root, Op /*op*/ = {}, const Algorithm& how = {},
            int channel = 0) {
  detail::check_rank("ashlar::comm::reduce", root, t.size());
  const problem q = problem::even(t.size(), t.rank(), data.size(), sizeof(T), root);
  execute(t, how.reduce(q), detail::reducing<T, Op>(data, {0, t.rank() == root ? data.size() : 0}),
          detail::joined<T>(collective::reduce, data.size(), channel, detail::op_name<Op>(), root));
}

/// Part `k` of `in` goes to rank `k`; part `k` of `out` comes from rank `k`.
///
/// Requires: what rank a sends to rank b is as long as what b expects of a; `in` and `out` are
/// apart.
///           `bruck` wants parts of one size.
/// Throws:   `argument_error` where spans and parts differ, there is not a part for each rank, or
///           `bruck` gets parts of different sizes; what the transport throws.
template <class Algorithm = pairwise, Transport Tr, Scalar T>
void all_to_all(Tr& t, std::span<const T> in, const partition& in_parts, std::span<T> out,
                const partition& out_parts, const Algorithm& how = {}, int channel = 0) {
  detail::check_parts("ashlar::comm::all_to_all", "the input", in.size(), in_parts, t.size());
  detail::check_parts("ashlar::comm::all_to_all", "the result", out.size(), out_parts, t.size());
  memory_of m = detail::moving(out);
  m.input = std::as_bytes(in).data();
  // What ranks send differs, so the count is not compared.
  execute(t, how.all_to_all(exchange{t.size(), t.rank(), in_parts, out_parts}), m,
          detail::joined<T>(collective::all_to_all, 0, channel));
}
/// As above, with equal parts: sizes that p divides.
template <class Algorithm = pairwise, Transport Tr, Scalar T>
void all_to_all(Tr& t, std::span<const T> in, std::span<T> out, const Algorithm& how = {},
                int channel = 0) {
  const auto p = static_cast<std::size_t>(t.size());
  detail::check_size("ashlar::comm::all_to_all", "the input", in.size(), out.size());
  detail::check_size("ashlar::comm::all_to_all", "the input", in.size(), in.size() / p * p);
  const partition parts(in.size(), t.size());
  all_to_all(t, in, parts, out, parts, how, channel);
}

/// Waits until every rank has called it.
///
/// Cost: ceil(log2 p) empty messages per rank.
template <Transport Tr>
void barrier(Tr& t, int channel = 0) {
  execute(t, dissemination{}.barrier(problem::even(t.size(), t.rank(), 0, 1)), memory_of{},
          detail::joined<std::uint8_t>(collective::barrier, 0, channel));
}

}  // namespace ashlar::comm

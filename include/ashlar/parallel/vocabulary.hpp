// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ashlar/autograd/function.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/parallel/tensor_parallel.hpp"

/// The first and the last layer of a language model whose vocabulary is divided among ranks.
///
/// Rank r has the rows `comm::chunk_of(V, p, r)` of the table and of the output layer, so no rank
/// holds a table or logits of the whole vocabulary.
/// Source: Megatron-LM (Shoeybi et al., 2019), section 3.
namespace ashlar::parallel {

namespace detail {

/// The numbers among `ids` that are in a rank's part of the vocabulary.
template <Tensor Ids>
struct own_ids {
  std::vector<typename Ids::value_type> places;   ///< where they stand
  std::vector<typename Ids::value_type> numbers;  ///< counted from the first of the part
  std::int64_t counted = 0;                       ///< that are not to be ignored, on any rank
  std::vector<bool> counts;
};

/// Throws: `argument_error`, on every rank alike, for a number that is not in the vocabulary.
template <Tensor Ids>
[[nodiscard]] own_ids<Ids> own_ids_of(const Ids& ids, comm::chunk own, std::int64_t vocabulary,
                                      const std::int64_t* ignored = nullptr) {
  using I = typename Ids::value_type;
  own_ids<Ids> found;
  const std::vector<I> all = to_vector(ids);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto id = static_cast<std::int64_t>(all[i]);
    found.counts.push_back(ignored == nullptr || id != *ignored);
    if (!found.counts.back()) {
      continue;
    }
    ++found.counted;
    if (id < 0 || id >= vocabulary) {
      throw argument_error("ashlar::parallel", std::to_string(id) + " is not in a vocabulary of " +
                                                   std::to_string(vocabulary));
    }
    const auto at = static_cast<std::size_t>(id);
    if (own.first <= at && at < own.last) {
      found.places.push_back(static_cast<I>(i));
      found.numbers.push_back(static_cast<I>(at - own.first));
    }
  }
  return found;
}
template <Tensor Ids>
[[nodiscard]] Ids numbers_of(const std::vector<typename Ids::value_type>& values) {
  return from_values<Ids>({std::ssize(values)}, values);
}

/// Throws: `shape_error` where a rank's part has not the extent that it must have.
template <class Endpoint, Tensor X>
[[nodiscard]] comm::chunk vocabulary_part(const char* entity, const Endpoint& group, const X& x,
                                          int axis, std::int64_t vocabulary) {
  const comm::chunk own = chunk_in(vocabulary, group.size(), group.rank());
  if (x.rank() != 2 || x.extent(axis) != static_cast<std::int64_t>(own.size())) {
    throw shape_error(entity, x.shape(), shape{static_cast<std::int64_t>(own.size())}.span(),
                      "this rank's part of the vocabulary is on the right");
  }
  return own;
}

}  // namespace detail

/// This rank's summand of `embedding(table, ids)`: the rows that it has, zeros for the others. The
/// ranks' sum, by `leave_tensor_parallel` or `reduce_rows`, has the bits of the whole lookup.
///
/// Shapes: `weight`: (this rank's rows, C); `ids`: any shape, the same on every rank.
/// Throws: `shape_error`; `argument_error` for an id that is not in the vocabulary.
/// Cost:   waits for the chip once.
template <class Endpoint, Tensor X, Tensor Ids>
[[nodiscard]] X vocabulary_rows(const Endpoint& group, const X& weight, std::int64_t vocabulary,
                                const Ids& ids) {
  const comm::chunk own =
      detail::vocabulary_part("ashlar::parallel::vocabulary_rows", group, weight, 0, vocabulary);
  const auto mine = detail::own_ids_of(ids, own, vocabulary);
  shape extents(ids.shape());
  extents.push_back(weight.extent(1));
  // The transpose of a lookup puts rows where they belong.
  const X rows = embedding(weight, detail::numbers_of<Ids>(mine.numbers));
  return reshape(
      call<ops::embedding_backward>(rows, detail::numbers_of<Ids>(mine.places), ids.size()),
      extents);
}

/// `embedding(table, ids)` over a table of which each rank has its rows.
///
/// Shapes: as `vocabulary_rows`; the result, (ids..., C), is the same on every rank.
/// Cost:   one all-reduce forward, none backward.
template <class Algorithm = comm::ring, class Endpoint, Tensor X, Tensor Ids>
[[nodiscard]] X vocabulary_embedding(Endpoint& group, const X& weight, std::int64_t vocabulary,
                                     const Ids& ids) {
  return leave_tensor_parallel<Algorithm>(group, vocabulary_rows(group, weight, vocabulary, ids));
}

struct vocabulary_loss_options {
  std::int64_t ignore_index = -100;  ///< targets that do not count
  /// Over how many targets the mean is formed where these are a part of them; -1: that count here.
  std::int64_t of_targets = -1;
};

/// The mean over rows of `log(sum(exp(logits))) - logits[target]`, of logits of which each rank has
/// its part of the vocabulary.
///
/// Shapes: `logits`: (N, this rank's part); `targets`: (N), the same on every rank; the result, the
///         same on every rank, has no dimensions. NaN where no target counts.
/// Throws: `shape_error`; `argument_error` for a target that is not in the vocabulary.
/// Cost:   all-reduces of N elements: the maxima, the sums, the logits of the targets; none
///         backward. Keeps exp(logits - maximum). Waits for the chip.
template <class Algorithm = comm::ring, class Endpoint, Tensor X, Tensor Ids>
[[nodiscard]] X vocabulary_cross_entropy(Endpoint& group, const X& logits, std::int64_t vocabulary,
                                         const Ids& targets, vocabulary_loss_options options = {}) {
  using T = typename X::value_type;
  constexpr const char* entity = "ashlar::parallel::vocabulary_cross_entropy";
  const comm::chunk own = detail::vocabulary_part(entity, group, logits, 1, vocabulary);
  const std::int64_t rows = logits.extent(0);
  const std::int64_t width = logits.extent(1);
  if (targets.rank() != 1 || targets.extent(0) != rows) {
    throw shape_error(entity, logits.shape(), targets.shape(),
                      "logits must be (N, part of V) and targets (N)");
  }
  const auto mine = detail::own_ids_of(targets, own, vocabulary, &options.ignore_index);
  const X peak = [&] {
    const no_grad off;
    return detail::summed<Algorithm, comm::max_op>(group, max(logits, -1, true));
  }();
  const X away = sub(logits, peak);
  const X all = leave_tensor_parallel<Algorithm>(group, sum(exp(away), -1));

  using numbers = tensor<std::int64_t, typename Ids::keys>;
  std::vector<std::int64_t> places(mine.places.begin(), mine.places.end());
  std::vector<std::int64_t> elements;  // of the logits as one column
  for (std::size_t i = 0; i < places.size(); ++i) {
    elements.push_back(places[i] * width + static_cast<std::int64_t>(mine.numbers[i]));
  }
  const X picked =
      embedding(reshape(away, shape{rows * width, 1}), detail::numbers_of<numbers>(elements));
  const X of_targets = leave_tensor_parallel<Algorithm>(
      group,
      reshape(call<ops::embedding_backward>(picked, detail::numbers_of<numbers>(places), rows),
              shape{rows}));

  const std::vector<T> counts(mine.counts.begin(), mine.counts.end());
  const std::int64_t count = options.of_targets >= 0 ? options.of_targets : mine.counted;
  const double share =
      count == 0 ? std::numeric_limits<double>::quiet_NaN() : 1.0 / static_cast<double>(count);
  return scale(sum(mul(sub(log(all), of_targets), from_values<X>({rows}, counts))), share);
}

}  // namespace ashlar::parallel

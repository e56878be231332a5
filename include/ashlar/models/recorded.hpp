// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/autograd/thread.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/kv/step.hpp"
#include "ashlar/models/detail/decoder.hpp"
#include "ashlar/ops/creation.hpp"

/// A model's serving step as a graph that is replayed: what `serve::static_engine` runs.
namespace ashlar::models {

/// Thrown where a step has other sizes than the one that was recorded.
struct unrecorded_step final : error {
  std::string field;      ///< of `kv::step`, or `blocks` of one of its sequences
  std::int64_t given;     ///< its size, or `block_tokens` itself
  std::int64_t recorded;  ///< what it must be; `blocks`: at most

  unrecorded_step(std::string what, std::int64_t size, std::int64_t expected,
                  std::source_location where = std::source_location::current())
      : error(where), field(std::move(what)), given(size), recorded(expected) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::models::recorded_step: " + field + ": " + std::to_string(given) + " given, " +
           std::to_string(recorded) + " recorded";
  }
};

/// A step of `Model` (`llama`, `gpt`) with so many rows: captured, laid out in an arena with its
/// arguments and results, and replayed. Models `kv::RecordedStep`.
///
/// It reads weights and the cache where they lay when it was made, and keeps them alive.
template <class Model>
class recorded_step {
  using integers = typename Model::integers;
  using chip = chip_of<typename integers::keys>;
  template <class T>
  using plain = tensor<T, key_set<keys::backend<chip>>>;
  using scalar = typename Model::scalar;

 public:
  recorded_step(const Model& model, typename Model::cache_type& cache, const kv::step_sizes& sizes)
      : sizes_(sizes),
        replayed_(captured(model, cache, sizes)),
        arguments_(replayed_.arguments()),
        logits_(replayed_.results().at(0)),
        sequences_(at(sizes.rows)),
        tables_(at(sizes.rows) * at(sizes.table_blocks)),
        read_(static_cast<std::size_t>(logits_.size())),
        widened_(std::same_as<scalar, float> ? 0 : read_.size()) {
    write(3, tables_);
  }

  /// Returns: the logits of all rows, valid until the next call.
  /// Throws:  `unrecorded_step` where `now` has other sizes, or a wider block table;
  ///          `argument_error` where a sequence has rows that the step does not.
  /// Cost:    no allocation; block tables that are as they were are not copied.
  std::span<const float> operator()(const kv::step& now) {
    check(now);
    detail::number_rows(now, sequences_);
    write(0, now.tokens);
    write(1, now.positions);
    write(2, sequences_);
    write_tables(now);
    write(4, now.slots);
    replayed_.replay();
    ashlar::detail::read_elements(logits_, read_.data());
    if constexpr (std::same_as<scalar, float>) {
      return read_;
    } else {
      std::ranges::copy(read_, widened_.begin());
      return widened_;
    }
  }

  /// The arena, and what kernels were given beside it.
  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(replayed_.plan().layout.bytes) + replayed_.kernel_bytes();
  }
  [[nodiscard]] std::size_t launches() const { return replayed_.launches(); }
  [[nodiscard]] const graph::graph& source() const { return replayed_.source(); }

 private:
  static std::size_t at(std::int32_t n) { return static_cast<std::size_t>(n); }

  static graph::graph captured(const Model& model, typename Model::cache_type& cache,
                               const kv::step_sizes& n) {
    const no_grad off;
    const auto step = [&](const auto& tokens, const auto& positions, const auto& sequences,
                          const auto& tables, const auto& places) {
      return model.of_rows(
          tokens, positions,
          [&](std::size_t layer, const auto& q, const auto& k, const auto& v) {
            return detail::attend_paged(cache, layer, q, k, v, places, tables, sequences,
                                        positions);
          },
          [](const auto& x) { return x; });
    };
    const auto rows = zeros<integers>({n.rows});
    return graph::capture(step, rows, rows, rows, zeros<integers>({n.rows, n.table_blocks}),
                          zeros<tensor<std::int64_t, typename integers::keys>>({n.rows}));
  }

  void check(const kv::step& now) const {
    const auto same = [](const char* field, std::int64_t given, std::int64_t recorded) {
      if (given != recorded) {
        throw unrecorded_step(field, given, recorded);
      }
    };
    same("block_tokens", now.block_tokens, sizes_.block_tokens);
    same("tokens", std::ssize(now.tokens), sizes_.rows);
    same("positions", std::ssize(now.positions), sizes_.rows);
    same("slots", std::ssize(now.slots), sizes_.rows);
    same("sequences", std::ssize(now.sequences), sizes_.rows);
    same("logit_rows", std::ssize(now.logit_rows), sizes_.rows);
    for (const kv::sequence_step& s : now.sequences) {
      if (std::ssize(s.blocks) > sizes_.table_blocks) {
        throw unrecorded_step("blocks", std::ssize(s.blocks), sizes_.table_blocks);
      }
    }
  }
  template <class T>
  void write(std::size_t argument, const std::vector<T>& values) {
    const plain<T> to(arguments_[argument]);
    settle(to);
    chip::memory::copy_in(to.bytes(), values.data(), values.size() * sizeof(T));
  }
  /// A table grows once in `block_tokens` steps.
  void write_tables(const kv::step& now) {
    const plain<std::int32_t> to(arguments_[3]);
    settle(to);
    const std::size_t width = at(sizes_.table_blocks);
    for (std::size_t i = 0; i < now.sequences.size(); ++i) {
      const auto own = std::span(tables_).subspan(i * width, width);
      const std::span<const kv::block_id> blocks = now.sequences[i].blocks;
      if (!std::ranges::equal(blocks, own.first(blocks.size()))) {
        chip::memory::copy_in(to.bytes() + i * width * sizeof(std::int32_t), blocks.data(),
                              blocks.size_bytes());
        std::ranges::copy(blocks, own.begin());  // what a copy that throws left out is tried again
      }
    }
  }

  kv::step_sizes sizes_;
  graph::replayed<chip> replayed_;
  std::vector<tensor_handle> arguments_;
  plain<scalar> logits_;
  std::vector<std::int32_t> sequences_, tables_;
  std::vector<scalar> read_;
  std::vector<float> widened_;
};

/// A step of the model's serving, recorded for these sizes and this cache.
template <class Model>
  requires std::same_as<typename Model::cache_type, detail::paged_cache<typename Model::parameter>>
[[nodiscard]] recorded_step<Model> record_step(Model& model, typename Model::cache_type& cache,
                                               const kv::step_sizes& sizes) {
  return recorded_step<Model>(model, cache, sizes);
}

}  // namespace ashlar::models

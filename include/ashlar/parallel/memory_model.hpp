// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ashlar/parallel/transformer.hpp"

namespace ashlar::parallel {

/// Bytes per element of everything that training keeps.
struct precision {
  double parameter = 2;
  double gradient = 2;
  double optimizer = 12;  ///< master weights, moments and whatever else a step needs
  double activation = 2;
  double mask = 1;

  /// 16 bits with a float copy and Adam's moments: K = 12 of the ZeRO paper.
  [[nodiscard]] static constexpr precision zero_paper() { return {}; }
  /// DeepSpeed's stages 2 and 3, which also keep float gradients.
  [[nodiscard]] static constexpr precision deepspeed() { return {2, 2, 16, 2, 1}; }
  /// Megatron-LM's with 16-bit gradients, with float gradients, and in float throughout.
  [[nodiscard]] static constexpr precision megatron_fp16() { return {2, 2, 16, 2, 1}; }
  [[nodiscard]] static constexpr precision megatron_bf16() { return {2, 4, 12, 2, 1}; }
  [[nodiscard]] static constexpr precision megatron_fp32() { return {4, 4, 8, 4, 1}; }

  friend constexpr bool operator==(const precision&, const precision&) = default;
};

/// What of the activations is computed again in the backward pass.
enum class recompute : std::uint8_t {
  none,
  selective,  ///< the attention's scores and what is done with them
  full        ///< everything but each layer's input
};

/// How a training step is laid out over ranks.
struct layout {
  int data = 1;
  int tensor = 1;
  int pipeline = 1;
  int chunks = 1;       ///< stages per rank; more than 1: interleaved 1F1B
  int micro_batch = 1;  ///< texts
  int zero = 0;         ///< 1: optimizer state in parts, 2: gradients too, 3: parameters too
  parallel::recompute recompute = parallel::recompute::none;
  bool sequence_parallel = true;  ///< what tensor parallelism leaves whole is divided by tokens
  bool pipeline_inside = false;   ///< neighbours in the pipeline are nearer than replicas

  [[nodiscard]] int ranks() const { return data * tensor * pipeline; }
  friend constexpr bool operator==(const layout&, const layout&) = default;
};

/// Bytes on the rank that needs most.
struct memory_use {
  double parameters = 0;
  double gradients = 0;
  double optimizer = 0;
  double gathered = 0;  ///< ZeRO-3: units that are whole at the moment, and their gradients
  double activations = 0;

  [[nodiscard]] double model_states() const { return parameters + gradients + optimizer; }
  [[nodiscard]] double total() const { return model_states() + gathered + activations; }
  friend constexpr bool operator==(const memory_use&, const memory_use&) = default;
};

/// Returns: what `parameters` elements cost a rank, with `data` replicas at a stage of ZeRO.
/// Source:  ZeRO (Rajbhandari et al., 2020), table 1.
[[nodiscard]] constexpr memory_use model_states(double parameters, const precision& p, int data,
                                                int zero) {
  return {.parameters = parameters * p.parameter / (zero >= 3 ? data : 1),
          .gradients = parameters * p.gradient / (zero >= 2 ? data : 1),
          .optimizer = parameters * p.optimizer / (zero >= 1 ? data : 1)};
}

/// When fully sharded units are gathered in the backward pass.
enum class prefetch : std::uint8_t {
  none,  ///< when they go back; every collective is waited for at once
  post,  ///< behind the gradients of the unit before, while those are reduced
  pre    ///< while the unit before goes back
};

/// What a rank holds of fully sharded units beside its parts, at most. Bytes.
struct fsdp_peak_use {
  double parameters = 0;  ///< of units that are whole, or on their way
  double together = 0;    ///< with the gradients that are collected or reduced
  friend constexpr bool operator==(const fsdp_peak_use&, const fsdp_peak_use&) = default;
};

/// Returns: the peak of a forward and a backward pass through units of so many elements, one unit
///          gathered ahead with `prefetch::pre` and units in parts between.
///
/// A unit's gradients are reduced while the next one goes back, but for `prefetch::none`.
/// `together` grows from `none` to `post` to `pre`; `parameters` are the same for the first two.
[[nodiscard]] inline fsdp_peak_use fsdp_peak(std::span<const double> units, const precision& p,
                                             prefetch how) {
  fsdp_peak_use most;
  for (std::size_t i = 0; i < units.size(); ++i) {
    const double ahead = how == prefetch::pre && i > 0 ? units[i - 1] : 0;
    const double behind = how != prefetch::none && i + 1 < units.size() ? units[i + 1] : 0;
    const double whole = p.parameter * (units[i] + ahead);
    most.parameters = std::max(most.parameters, whole);
    most.together = std::max(most.together, whole + p.gradient * (units[i] + behind));
  }
  return most;
}

/// Returns: bytes of activations that a layer keeps of one micro-batch until it went back.
/// Source:  Reducing Activation Recomputation (Korthikanti et al., 2022), table 2; for 16 bits,
///          dropout and kept scores it is that table.
[[nodiscard]] inline double layer_activations(const transformer& m, const precision& p,
                                              const layout& l) {
  const double tokens = static_cast<double>(l.micro_batch) * static_cast<double>(m.sequence);
  const double width = static_cast<double>(m.width), e = p.activation;
  const double mask = m.dropout ? p.mask : 0;
  const double apart = l.sequence_parallel ? l.tensor : 1;
  if (l.recompute == recompute::full) {
    return tokens * width * e / apart;
  }
  // Inputs of both norms and of what follows them, two masks.
  const double whole = (4 * e + 2 * mask) * width;
  // Queries, keys, values, what attention gives; the feed-forward layer's insides.
  const double divided =
      e * (2 * static_cast<double>(m.query_width()) + 2 * static_cast<double>(m.key_width()) +
           (m.gated ? 3 : 2) * static_cast<double>(m.hidden));
  // Softmax, its mask, and what is left of it.
  const double scores = m.scores_kept && l.recompute == recompute::none
                            ? static_cast<double>(m.heads) * static_cast<double>(m.sequence) *
                                  (m.dropout ? 2 * e + mask : e)
                            : 0;
  return tokens * (whole / apart + (divided + scores) / l.tensor);
}

/// Returns: how many micro-batches' worth of a stage's layers a rank of the pipeline keeps at most.
[[nodiscard]] inline double in_flight(const layout& l, int rank, std::int64_t micro_batches) {
  const double all = static_cast<double>(micro_batches);
  const int behind = l.pipeline - rank - 1;
  return l.chunks == 1
             ? std::min<double>(behind + 1, all)
             : std::min<double>(2 * behind + (l.chunks - 1) * l.pipeline + 1, all * l.chunks) /
                   l.chunks;
}

/// Returns: the memory of the rank that needs most, for `micro_batches` per step and replica.
///
/// Layers are divided evenly over the pipeline; the embedding is on its first rank, the output
/// layer on its last, with a copy of the table where it is tied.
/// Requires: the pipeline's stages divide the layers.
[[nodiscard]] inline memory_use memory_of(const transformer& m, const precision& p, const layout& l,
                                          std::int64_t micro_batches) {
  memory_use most;
  const double layers = static_cast<double>(m.layers) / l.pipeline;
  const double table = static_cast<double>(m.vocabulary) * static_cast<double>(m.width);
  const double tokens = static_cast<double>(l.micro_batch) * static_cast<double>(m.sequence);
  for (int rank : {0, l.pipeline - 1}) {
    const bool last = rank + 1 == l.pipeline;
    double held = layers * static_cast<double>(m.layer_parameters());
    held += rank == 0 ? static_cast<double>(m.embedding_parameters()) : 0;
    held += last && (!m.tied || l.pipeline > 1) ? table : 0;
    memory_use here = model_states(held / l.tensor, p, l.data, l.zero);
    if (l.zero >= 3) {
      std::vector<double> units(static_cast<std::size_t>(std::max(1.0, layers)),
                                static_cast<double>(m.layer_parameters()) / l.tensor);
      if (rank == 0) {
        units.insert(units.begin(), static_cast<double>(m.embedding_parameters()) / l.tensor);
      }
      if (last && !(m.tied && rank == 0)) {
        units.push_back(table / l.tensor);
      }
      here.gathered = fsdp_peak(units, p, prefetch::pre).together;
    }
    here.activations = layers * layer_activations(m, p, l) * in_flight(l, rank, micro_batches);
    if (l.recompute == recompute::full) {  // the layer that is computed again
      layout again = l;
      again.recompute = recompute::none;
      here.activations += layer_activations(m, p, again);
    }
    if (last) {  // the last norm's input and output, float logits
      here.activations +=
          tokens / l.tensor *
          (2 * p.activation * static_cast<double>(m.width) + 4 * static_cast<double>(m.vocabulary));
    }
    if (rank == 0 || here.total() > most.total()) {
      most = here;
    }
  }
  return most;
}

/// Returns: `2 x 4 x 8, micro-batch 1, ZeRO-1`: data x tensor x pipeline and what is not usual.
[[nodiscard]] inline std::string text_of(const layout& l) {
  std::string text = std::to_string(l.data) + " x " + std::to_string(l.tensor) + " x " +
                     std::to_string(l.pipeline);
  if (l.chunks > 1) {
    text += " (" + std::to_string(l.chunks) + " chunks)";
  }
  text += ", micro-batch " + std::to_string(l.micro_batch);
  if (l.zero > 0) {
    text += ", ZeRO-" + std::to_string(l.zero);
  }
  if (l.recompute != recompute::none) {
    text += l.recompute == recompute::full ? ", full recomputation" : ", selective recomputation";
  }
  return text + (l.pipeline_inside ? ", pipeline inside" : "");
}

}  // namespace ashlar::parallel

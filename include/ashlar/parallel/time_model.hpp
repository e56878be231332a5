// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "ashlar/chip/description.hpp"
#include "ashlar/parallel/memory_model.hpp"
#include "ashlar/parallel/product_times.hpp"
#include "ashlar/parallel/transformer.hpp"
#include "ashlar/plan/network.hpp"

namespace ashlar::parallel {

/// What a rank's chip does in a second, from its description or from measurement.
struct device_rates {
  double flops = 1e12;             ///< of a large matrix product, as reached
  double memory_bandwidth = 1e11;  ///< [bytes/s]
  double memory_bytes = 16e9;
  bool copy_uses_compute = false;  ///< nothing is computed while bytes move
  product_times products = {};     ///< as measured, in place of `flops`; empty: by `flops`

  /// The description's peaks for 16-bit elements at `hertz`, times the share of them that programs
  /// reach, times the number of cores that share the memory.
  [[nodiscard]] static device_rates of(const chip_description& c, double hertz, double memory_bytes,
                                       double reached = 1.0, int cores = 1) {
    const auto& [m, n, k] = c.matrix_unit;
    const double per_cycle = 2.0 * m * n * k / std::max(1, c.matrix_cycles[1]);
    return {per_cycle * hertz * reached * cores, c.memory_bytes_per_cycle * hertz, memory_bytes,
            c.copy_uses_compute};
  }
  friend bool operator==(const device_rates&, const device_rates&) = default;
};

/// What is trained, and on how much at a time.
struct training_job {
  transformer model;
  parallel::precision precision;
  std::int64_t batch = 1;  ///< texts per step, over all replicas
};

/// The groups of a layout in a network: what their collectives cost.
struct layout_groups {
  plan::group_cost tensor, data, pipeline;

  /// Tensor varies fastest, then data or, with `pipeline_inside`, the pipeline.
  /// `group(stride, size)` is what such groups' collectives cost.
  template <std::invocable<int, int> Group>
  layout_groups(const layout& l, const Group& group)
      : tensor(group(1, l.tensor)),
        data(group(l.tensor * (l.pipeline_inside ? l.pipeline : 1), l.data)),
        pipeline(group(l.tensor * (l.pipeline_inside ? 1 : l.data), l.pipeline)) {}
};

/// Products of a forward pass, of one micro-batch on one rank [s].
struct product_costs {
  double layer = 0;      ///< of all in a layer
  double attention = 0;  ///< of these, scores and what is done with them
  double output = 0;     ///< of the output layer
};

/// Returns: what they take where `t` ranks divide each of them, as measured or by operations.
[[nodiscard]] inline product_costs product_costs_of(const transformer& m, const device_rates& chip,
                                                    double batch, double t) {
  if (chip.products.empty()) {
    const double rate = t * chip.flops;
    return {batch * m.layer_flops() / rate, batch * m.attention_flops() / rate,
            batch * m.output_flops() / rate};
  }
  const auto of = [](std::int64_t n) { return static_cast<double>(n); };
  const double length = of(m.sequence), rows = batch * length, width = of(m.width);
  const double hidden = of(m.hidden) / t, queries = of(m.query_width()) / t;
  const product_times& p = chip.products;
  product_costs c;
  c.attention = batch * of(m.heads) / t *
                (p(length, length, of(m.head_dim)) + p(length, of(m.head_dim), length));
  c.layer = p(rows, queries, width) + 2 * p(rows, of(m.key_width()) / t, width) + c.attention +
            p(rows, width, queries) + (m.gated ? 2 : 1) * p(rows, hidden, width) +
            p(rows, width, hidden);
  c.output = p(rows, of(m.vocabulary) / t, width);
  return c;
}

/// Times of a stage and of what moves, for one micro-batch [s].
struct stage_costs {
  double forward = 0;  ///< of a stage that is neither first nor last, all of it
  double backward = 0;
  double output_forward = 0;  ///< in the last stage besides
  double output_backward = 0;
  double tensor = 0;    ///< of forward and backward: waiting for tensor parallel collectives
  double gathered = 0;  ///< of these: waiting for parameters and gradients in parts (ZeRO-2, 3)
  double transfer = 0;  ///< between stages
};

/// How long a step takes, and what of it nobody wanted [s].
struct step_time {
  double step = 0;
  double compute = 0;  ///< of the busiest rank, recomputation among it
  double bubble = 0;   ///< that rank waiting for other stages
  double tensor = 0;   ///< and for its tensor parallel group
  double data = 0;     ///< and for gradients and parameters of its replicas
  double optimizer = 0;
  [[nodiscard]] double exposed() const { return tensor + data; }
};

/// Returns: what a stage costs. `l.pipeline * l.chunks` stages divide the layers evenly.
///
/// Products take as long as they were measured, or else as their operations, or as what they and
/// the operators around them read and write, whichever is longer. Collectives of
/// tensor parallelism are waited for: two per layer forward, two backward, and two more where a
/// layer is computed again. Those of ZeRO-2 and 3 run beside the layer next to them.
[[nodiscard]] inline stage_costs stage_costs_of(const training_job& job, const device_rates& chip,
                                                const layout& l, const layout_groups& groups) {
  const transformer& m = job.model;
  const precision& p = job.precision;
  const double batch = l.micro_batch, t = l.tensor;
  const double layers = static_cast<double>(m.layers) / (l.pipeline * l.chunks);
  const double message =
      batch * static_cast<double>(m.sequence) * static_cast<double>(m.width) * p.activation;
  const product_costs products = product_costs_of(m, chip, batch, t);
  const auto takes = [&](double seconds, double elements, double bytes) {
    return std::max(seconds, (elements * p.parameter / t + bytes) / chip.memory_bandwidth);
  };
  layout kept = l;
  kept.recompute = recompute::selective;
  const double matrices = static_cast<double>(m.layer_matrices());
  const double forward = takes(products.layer, matrices, layer_activations(m, p, kept));
  const double again = l.recompute == recompute::full        ? forward
                       : l.recompute == recompute::selective ? products.attention
                                                             : 0;
  const double reduce = groups.tensor.all_reduce(message);
  const double own = static_cast<double>(m.layer_parameters()) / t;
  const double gather = l.zero >= 3 ? groups.data.all_gather(own * p.parameter) : 0;
  const double scatter = l.zero >= 2 ? groups.data.reduce_scatter(own * p.gradient) : 0;
  const auto beside = [&](double computing, double moving) {  // what of the moving is seen
    return chip.copy_uses_compute ? moving : std::max(0.0, moving - computing);
  };
  stage_costs c;
  const double wait_forward = 2 * reduce,
               wait_backward = (again > 0 && l.recompute == recompute::full ? 4 : 2) * reduce;
  const double seen_forward = beside(forward + wait_forward, gather);
  const double seen_backward = beside(2 * forward + again + wait_backward, gather + scatter);
  c.tensor = layers * (wait_forward + wait_backward);
  c.gathered = layers * (seen_forward + seen_backward);
  c.forward = layers * (forward + wait_forward + seen_forward);
  c.backward = layers * (2 * forward + again + wait_backward + seen_backward);
  c.output_forward =
      takes(products.output, static_cast<double>(m.vocabulary) * static_cast<double>(m.width), 0);
  c.output_backward = 2 * c.output_forward;
  if (l.pipeline > 1) {
    c.transfer = groups.pipeline.neighbours().seconds(message / (l.sequence_parallel ? t : 1));
  }
  return c;
}

/// Returns: the makespan of a pipeline, from stages' costs: exact where transfers cost nothing,
/// near
///          where they do.
[[nodiscard]] inline double pipeline_makespan(const stage_costs& c, const layout& l,
                                              std::int64_t micro_batches) {
  const double one = c.forward + c.backward;
  const double output = c.output_forward + c.output_backward;
  const double p = l.pipeline, v = l.chunks, m = static_cast<double>(micro_batches);
  // In the steady state of 1F1B a micro-batch goes down and up once while as many are worked on as
  // there are stages, so every round pays for the transfers.
  const double trip = p > 1 ? 2 * c.transfer * (p - 1) / p : 0;
  const double round = v * one + output;
  if (l.chunks == 1) {
    return (m - 1) * std::max(round, one + (output + 2 * (p - 1) * c.transfer) / p) + p * one +
           output + p * trip;
  }
  return m * round + (p - 1) * one + p * trip;
}

/// Returns: how long a step takes. Requires: the batch is a multiple of replicas times micro-batch.
///
/// Gradients are reduced beside the last backward pass of the stage, all but the first layer's,
/// which come last; ZeRO-1 and 2 gather the parameters beside the next step's first pass. The
/// optimizer is bounded by memory.
[[nodiscard]] inline step_time step_time_of(const training_job& job, const device_rates& chip,
                                            const layout& l, const layout_groups& groups) {
  const transformer& m = job.model;
  const precision& p = job.precision;
  const std::int64_t batches = job.batch / (static_cast<std::int64_t>(l.data) * l.micro_batch);
  const stage_costs c = stage_costs_of(job, chip, l, groups);
  const double rounds = static_cast<double>(batches);
  const double chunks = l.chunks, layers = static_cast<double>(m.layers) / l.pipeline;
  const double table = static_cast<double>(m.vocabulary) * static_cast<double>(m.width);
  const double held = (layers * static_cast<double>(m.layer_parameters()) + table) / l.tensor;
  step_time s;
  const double makespan = pipeline_makespan(c, l, batches);
  const double output = c.output_forward + c.output_backward;
  const double busy = rounds * (chunks * (c.forward + c.backward) + output);
  s.tensor = rounds * chunks * c.tensor;
  s.data = rounds * chunks * c.gathered;
  s.compute = busy - s.tensor - s.data;
  s.bubble = makespan - busy;
  if (l.data > 1 && l.zero < 2) {
    const double reduced = l.zero == 0 ? groups.data.all_reduce(held * p.gradient)
                                       : groups.data.reduce_scatter(held * p.gradient);
    const double window = chip.copy_uses_compute ? 0 : c.backward * (1 - chunks / layers);
    s.data += std::max(reduced - window, reduced / layers);
  }
  if (l.data > 1 && (l.zero == 1 || l.zero == 2)) {
    const double gathered = groups.data.all_gather(held * p.parameter);
    const double window = chip.copy_uses_compute ? 0 : c.forward * (1 - chunks / layers);
    s.data += std::max(gathered - window, gathered / layers);
  }
  // Read and written, and the gradient read.
  s.optimizer = held * (2 * (p.optimizer + p.parameter) + p.gradient) / (l.zero >= 1 ? l.data : 1) /
                chip.memory_bandwidth;
  s.step = s.compute + s.bubble + s.tensor + s.data + s.optimizer;
  return s;
}

}  // namespace ashlar::parallel

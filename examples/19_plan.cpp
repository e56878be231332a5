// SPDX-License-Identifier: Apache-2.0
// A training step planned before there is a cluster: which layout over 64 chips, and what its
// pipeline looks like. `example_19_plan FOLDER` leaves pictures there.
#include <cstdio>
#include <fstream>
#include <string>

#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/ops/tile/matmul.hpp"
#include "ashlar/parallel/measured_products.hpp"
#include "ashlar/parallel/pipeline.hpp"
#include "ashlar/parallel/planner.hpp"
#include "ashlar/trace/gantt.hpp"

namespace al = ashlar;
namespace parallel = ashlar::parallel;
namespace pipeline = ashlar::parallel::pipeline;

int main(int argc, char** argv) {
  // Eight nodes of eight chips: 300 GB/s inside, 25 GB/s between them for each chip.
  const auto net = al::plan::network::nodes(8, 8, {300e9, 1e-6}, {25e9, 2.5e-6});
  const parallel::device_rates chip{
      .flops = 150e12, .memory_bandwidth = 1.5e12, .memory_bytes = 40e9};
  const parallel::training_job job{.model = parallel::transformer::gpt(40, 6144, 48, 51200, 2048),
                                   .precision = parallel::precision::megatron_bf16(),
                                   .batch = 64};
  const auto found = parallel::plan(job, chip, net);
  std::printf("%s\n%s\n", parallel::to_table(found, 5).c_str(), parallel::explain(found).c_str());
  const auto mesh = parallel::mesh_of(found.best().layout);
  std::printf("%s: rank 9 reduces gradients with", parallel::text_of(mesh).c_str());
  for (const int rank : mesh.group(9, parallel::axis::data)) {
    std::printf(" %d", rank);
  }
  std::printf("\n");

  // The same search for eight of the reference accelerator, by the cycles of its simulator: of
  // products of one and two blocks along each axis, from which those of all sizes follow.
  using npu = al::chip::npu<al::chip::npu_description{}>;
  using tensor = al::tensor<al::bfloat16, al::make_key_set<al::keys::backend<npu>>>;
  constexpr double hertz = 1e9;
  auto counted = parallel::device_rates::of(npu::description, hertz, /*memory_bytes=*/16e9);
  counted.products = parallel::product_times::measured(
      parallel::block_sizes<npu, al::bfloat16>(),
      parallel::measured_products<tensor, al::chip::npu_clock<npu>>({hertz}));
  const parallel::training_job small{.model = parallel::transformer::gpt(8, 512, 8, 8192, 512),
                                     .precision = parallel::precision::megatron_bf16(),
                                     .batch = 16};
  const auto cycles = parallel::plan(small, counted, al::plan::network::ring(8, {10e9, 1e-6}));
  std::printf("\nby cycles of the simulator:\n%s\n", parallel::to_table(cycles, 3).c_str());

  std::printf("\n%-12s %8s %6s %6s  in flight\n", "4 x 8", "makespan", "span", "idle");
  const auto show = [&](const char* name, const pipeline::schedule& s) {
    const auto sim = pipeline::simulate(
        s, {.stages = {{.forward = 10, .input_gradient = 10, .weight_gradient = 10}}});
    std::printf("%-12s %8lld %6lld %5.1f%%  %d\n", name, static_cast<long long>(sim.makespan),
                static_cast<long long>(sim.span), 100 * sim.idle_share(),
                sim.shape.most_on_rank[0]);
    if (argc > 1) {
      const auto timeline = pipeline::to_timeline(s, sim);
      std::ofstream(std::string(argv[1]) + "/" + name + ".html")
          << al::trace::to_gantt_page(timeline, name);
      std::ofstream(std::string(argv[1]) + "/" + name + ".json")
          << al::trace::to_chrome_trace(timeline);
    }
  };
  show("gpipe", pipeline::gpipe(4, 8));
  show("1f1b", pipeline::one_f_one_b(4, 8));
  show("interleaved", pipeline::interleaved(4, 2, 8));
  show("zb-h1", pipeline::zero_bubble_h1(4, 8));
  show("zb-h2", pipeline::zero_bubble_h2(4, 8));

  const auto own = pipeline::parse_csv("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
  std::printf("\nwith sends and receives:\n%s",
              pipeline::to_csv(pipeline::with_transfers(own)).c_str());
  try {
    pipeline::validate(pipeline::parse_csv("0F0,0B0\n1B0,1F0\n"));
  } catch (const pipeline::deadlock& e) {
    std::printf("%s\n", e.what());
  }
}

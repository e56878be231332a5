// SPDX-License-Identifier: Apache-2.0
// Meshes, networks, what training costs in memory and time, and the search over layouts: against
// the papers' tables, and against a simulation of every layout written here.
#include "ashlar/parallel/planner.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/network.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/parallel/pipeline.hpp"

namespace comm = ashlar::comm;
namespace par = ashlar::parallel;
namespace pp = ashlar::parallel::pipeline;
namespace plan = ashlar::plan;
using doctest::Approx;
using par::axis;

namespace {

// ---- the simulation: flows that share links fairly, layers one after the other ----

/// How long flows of `bytes` take that all start now, each link's bandwidth shared fairly among
/// those that still run (water-filling, step by step).
double fair_sharing(const plan::network& net, const std::vector<std::pair<int, int>>& pairs,
                    double bytes) {
  std::vector<std::vector<std::size_t>> way(pairs.size());
  double latency = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    double here = 0;
    net.route(pairs[i].first, pairs[i].second, [&](std::size_t link) {
      way[i].push_back(link);
      here += net.of_link(link).latency;
    });
    latency = std::max(latency, here);
  }
  std::vector<double> left(pairs.size(), bytes);
  double now = 0;
  for (std::size_t running = pairs.size(); running > 0;) {
    std::vector<double> free(net.links());
    std::vector<int> users(net.links(), 0);
    for (std::size_t link = 0; link < free.size(); ++link) {
      free[link] = net.of_link(link).bandwidth;
    }
    std::vector<double> rate(pairs.size(), -1);
    std::size_t open = 0;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (left[i] > 0 && !way[i].empty()) {
        ++open;
        for (const std::size_t link : way[i]) {
          ++users[link];
        }
      }
    }
    while (open > 0) {  // the tightest link gives its flows what they get
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t link = 0; link < free.size(); ++link) {
        if (users[link] > 0) {
          least = std::min(least, free[link] / users[link]);
        }
      }
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        const bool tight = left[i] > 0 && rate[i] < 0 && !way[i].empty() &&
                           std::any_of(way[i].begin(), way[i].end(), [&](std::size_t link) {
                             return free[link] / users[link] <= least * (1 + 1e-9);
                           });
        if (tight) {
          rate[i] = least;
        }
      }
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        if (rate[i] == least && left[i] > 0) {
          --open;
          left[i] = -left[i];  // settled in this round
          for (const std::size_t link : way[i]) {
            free[link] -= least;
            --users[link];
          }
        }
      }
    }
    double next = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      left[i] = std::abs(left[i]);
      if (left[i] > 0) {
        next = std::min(next, rate[i] > 0 ? left[i] / rate[i] : 0.0);
      }
    }
    if (running == 0 || next == std::numeric_limits<double>::infinity()) {
      break;
    }
    now += next;
    running = 0;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      left[i] = left[i] - std::max(rate[i], 0.0) * next;
      left[i] = left[i] < bytes * 1e-9 || way[i].empty() ? 0 : left[i];
      running += left[i] > 0 ? 1 : 0;
    }
  }
  return now + latency;
}

/// All groups of a mesh along `a` pass shares of `bytes` around until each member has all.
double gather_time(const plan::network& net, const par::mesh& m, axis a, double bytes) {
  const int size = m.size(a);
  if (size == 1) {
    return 0;
  }
  const auto ring = [&](const std::vector<std::vector<int>>& groups, double all) {
    std::vector<std::pair<int, int>> pairs;
    for (const auto& g : groups) {
      for (std::size_t i = 0; i < g.size(); ++i) {
        pairs.emplace_back(g[i], g[(i + 1) % g.size()]);
      }
    }
    const double members = static_cast<double>(groups[0].size());
    return (members - 1) * fair_sharing(net, pairs, all / members);
  };
  const auto groups = m.groups(a);
  double best = ring(groups, bytes);
  // Within nodes first, where every group has as many members in each of its nodes.
  std::vector<std::vector<int>> inside, outside;
  bool even = true;
  for (const auto& g : groups) {
    std::vector<std::vector<int>> by_node;
    for (const int rank : g) {
      if (by_node.empty() || by_node.back()[0] / net.per_node() != rank / net.per_node()) {
        by_node.emplace_back();
      }
      by_node.back().push_back(rank);
    }
    for (const auto& part : by_node) {
      even = even && part.size() == by_node[0].size();
      inside.push_back(part);
    }
    for (std::size_t i = 0; even && i < by_node[0].size(); ++i) {
      outside.emplace_back();
      for (const auto& part : by_node) {
        outside.back().push_back(part[i]);
      }
    }
  }
  if (even && inside[0].size() > 1 && outside[0].size() > 1) {
    const double local = static_cast<double>(inside[0].size());
    best = std::min(best, ring(outside, bytes / local) + ring(inside, bytes));
  }
  return best;
}

/// How long a step takes: layers, collectives and stages in simulated time.
double simulate_step(const par::training_job& job, const par::device_rates& chip,
                     const plan::network& net, const par::layout& l) {
  const auto& m = job.model;
  const auto& p = job.precision;
  const auto mesh = par::mesh_of(l);
  const double tokens = double(l.micro_batch) * double(m.sequence);
  const double message = tokens * double(m.width) * p.activation;
  // A layer's products one by one would take as long: operations and bytes add up.
  par::layout kept = l;
  kept.recompute = par::recompute::selective;
  const double layer = std::max(
      l.micro_batch * m.layer_flops() / l.tensor / chip.flops,
      (double(m.layer_matrices()) * p.parameter / l.tensor + par::layer_activations(m, p, kept)) /
          chip.memory_bandwidth);
  const bool full = l.recompute == par::recompute::full;
  const double reduce = 2 * gather_time(net, mesh, axis::tensor, message);
  const double forward = layer + 2 * reduce;
  const double backward = 2 * layer + 2 * reduce + (full ? forward : 0);
  const double output =
      std::max(l.micro_batch * m.output_flops() / l.tensor / chip.flops,
               double(m.vocabulary * m.width) * p.parameter / l.tensor / chip.memory_bandwidth);
  const double own = double(m.layer_parameters()) / l.tensor;
  const double gather = gather_time(net, mesh, axis::data, own * p.parameter);
  const double scatter = gather_time(net, mesh, axis::data, own * p.gradient);
  const int batches = static_cast<int>(job.batch / l.data / l.micro_batch);
  const int layers = static_cast<int>(m.layers) / l.pipeline / l.chunks;  // per stage
  const double table = double(m.vocabulary * m.width) / l.tensor;
  const double update = (own * double(m.layers) / l.pipeline + table) *
                        (2 * (p.optimizer + p.parameter) + p.gradient) / (l.zero > 0 ? l.data : 1) /
                        chip.memory_bandwidth;

  // ZeRO-2 and 3: one stage, layer after layer, one lane for communication.
  if (l.zero >= 2) {
    // A layer's parameters are asked for when the one before begins, and its gradients leave when
    // it has ended.
    double compute = 0, lane = 0, arrived = 0;
    const auto pass = [&](double takes, bool gathers, double leaves) {
      for (int i = 0; i < layers; ++i) {
        const double began = std::max(compute, arrived);
        if (gathers) {
          arrived = lane = std::max(lane, began) + gather;
        }
        compute = began + takes;
        if (leaves > 0) {
          lane = std::max(lane, compute) + leaves;
        }
      }
    };
    for (int b = 0; b < batches; ++b) {
      pass(forward, l.zero == 3 || b == 0, 0);
      compute += 3 * output;
      pass(backward, l.zero == 3, scatter);
    }
    const double tables = gather_time(net, mesh, axis::data, table * p.gradient) +
                          gather_time(net, mesh, axis::data, table * p.parameter);
    return std::max(compute, lane) + tables + update;
  }

  // Stages in the pipeline [ns].
  const auto schedule = l.chunks > 1 ? pp::interleaved(l.pipeline, l.chunks, batches)
                                     : pp::one_f_one_b(l.pipeline, batches);
  const auto ns = [](double seconds) { return static_cast<std::int64_t>(seconds * 1e9 + 0.5); };
  pp::timing t;
  t.stages.assign(static_cast<std::size_t>(l.pipeline * l.chunks),
                  {ns(layers * forward), ns(layers * backward / 2), ns(layers * backward / 2)});
  t.stages.back().forward += ns(output);
  t.stages.back().input_gradient += ns(2 * output);
  if (l.pipeline > 1) {
    std::vector<std::pair<int, int>> pairs;
    for (const auto& g : mesh.groups(axis::pipeline)) {
      for (std::size_t i = 0; i + 1 < g.size(); ++i) {
        pairs.emplace_back(g[i], g[i + 1]);
      }
    }
    t.transfer = ns(fair_sharing(net, pairs, message / l.tensor));
  }
  const auto sim = pp::simulate(schedule, t);
  if (l.data == 1) {
    return double(sim.makespan) * 1e-9 + update;
  }
  // The first rank ends last; its gradients leave layer by layer while it goes back.
  const double moved = l.zero == 0 ? 2 * scatter : scatter;
  double compute = double(sim.makespan) * 1e-9 - layers * backward, lane = compute;
  for (int i = 0; i < layers; ++i) {
    compute += backward;
    lane = std::max(lane, compute) + moved;
  }
  double step =
      lane + gather_time(net, mesh, axis::data, table * p.gradient) * (l.zero == 0 ? 2 : 1);
  if (l.zero == 1) {  // the next step's first pass waits for its parameters, layer by layer
    double arrived = gather_time(net, mesh, axis::data, table * p.parameter), at = 0;
    for (int i = 0; i < layers; ++i) {
      arrived += gather;
      at = std::max(at, arrived) + forward;
    }
    step += at - layers * forward;
  }
  return step + update;
}

struct setting {
  const char* name;
  plan::network net;
  par::device_rates chip;
};

par::training_job small_job(std::int64_t batch) {
  // 1.3 billion parameters, Llama's shape.
  const ashlar::io::model_config c{.dim = 2048,
                                   .hidden = 5632,
                                   .layers = 24,
                                   .heads = 16,
                                   .kv_heads = 16,
                                   .head_dim = 128,
                                   .vocab = 32000,
                                   .context = 2048,
                                   .tied_embeddings = true};
  return {par::transformer::llama(c, 2048), par::precision::megatron_bf16(), batch};
}

}  // namespace

TEST_CASE("parallel/planner: a mesh knows coordinates, ranks and groups by name") {
  const auto m = par::mesh::parse("data=2,pipeline=3,tensor=4");
  CHECK(m.size() == 24);
  CHECK(m.size(axis::pipeline) == 3);
  CHECK(m.size(axis::expert) == 1);
  CHECK(par::text_of(m) == "data=2,pipeline=3,tensor=4");
  for (int rank = 0; rank < m.size(); ++rank) {
    CHECK(m.rank_at(m.coordinates(rank)) == rank);
    CHECK(m.coordinate(rank, axis::tensor) == rank % 4);
    CHECK(m.coordinate(rank, axis::data) == rank / 12);
    CHECK(m.coordinate(rank, axis::sequence) == 0);
  }
  CHECK(m.group(17, axis::tensor) == std::vector{16, 17, 18, 19});
  CHECK(m.group(17, axis::pipeline) == std::vector{13, 17, 21});
  CHECK(m.group(17, {axis::data, axis::tensor}) == std::vector{4, 5, 6, 7, 16, 17, 18, 19});
  CHECK(m.group(17, axis::expert) == std::vector{17});
  for (const axis a : {axis::data, axis::pipeline, axis::tensor, axis::expert}) {
    std::vector<int> seen;
    for (const auto& g : m.groups(a)) {
      CHECK(g.size() == static_cast<std::size_t>(m.size(a)));
      seen.insert(seen.end(), g.begin(), g.end());
    }
    std::sort(seen.begin(), seen.end());
    for (int rank = 0; rank < m.size(); ++rank) {
      CHECK(seen.at(static_cast<std::size_t>(rank)) == rank);
    }
  }
  CHECK(par::mesh::parse("").size() == 1);
  for (const char* wrong :
       {"data", "data=", "data=0", "data=-2", "date=2", "data=2,data=2", "data=2,", ",", "data=2x",
        "data=65536,tensor=65536", "data=99999999999"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(static_cast<void>(par::mesh::parse(wrong)), ashlar::argument_error);
  }
  CHECK_THROWS_AS(static_cast<void>(m.coordinates(24)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(m.rank_at({0, 0})), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(m.rank_at({0, 3, 0})), ashlar::argument_error);
}

TEST_CASE("parallel/planner: routes are shortest, and links that are shared are slower") {
  const plan::wire w{10e9, 1e-6};
  for (const auto& net : {plan::network::ring(7, w), plan::network::torus({3, 2, 4}, w),
                          plan::network::nodes(3, 4, w, {1e9, 5e-6}, 2)}) {
    for (int a = 0; a < net.size(); ++a) {
      for (int b = 0; b < net.size(); ++b) {
        std::size_t hops = 0, highest = 0;
        net.route(a, b, [&](std::size_t link) {
          ++hops;
          highest = std::max(highest, link);
        });
        CHECK(highest < net.links());
        if (net.size() == 7) {
          CHECK(hops == static_cast<std::size_t>(std::min((a - b + 7) % 7, (b - a + 7) % 7)));
        } else if (net.per_node() == 4) {
          CHECK(hops == (a == b ? 0u : 2u));
        } else {
          const auto apart = [](int x, int y, int n) {
            return static_cast<std::size_t>(std::min((x - y + n) % n, (y - x + n) % n));
          };
          CHECK(hops ==
                apart(a / 6, b / 6, 4) + apart(a / 3 % 2, b / 3 % 2, 2) + apart(a % 3, b % 3, 3));
        }
      }
    }
  }
  // All ranks of a ring to the next one: nobody shares. To the one after: two on each link.
  const auto ring = plan::network::ring(8, w);
  CHECK(plan::group_cost(ring, 1, 8).neighbours().per_byte == Approx(1 / 10e9));
  CHECK(plan::group_cost(ring, 2, 4).neighbours().per_byte == Approx(2 / 10e9));
  CHECK(plan::group_cost(ring, 2, 4).neighbours().hops == 2);
  CHECK(plan::group_cost(ring, 1, 8).all_reduce(8e6) == Approx(14 * (1e-6 + 1e6 / 10e9)));
  // Nodes of 4 with a slow way out: in two levels each rank's adapter carries its own share.
  const auto nodes = plan::network::nodes(2, 4, {100e9, 0}, {1e9, 0});
  CHECK(plan::group_cost(nodes, 1, 8).all_gather(8e6) == Approx(3 * 2e6 / 100e9 + 1 * 1e6 / 1e9));
  CHECK(
      plan::group_cost(plan::network::nodes(2, 4, {100e9, 0}, {1e9, 0}, 1), 4, 2).all_gather(8e6) ==
      Approx(4e6 / 1e9 * 4));  // one adapter for four
  // Fair sharing, written for the simulation below, agrees where all flows are alike.
  CHECK(fair_sharing(ring, {{0, 2}, {1, 3}, {2, 4}}, 1e6) == Approx(2e-6 + 2e6 / 10e9));
  CHECK_THROWS_AS(static_cast<void>(plan::network::ring(0, w)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(plan::network::nodes(2, 4, w, w, 3)), ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(plan::network::ring(4, {0, 0})), ashlar::argument_error);
}

TEST_CASE("parallel/planner: a network's routes are those of the topology that is simulated") {
  const plan::wire w{10e9, 3e-6};
  const auto agree = [&](const plan::network& net, const comm::topology& wires, bool rings) {
    REQUIRE(net.size() == wires.ranks());
    const std::size_t dimensions = wires.dimensions().size();
    std::vector<comm::hop> way;
    for (int a = 0; a < net.size(); ++a) {
      for (int b = 0; b < net.size(); ++b) {
        wires.route(a, b, way);
        std::size_t at = 0;
        bool same = true;
        net.route(a, b, [&](std::size_t link) {
          if (at < way.size()) {
            const std::size_t node = way[at].link & 0xffff, sort = way[at].link >> 48 & 1;
            const std::size_t dimension = way[at].link >> 56;
            const std::size_t expected = rings ? (node * dimensions + dimension) * 2 + sort
                                               : node * 4 + link % 4 / 2 * 2 + sort;
            same = same && link == expected && net.of_link(link).latency == way[at].latency &&
                   net.of_link(link).bandwidth == way[at].bandwidth;
          }
          ++at;
        });
        CHECK(at == way.size());
        CHECK(same);
      }
    }
  };
  const auto of = [&](comm::wiring how, int size) {
    return comm::dimension{how, size, w.latency, w.bandwidth};
  };
  using comm::wiring;
  agree(plan::network::ring(7, w), comm::topology({of(wiring::ring, 7)}), true);
  agree(plan::network::torus({3, 2, 4}, w),
        comm::topology({of(wiring::ring, 3), of(wiring::ring, 2), of(wiring::ring, 4)}), true);
  agree(plan::network::nodes(1, 5, w, {1e9, 0}), comm::topology({of(wiring::star, 5)}), false);
  agree(plan::network::nodes(5, 1, {1e9, 0}, w), comm::topology({of(wiring::star, 5)}), false);
}

TEST_CASE("parallel/planner: tensor parallelism over a slow link is refused by name") {
  const auto nodes = plan::network::nodes(2, 4, {300e9, 0.5e-6}, {25e9, 2.5e-6});
  CHECK_NOTHROW(par::check_embedding(par::mesh::parse("data=2,tensor=4"), nodes));
  CHECK_NOTHROW(par::check_embedding(par::mesh::parse("pipeline=8"), nodes));
  CHECK_NOTHROW(par::check_embedding(par::mesh::parse("data=8,tensor=1"), nodes));
  try {
    par::check_embedding(par::mesh::parse("tensor=2,data=4"), nodes);
    FAIL("fits");
  } catch (const par::slow_embedding& e) {
    CHECK(e.along == axis::tensor);
    CHECK(e.bandwidth == 25e9);
    CHECK(e.least == 75e9);
  }
  CHECK_THROWS_AS(par::check_embedding(par::mesh::parse("tensor=4"), nodes),
                  ashlar::argument_error);
}

TEST_CASE("parallel/planner: model states are the ZeRO paper's table and Megatron's bytes") {
  const auto zero = par::precision::zero_paper();
  const auto gb = [&](double billions, int replicas, int stage) {
    return par::model_states(billions * 1e9, zero, replicas, stage).model_states() / 1e9;
  };
  CHECK(gb(7.5, 1, 0) == 120);
  CHECK(gb(7.5, 64, 0) == 120);
  CHECK(gb(7.5, 64, 1) == Approx(31.4).epsilon(0.002));  // the paper prints three digits
  CHECK(gb(7.5, 16, 2) == Approx(21.6).epsilon(0.002));
  CHECK(gb(7.5, 64, 2) == Approx(16.6).epsilon(0.003));
  CHECK(gb(7.5, 4, 3) == 30);
  CHECK(gb(7.5, 64, 3) == Approx(1.9).epsilon(0.02));
  CHECK(gb(128, 64, 3) == 32);
  CHECK(gb(1000, 1024, 3) == Approx(15.6).epsilon(0.002));
  for (const int d : {1, 2, 8, 64}) {
    const auto bytes = [&](const par::precision& p) {
      return par::model_states(1, p, d, 1).model_states();
    };
    CHECK(bytes(par::precision::megatron_fp16()) == Approx(4 + 16.0 / d));
    CHECK(bytes(par::precision::megatron_bf16()) == Approx(6 + 12.0 / d));
    CHECK(bytes(par::precision::megatron_fp32()) == Approx(8 + 8.0 / d));
    CHECK(par::model_states(1, par::precision::deepspeed(), d, 2).model_states() ==
          Approx(2 + 18.0 / d));
  }
}

TEST_CASE("parallel/planner: activations are the table of the recomputation paper") {
  const double s = 2048, h = 12288, a = 96;
  const auto m = par::transformer::gpt(96, 12288, 96, 51200, 2048);
  const par::precision p = par::precision::megatron_bf16();
  for (const int b : {1, 4}) {
    for (const int t : {1, 2, 8}) {
      const auto bytes = [&](par::recompute r, bool apart) {
        return par::layer_activations(
            m, p, {.tensor = t, .micro_batch = b, .recompute = r, .sequence_parallel = apart});
      };
      const double sbh = s * b * h;
      CHECK(bytes(par::recompute::none, false) ==
            Approx(sbh * (10 + 24.0 / t + 5 * a * s / h / t)));
      CHECK(bytes(par::recompute::none, true) == Approx(sbh * (34.0 / t + 5 * a * s / h / t)));
      CHECK(bytes(par::recompute::selective, false) == Approx(sbh * (10 + 24.0 / t)));
      CHECK(bytes(par::recompute::selective, true) == Approx(sbh * 34 / t));
      CHECK(bytes(par::recompute::full, false) == Approx(sbh * 2));
      // The first stage of 1F1B keeps p micro-batches of a p-th of the layers.
      for (const int stages : {1, 2, 8}) {
        const par::layout l{.tensor = t, .pipeline = stages, .micro_batch = b};
        const double kept = double(m.layers) / stages * par::layer_activations(m, p, l);
        CHECK(kept * par::in_flight(l, 0, 64) ==
              Approx(sbh * double(m.layers) / t * (34 + 5 * a * s / h)));
      }
    }
  }
  // Interleaving costs 1 + (p - 1) / (p v) of that.
  const par::layout deep{.pipeline = 8, .chunks = 3};
  CHECK(par::in_flight(deep, 0, 64) / 8 == Approx(1 + 7.0 / 24));
  CHECK(par::in_flight({.pipeline = 8}, 0, 4) == 4);
}

TEST_CASE("parallel/planner: parameters and operations are Megatron's formulas and table") {
  struct row {
    std::int64_t layers, width, heads;
    double billions;
  };
  for (const row& r : {row{24, 2304, 24, 1.7},
                       {40, 6144, 48, 18.4},
                       {48, 8192, 64, 39.1},
                       {80, 12288, 96, 145.6},
                       {105, 20480, 128, 529.6},
                       {128, 25600, 160, 1008.0}}) {
    const auto m = par::transformer::gpt(r.layers, r.width, r.heads, 51200, 2048);
    const double l = double(r.layers), h = double(r.width), v = 51200, s = 2048;
    CHECK(double(m.parameters()) ==
          Approx(12 * l * h * h * (1 + 13 / (12 * h) + (v + s) / (12 * l * h))).epsilon(1e-12));
    CHECK(double(m.parameters()) / 1e9 == Approx(r.billions).epsilon(0.5 / 17));  // as printed
    // With full recomputation: four passes through the layers, three through the output.
    CHECK(4 * l * m.layer_flops() + 3 * m.output_flops() ==
          Approx(96 * s * l * h * h * (1 + s / (6 * h) + v / (16 * l * h))).epsilon(1e-12));
  }
}

TEST_CASE("parallel/planner: the choice is within a tenth of the best of all layouts simulated") {
  const plan::wire pcie{24e9, 2e-6}, nvlink{300e9, 1e-6}, adapter{25e9, 2.5e-6}, lane{50e9, 1e-6};
  const par::device_rates gpu{150e12, 1.5e12, 40e9, false}, small{60e12, 0.7e12, 16e9, false};
  for (const setting& s :
       {setting{"a ring of 8", plan::network::ring(8, pcie), {60e12, 0.7e12, 24e9, false}},
        setting{"a ring of 16", plan::network::ring(16, pcie), small},
        setting{"a ring of 64", plan::network::ring(64, pcie), small},
        setting{"nodes of 8", plan::network::nodes(8, 8, nvlink, adapter), gpu},
        setting{"nodes of 4 with one adapter", plan::network::nodes(4, 4, nvlink, adapter, 1),
                small},
        setting{"a torus", plan::network::torus({4, 4, 4}, lane), small}}) {
    CAPTURE(std::string(s.name));
    for (const std::int64_t batch : {4, 16, 64}) {
      CAPTURE(batch);
      const auto job = small_job(batch);
      const auto found = par::plan(job, s.chip, s.net);
      double best = std::numeric_limits<double>::infinity();
      std::size_t looked = 0;
      par::layout best_layout;
      par::for_each_layout(job.model, job.batch, s.net.size(), [&](const par::layout& l) {
        const auto batches = job.batch / l.data / l.micro_batch;
        if (par::memory_of(job.model, job.precision, l, batches).total() > s.chip.memory_bytes ||
            plan::group_cost(s.net, 1, l.tensor).neighbours().slowest < s.net.fastest() / 4) {
          return;
        }
        ++looked;
        const double step = simulate_step(job, s.chip, s.net, l);
        if (step < best) {
          best = step;
          best_layout = l;
        }
      });
      CAPTURE(par::text_of(best_layout));
      CAPTURE(par::text_of(found.best().layout));
      const double chosen = simulate_step(job, s.chip, s.net, found.best().layout);
      CAPTURE(found.best().time.step);
      CHECK(looked == found.ranked.size());
      CHECK(looked > 20);
      CHECK(chosen <= 1.1 * best);
      CHECK_NOTHROW(par::check_embedding(par::mesh_of(found.best().layout), s.net));
    }
  }
}

TEST_CASE("parallel/planner: what it finds is sorted, explained, and an error where nothing fits") {
  const auto net = plan::network::nodes(2, 8, {300e9, 1e-6}, {25e9, 2.5e-6});
  const auto job = small_job(32);
  const par::device_rates chip{150e12, 1.5e12, 16e9, false};
  const auto found = par::plan(job, chip, net);
  for (std::size_t i = 0; i < found.ranked.size(); ++i) {
    const auto& c = found.ranked[i];
    CHECK(c.layout.ranks() == 16);
    CHECK(c.layout.tensor <= 8);
    CHECK(c.memory.total() <= 16e9);
    CHECK(c.time.step ==
          Approx(c.time.compute + c.time.bubble + c.time.exposed() + c.time.optimizer));
    CHECK((i == 0 || c.time.step >= found.ranked[i - 1].time.step));
  }
  CHECK(found.ranked.size() + found.too_large == found.examined);
  CHECK(found.slow_tensor == 1);  // 16
  CHECK(par::to_table(found, 3).find(par::text_of(found.best().layout)) != std::string::npos);
  const std::string why = par::explain(found);
  CHECK(why.find(par::text_of(found.best().layout)) == 0);
  CHECK(why.find("slower, most of all by ") != std::string::npos);
  try {
    static_cast<void>(par::plan(job, {150e12, 1.5e12, 1e8, false}, net));
    FAIL("fits");
  } catch (const par::no_layout& e) {
    CHECK(e.ranks == 16);
    CHECK(e.examined == found.examined);
    CHECK(e.least_bytes > 1e8);
  }
  auto odd = job;
  odd.batch = 1;
  odd.model.layers = odd.model.heads = odd.model.kv_heads = 7;
  CHECK_THROWS_AS(static_cast<void>(par::plan(odd, chip, net)), par::no_layout);
  odd.batch = 0;
  CHECK_THROWS_AS(static_cast<void>(par::plan(odd, chip, net)), ashlar::argument_error);
  odd = job;
  odd.model.width = 0;
  CHECK_THROWS_AS(static_cast<void>(par::plan(odd, chip, net)), ashlar::argument_error);
  for (const double rate : {0.0, -1.0, std::nan("")}) {
    auto bad = chip;
    bad.flops = rate;
    CHECK_THROWS_AS(static_cast<void>(par::plan(job, bad, net)), ashlar::argument_error);
    bad = chip;
    bad.memory_bandwidth = rate;
    CHECK_THROWS_AS(static_cast<void>(par::plan(job, bad, net)), ashlar::argument_error);
  }
  // A chip that cannot compute while it copies hides no communication.
  auto serial = chip;
  serial.copy_uses_compute = true;
  CHECK(par::plan(job, serial, net).best().time.step > found.best().time.step);
  const auto rates = par::device_rates::of({.name = "npu", .matrix_unit = {16, 16, 16}}, 1e9, 8e9);
  CHECK(rates.flops == 2.0 * 16 * 16 * 16 * 1e9);
  CHECK(rates.memory_bandwidth == 16e9);
}

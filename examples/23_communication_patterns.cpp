// SPDX-License-Identifier: Apache-2.0
// The numbers and pictures of docs/articles/communication_patterns.md: what FSDP and Megatron's
// tensor parallelism send, run on threads and simulated. `example_23_communication_patterns FOLDER`
// leaves the pictures there.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm.hpp"
#include "ashlar/comm/select.hpp"
#include "ashlar/comm/traced.hpp"
#include "ashlar/parallel/planner.hpp"
#include "ashlar/parallel/step_timeline.hpp"
#include "ashlar/trace/gantt.hpp"

namespace comm = ashlar::comm;
namespace parallel = ashlar::parallel;
namespace trace = ashlar::trace;

namespace {

// ---- a real step, on threads: layers y = x + relu(x A) B, loss = sum of y^2 / 2 ----

using values = std::vector<float>;

constexpr int layers = 4;
constexpr std::size_t width = 128;  // of the residual stream
constexpr std::size_t hidden = 4 * width;
constexpr std::size_t unit = 2 * width * hidden;  // elements of A and B
constexpr std::size_t tokens = 128;
constexpr int ranks = 2;

values random_values(std::size_t n, std::uint32_t seed, float size) {
  values v(n);
  for (float& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = (static_cast<float>(seed >> 8) / 8388608.0f - 1.0f) * size;
  }
  return v;
}

/// `out(M, N) += a(M, K) b(K, N)`; strides say what is read across.
struct matrix {
  const float* at;
  std::size_t row, column;
};
void add_product(float* out, std::size_t m, std::size_t k, std::size_t n, matrix a, matrix b) {
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t l = 0; l < k; ++l) {
      const float x = a.at[i * a.row + l * a.column];
      for (std::size_t j = 0; j < n; ++j) {
        out[i * n + j] += x * b.at[l * b.row + j * b.column];
      }
    }
  }
}

/// A part of a layer: `part` columns of A and as many rows of B.
struct half_layer {
  std::span<const float> a, b;
  std::size_t part;

  void forward(const values& x, values& z, values& y) const {
    const std::size_t t = x.size() / width;
    z.assign(t * part, 0);
    y.assign(t * width, 0);
    add_product(z.data(), t, width, part, {x.data(), width, 1}, {a.data(), part, 1});
    for (float& v : z) {
      v = std::max(v, 0.0f);
    }
    add_product(y.data(), t, part, width, {z.data(), part, 1}, {b.data(), width, 1});
  }
  /// Effects: `dx` is what this part gives, without the residual's; `da` and `db` are the
  /// gradients.
  void backward(const values& x, const values& z, const values& dy, values& dx, std::span<float> da,
                std::span<float> db) const {
    const std::size_t t = x.size() / width;
    values dz(t * part, 0);
    dx.assign(t * width, 0);
    add_product(db.data(), part, t, width, {z.data(), 1, part}, {dy.data(), width, 1});
    add_product(dz.data(), t, width, part, {dy.data(), width, 1}, {b.data(), 1, width});
    for (std::size_t i = 0; i < dz.size(); ++i) {
      dz[i] = z[i] > 0 ? dz[i] : 0;
    }
    add_product(da.data(), width, t, part, {x.data(), 1, width}, {dz.data(), part, 1});
    add_product(dx.data(), t, part, width, {dz.data(), part, 1}, {a.data(), 1, part});
  }
};
void add(values& to, const values& more) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] += more[i];
  }
}

using transport = comm::traced<comm::logged<comm::threads>>;

/// Every rank has a share of each layer's parameters and of the tokens. A layer is gathered while
/// the one before it is computed; gradients are scattered on a channel of their own.
///
/// Returns: this rank's share of the gradients, layer by layer.
values fsdp_step(transport& t, bool reshard) {
  const comm::partition shares(unit, t.size());
  const comm::chunk mine = shares.at(t.rank());
  const std::size_t own_tokens = tokens / static_cast<std::size_t>(t.size());
  const values all_tokens = random_values(tokens * width, 1, 1.0f);
  std::vector<values> whole(layers, values(unit)), shard(layers), x(layers + 1), z(layers);
  for (int l = 0; l < layers; ++l) {
    const values full = random_values(unit, 100 + static_cast<std::uint32_t>(l), 0.1f);
    shard[static_cast<std::size_t>(l)].assign(
        full.begin() + static_cast<std::ptrdiff_t>(mine.first),
        full.begin() + static_cast<std::ptrdiff_t>(mine.last));
  }
  std::vector<comm::work<transport>> gathers;
  gathers.reserve(2 * layers);
  const auto gather = [&](std::size_t l) {
    std::ranges::copy(shard[l], whole[l].begin() + static_cast<std::ptrdiff_t>(mine.first));
    gathers.push_back(comm::start_all_gather(t, std::span(whole[l]), shares));
  };
  const auto layer = [&](std::size_t l) {
    const std::span<const float> w(whole[l]);
    return half_layer{w.first(width * hidden), w.last(width * hidden), hidden};
  };
  const auto begin =
      all_tokens.begin() +
      static_cast<std::ptrdiff_t>(own_tokens * width * static_cast<std::size_t>(t.rank()));
  x[0].assign(begin, begin + static_cast<std::ptrdiff_t>(own_tokens * width));
  gather(0);
  for (std::size_t l = 0; l < layers; ++l) {
    gathers.back().wait();
    if (l + 1 < layers) {
      gather(l + 1);
    }
    {
      const auto busy = t.compute("forward " + std::to_string(l));
      layer(l).forward(x[l], z[l], x[l + 1]);
      add(x[l + 1], x[l]);
    }
    if (l + 1 < layers) {
      gathers.back().test();
    }
    if (reshard) {
      whole[l].assign(unit, 0);
    }
  }
  values dy = x[layers];
  values dx;
  std::vector<values> gradients(layers, values(unit));
  std::vector<comm::work<transport>> scatters;
  scatters.reserve(layers);
  if (reshard) {
    gather(layers - 1);
  }
  for (std::size_t l = layers; l-- > 0;) {
    if (reshard) {
      gathers.back().wait();
      if (l > 0) {
        gather(l - 1);
      }
    }
    {
      const auto busy = t.compute("backward " + std::to_string(l));
      const std::span<float> g(gradients[l]);
      layer(l).backward(x[l], z[l], dy, dx, g.first(width * hidden), g.last(width * hidden));
      add(dy, dx);
    }
    scatters.push_back(comm::start_reduce_scatter<comm::ring>(t, std::span(gradients[l]), shares,
                                                              comm::sum, {}, 1));
    for (auto& s : scatters) {
      s.test();
    }
  }
  for (auto& s : scatters) {
    s.wait();
  }
  values own;
  for (const values& g : gradients) {
    own.insert(own.end(), g.begin() + static_cast<std::ptrdiff_t>(mine.first),
               g.begin() + static_cast<std::ptrdiff_t>(mine.last));
  }
  return own;
}

/// Every rank has some columns of A and rows of B, and all tokens: two all-reduces per layer.
///
/// Returns: this rank's gradients, of A and B, layer by layer.
values megatron_step(transport& t) {
  const std::size_t part = hidden / static_cast<std::size_t>(t.size());
  const std::size_t first = part * static_cast<std::size_t>(t.rank());
  std::vector<values> a(layers, values(width * part)), b(layers), x(layers + 1), z(layers);
  for (std::size_t l = 0; l < layers; ++l) {
    const values full = random_values(unit, 100 + static_cast<std::uint32_t>(l), 0.1f);
    for (std::size_t i = 0; i < width; ++i) {
      std::copy_n(full.begin() + static_cast<std::ptrdiff_t>(i * hidden + first), part,
                  a[l].begin() + static_cast<std::ptrdiff_t>(i * part));
    }
    const auto rows = full.begin() + static_cast<std::ptrdiff_t>(width * hidden + first * width);
    b[l].assign(rows, rows + static_cast<std::ptrdiff_t>(part * width));
  }
  x[0] = random_values(tokens * width, 1, 1.0f);
  for (std::size_t l = 0; l < layers; ++l) {
    {
      const auto busy = t.compute("forward " + std::to_string(l));
      half_layer{a[l], b[l], part}.forward(x[l], z[l], x[l + 1]);
    }
    comm::all_reduce<comm::ring>(t, std::span(x[l + 1]));
    add(x[l + 1], x[l]);
  }
  values dy = x[layers];
  values dx;
  std::vector<values> gradients(layers, values(2 * width * part));
  for (std::size_t l = layers; l-- > 0;) {
    {
      const auto busy = t.compute("backward " + std::to_string(l));
      const std::span<float> g(gradients[l]);
      half_layer{a[l], b[l], part}.backward(x[l], z[l], dy, dx, g.first(width * part),
                                            g.last(width * part));
    }
    comm::all_reduce<comm::ring>(t, std::span(dx));
    add(dy, dx);
  }
  values own;
  for (const values& g : gradients) {
    own.insert(own.end(), g.begin(), g.end());
  }
  return own;
}

struct real_run {
  std::vector<values> gradients;  // by rank
  std::size_t collectives = 0;    // of a rank
  std::size_t bytes = 0;          // sent by all ranks
  trace::timeline timeline;
};
template <class Step>
real_run on_threads(const Step& step) {
  struct part {
    values gradients;
    std::size_t bytes = 0;
    trace::timeline timeline;
  };
  const auto start = comm::run_record::clock::now();
  auto parts = comm::run(ranks, [&](comm::threads& inner) {
    comm::run_record record(inner.rank(), start);
    comm::logged<comm::threads> log(inner);
    transport t(log, record);
    comm::barrier(inner);
    part p;
    p.gradients = step(t);
    for (const comm::message_record& m : log.messages()) {
      p.bytes += m.bytes;
    }
    p.timeline = comm::gather_timelines(inner, record.timeline());
    return p;
  });
  real_run r;
  r.timeline = std::move(parts[0].timeline);
  for (const trace::event& e : r.timeline.events()) {
    r.collectives += e.process == 0 && e.category == comm::lanes::collective ? 1 : 0;
  }
  for (part& p : parts) {
    r.bytes += p.bytes;
    r.gradients.push_back(std::move(p.gradients));
  }
  return r;
}

/// The largest difference between FSDP's gradients and Megatron's, over the largest gradient.
double difference(const real_run& fsdp, const real_run& megatron) {
  const comm::partition shares(unit, ranks);
  const std::size_t part = hidden / ranks;
  double most = 0;
  double largest = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    values whole(unit);
    std::size_t before = 0;
    for (int r = 0; r < ranks; ++r) {
      const values& own = fsdp.gradients[static_cast<std::size_t>(r)];
      const std::size_t n = own.size() / layers;
      std::copy_n(own.begin() + static_cast<std::ptrdiff_t>(l * n), n,
                  whole.begin() + static_cast<std::ptrdiff_t>(before));
      before += n;
    }
    for (std::size_t r = 0; r < ranks; ++r) {
      const values& own = megatron.gradients[r];
      const float* const a = own.data() + l * 2 * width * part;
      for (std::size_t i = 0; i < width * part; ++i) {
        const float wa = whole[i / part * hidden + r * part + i % part];
        const float wb = whole[width * hidden + r * part * width + i];
        most = std::max({most, std::abs(static_cast<double>(wa) - a[i]),
                         std::abs(static_cast<double>(wb) - a[width * part + i])});
        largest = std::max(
            {largest, std::abs(static_cast<double>(wa)), std::abs(static_cast<double>(wb))});
      }
    }
  }
  return most / largest;
}

// ---- a simulated step of a large model: the same collectives on networks ----

const parallel::transformer large = parallel::transformer::gpt(8, 4096, 32, 50304, 2048);
constexpr double flops = 150e12;
constexpr int chips = 8;
constexpr double batch = 8;         // texts, over all chips
constexpr std::size_t element = 2;  // bfloat16

struct network_of_8 {
  const char* name;
  comm::network net;
};
const network_of_8 node{"an NVLink-like node",
                        {comm::presets::switched(chips, 1e-6, 300e9), 2e-6, 0, true}};
const network_of_8 pcie{"a PCIe ring", {comm::presets::ring(chips, 1e-6, 24e9), 2e-6, 0, true}};

enum class asks { all_gather, reduce_scatter, all_reduce };

/// How long a collective of `count` elements takes by the fastest of two algorithms: one of large
/// messages, one of few.
double seconds_of(const comm::network& net, asks what, std::size_t count) {
  double best = std::numeric_limits<double>::infinity();
  for (const bool ring : {true, false}) {
    const auto o = comm::simulate(
        net,
        [&](int r) {
          const auto q = comm::problem::even(chips, r, count, element);
          switch (what) {
            case asks::all_gather:
              return ring ? comm::ring{}.all_gather(q) : comm::recursive_doubling{}.all_gather(q);
            case asks::reduce_scatter:
              return ring ? comm::ring{}.reduce_scatter(q) : comm::rabenseifner{}.reduce_scatter(q);
            default:
              return ring ? comm::ring{}.all_reduce(q) : comm::rabenseifner{}.all_reduce(q);
          }
        },
        element);
    best = std::min(best, o.seconds);
  }
  return best;
}

struct pair_of_steps {
  parallel::simulated_step fsdp, lazy, megatron;
};
/// FSDP with and without prefetch, and tensor parallelism with an all-reduce per half layer.
pair_of_steps simulated(const comm::network& net, const parallel::transformer& m) {
  const auto count = static_cast<std::size_t>(m.layers);
  const double forward = batch / chips * m.layer_flops() / flops;
  const auto parameters = static_cast<std::size_t>(m.layer_parameters());
  const double bytes = static_cast<double>(parameters * element);
  const std::vector<parallel::unit_cost> units(
      count, {forward, 2 * forward, seconds_of(net, asks::all_gather, parameters),
              seconds_of(net, asks::reduce_scatter, parameters), bytes, bytes});
  const auto stream =
      static_cast<std::size_t>(batch) * static_cast<std::size_t>(m.sequence * m.width);
  const std::vector<parallel::divided_layer_cost> divided(
      count, {forward, 2 * forward, seconds_of(net, asks::all_reduce, stream)});
  return {parallel::simulate_fsdp(units),
          parallel::simulate_fsdp(
              units, {.prefetch = parallel::prefetch::none, .forward_prefetch = false}),
          parallel::simulate_tensor_parallel(divided, 1)};
}

void sweep(const char* title, const parallel::transformer& m) {
  const auto row = [&](const char* what, double value, double latency, double bandwidth) {
    const auto s =
        simulated({comm::presets::fully_connected(chips, latency, bandwidth), 0, 0, true}, m);
    std::printf("%s %8g %9.2f %9.2f %9.2f\n", what, value, s.fsdp.seconds * 1e3,
                s.lazy.seconds * 1e3, s.megatron.seconds * 1e3);
  };
  std::printf("== %s\n                      FSDP  no prefetch  Megatron  [ms]\n", title);
  for (const double us : {0.1, 1.0, 10.0, 100.0, 1000.0}) {
    row("latency   [us]  ", us, us * 1e-6, 300e9);
  }
  for (const double gb : {1000.0, 300.0, 100.0, 30.0, 10.0}) {
    row("bandwidth [GB/s]", gb, 1e-6, gb * 1e9);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto leave = [&](const char* name, const trace::timeline& t) {
    if (argc > 1) {
      const std::string path = std::string(argv[1]) + "/" + name;
      std::ofstream(path + ".svg") << trace::to_svg(t, {.width = 850, .margin = 170});
      std::ofstream(path + ".html") << trace::to_gantt_page(t, name);
      std::ofstream(path + ".json") << trace::to_chrome_trace(t);
    }
  };

  const real_run kept = on_threads([](transport& t) { return fsdp_step(t, false); });
  const real_run fsdp = on_threads([](transport& t) { return fsdp_step(t, true); });
  const real_run megatron = on_threads([](transport& t) { return megatron_step(t); });
  const std::size_t model = layers * unit * sizeof(float);
  const std::size_t stream = tokens * width * sizeof(float);
  constexpr std::size_t p1 = ranks - 1;
  std::printf("== volume\n%d MLP layers of %zu elements on %d threads, %zu tokens of %zu\n", layers,
              unit, ranks, tokens, width);
  std::printf("                       collectives     sent by all  formula\n");
  const auto line = [](const char* name, const real_run& r, const char* formula,
                       std::size_t expected) {
    std::printf("%-22s %11zu %9zu bytes  %s = %zu\n", name, r.collectives, r.bytes, formula,
                expected);
    return r.bytes == expected;
  };
  bool right = line("FSDP, layers kept", kept, "2 M (p - 1)", 2 * model * p1);
  right = line("FSDP, resharded", fsdp, "3 M (p - 1)", 3 * model * p1) && right;
  right = line("Megatron, MLPs", megatron, "2 L 2 b s h (p - 1)", 2 * layers * 2 * stream * p1) &&
          right;
  const double apart = difference(fsdp, megatron);
  right = right && apart < 1e-5 && difference(kept, megatron) < 1e-5;
  std::printf("gradients %s\n", right ? "agree within 1e-5" : "DIFFER");
  leave("patterns_threads_fsdp", fsdp.timeline);
  leave("patterns_threads_megatron", megatron.timeline);
  if (argc > 1) {  // another on every run
    for (const auto* r : {&fsdp, &megatron}) {
      const auto o = comm::overlap_of(r->timeline, 0);
      std::fprintf(stderr, "%s on threads: %.1f ms, %.0f %% of communication hidden\n",
                   r == &fsdp ? "FSDP" : "Megatron", static_cast<double>(r->timeline.end()) * 1e-6,
                   100 * o.share());
    }
  }

  std::printf("== steps\n%zu layers of %.0f million parameters on %d chips, %.0f texts of %lld\n",
              static_cast<std::size_t>(large.layers),
              static_cast<double>(large.layer_parameters()) * 1e-6, chips, batch,
              static_cast<long long>(large.sequence));
  for (const auto& [at, file] :
       {std::pair(node, "patterns_node"), std::pair(pcie, "patterns_pcie")}) {
    const auto s = simulated(at.net, large);
    std::printf(
        "%-20s FSDP %6.1f ms, %3.0f %% hidden; without prefetch %6.1f ms; Megatron %6.1f ms\n",
        at.name, s.fsdp.seconds * 1e3, 100 * s.fsdp.overlap.share(), s.lazy.seconds * 1e3,
        s.megatron.seconds * 1e3);
    trace::timeline both = s.fsdp.timeline;
    for (const trace::event& e : s.megatron.timeline.events()) {
      both.add(e);
    }
    for (const auto& lane : s.megatron.timeline.lanes()) {
      both.name_lane(lane.process, lane.lane, lane.name);
    }
    leave(file, both);
  }
  sweep("sweep of large layers", large);
  sweep("sweep of small layers", parallel::transformer::gpt(8, 512, 8, 50304, 2048));

  // 1.3 billion parameters on chips of 24 GB.
  const parallel::device_rates chip{
      .flops = flops, .memory_bandwidth = 1.5e12, .memory_bytes = 24e9};
  const std::array<std::pair<const char*, ashlar::plan::network>, 3> places{
      {{"a PCIe ring of 8", ashlar::plan::network::ring(8, {24e9, 1e-6})},
       {"an NVLink-like node of 8",
        ashlar::plan::network::nodes(1, 8, {300e9, 1e-6}, {25e9, 2.5e-6})},
       {"a torus of 4 x 4", ashlar::plan::network::torus({4, 4}, {50e9, 1e-6})}}};
  const auto planned = [&](std::int64_t texts, const ashlar::plan::network& net) {
    return parallel::plan({.model = parallel::transformer::gpt(24, 2048, 16, 50304, 2048),
                           .precision = parallel::precision::megatron_bf16(),
                           .batch = texts},
                          chip, net);
  };
  std::printf("== planner\n%-24s  texts  step ms  exposed  data x tensor x pipeline\n", "");
  for (const auto& [name, net] : places) {
    for (const std::int64_t texts : {64, 16, 4}) {
      const auto best = planned(texts, net).best();
      std::printf("%-24s  %5lld  %7.1f  %7.1f  %s\n", name, static_cast<long long>(texts),
                  best.time.step * 1e3, best.time.exposed() * 1e3,
                  parallel::text_of(best.layout).c_str());
    }
  }
  std::printf("== why\n%s: %s", places[1].first,
              parallel::explain(planned(4, places[1].second)).c_str());
  return right ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/fsdp.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/autograd/checkpoint.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/ops/host_fallback.hpp"
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/stack.hpp"
#include "parallel/weights.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;
namespace comm = ashlar::comm;
namespace parallel = ashlar::parallel;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;
using layer = nn::linear<stack>;

template <class Stack>
struct tower {
  using hooked = nn::with_hooks<nn::linear<Stack>>;
  using layers_type = std::vector<hooked>;
  BOOST_HANA_DEFINE_STRUCT(tower, (layers_type, layers));
};
using model = tower<stack>;

/// Units of different sizes, none of which three or four ranks divide.
const std::vector<std::int64_t> widths = {5, 13, 7, 11, 3};

model make(std::uint64_t seed) {
  model m;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    m.layers.push_back(layer::make(widths[i], widths[i + 1]));
  }
  nn::initialize(m, seed, nn::init::normal(0.0, 0.3));
  nn::require_grad(m);
  return m;
}
std::vector<std::string> units() { return {"layers.0", "layers.1", "layers.2", "layers.3"}; }

/// The loss of micro-batch number `batch`; `run(i, x)` is layer `i`.
template <class Run>
tensor loss_of(std::uint64_t batch, const Run& run) {
  auto x = al::randn<tensor>({4, widths.front()}, 1000 + batch);
  const auto y = al::randn<tensor>({4, widths.back()}, 2000 + batch);
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    x = i == 0 ? run(i, x) : run(i, al::tanh(x));
  }
  const auto error = x - y;
  return al::mean(error * error);
}

using bits = std::vector<float>;

constexpr int steps = 10;

/// `ranks` replicas with `batches` micro-batches each: one of them is who accumulates all.
bits train_replicas(int ranks, int batches, double clip = 0) {
  return comm::run(ranks,
                   [&](comm::threads& endpoint) {
                     const al::chip::thread_limit limit(1);
                     const auto m = make(1);
                     parallel::ddp ddp(m, endpoint, {.micro_batches = batches}, comm::ordered{});
                     nn::adamw optimizer(m, {.weight_decay = 0.1});
                     for (int step = 0; step < steps; ++step) {
                       const auto back = [&](int b) {
                         const int number = (step * ranks + endpoint.rank()) * batches + b;
                         al::backward(loss_of(
                             static_cast<std::uint64_t>(number),
                             [&](std::size_t i, const tensor& x) { return m.layers[i](x); }));
                       };
                       for (int b = 0; b + 1 < batches; ++b) {
                         const auto quiet = ddp.no_sync();
                         back(b);
                       }
                       back(batches - 1);
                       if (clip > 0) {
                         nn::clip_grad_norm(m, clip);
                       }
                       optimizer.step(0.01);
                       nn::zero_grad(m);
                     }
                     return weights_of(m);
                   })
      .front();
}

struct outcome {
  bits weights;
  parallel::fsdp_usage usage;
  std::size_t sent = 0;  ///< bytes per step
  double norm = 0;       ///< of the last step
};

struct plan {
  int ranks = 2;
  int replicas = 1;
  parallel::fsdp_options options{};
  bool hooks = false;  ///< units run by hooks of the layers
  bool late = false;   ///< reduced behind all passes
  bool again = false;  ///< layers save nothing and run again backward
  double clip = 0;
  std::uint64_t other_seed = 99;
};

std::vector<outcome> train_sharded(const plan& p) {
  return comm::run(p.ranks, [&](comm::threads& wires) {
    const al::chip::thread_limit limit(1);
    comm::logged inner(wires);
    comm::group world(inner);
    using group = comm::group<comm::logged<comm::threads>>;
    const int per_group = p.ranks / p.replicas;
    group shards = world.split(wires.rank() / per_group);
    group replicas = world.split(wires.rank() % per_group);
    auto m = make(wires.rank() == 0 ? 1 : p.other_seed);  // the first rank's parameters count
    parallel::fsdp fsdp(m, shards, units(), p.options, comm::ordered{},
                        p.replicas > 1 ? &replicas : nullptr);
    CHECK(m.layers[0].weight.data() == nullptr);
    if (p.hooks) {
      for (std::size_t i = 0; i < m.layers.size(); ++i) {
        fsdp.watch(m.layers[i], i);
      }
    }
    nn::adamw<tensor> optimizer(fsdp.pieces(), {.weight_decay = 0.1}, fsdp.rule());
    outcome all;
    const auto batches = static_cast<int>(p.options.micro_batches);
    for (int step = 0; step < steps; ++step) {
      inner.clear();
      const auto back = [&](int b) {
        const int number = (step * p.ranks + wires.rank()) * batches + b;
        al::backward(loss_of(static_cast<std::uint64_t>(number), [&](std::size_t i,
                                                                     const tensor& x) {
          const auto layer = [&m, i](const tensor& y) { return m.layers[i](y); };
          return p.hooks   ? layer(x)
                 : p.again ? fsdp.run(
                                 i, [&](const tensor& y) { return al::checkpoint(layer, y); }, x)
                           : fsdp.run(i, layer, x);
        }));
      };
      for (int b = 0; b + 1 < batches; ++b) {
        const auto quiet = fsdp.no_sync();
        back(b);
      }
      if (p.late) {
        {
          const auto quiet = fsdp.no_sync();
          back(batches - 1);
          fsdp.reduce();  // nothing yet
        }
        fsdp.reduce();
      } else {
        back(batches - 1);
      }
      all.sent = 0;
      for (const auto& message : inner.messages()) {
        all.sent += message.bytes;
      }
      if (p.clip > 0) {
        all.norm = fsdp.clip_grad_norm(p.clip);
      }
      optimizer.step(0.01);
      fsdp.renew();
    }
    CHECK(fsdp.usage().gradients == 0);
    CHECK(fsdp.usage().parameters == 0);
    all.usage = fsdp.usage();
    const auto whole = fsdp.whole();
    all.weights = weights_of(m);
    return all;
  });
}

/// A chip whose memory the host cannot address: a place is 2^63 further on.
struct card {
  static constexpr al::chip_description description{.name = "card"};
  using falls_back_to = al::chip::host;
  struct memory {
    static constexpr std::size_t alignment = 64;
    static std::byte* turned(const std::byte* p) {
      return reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(p) ^ std::uintptr_t{1}
                                                                                    << 63);
    }
    static std::byte* allocate(std::size_t bytes) { return turned(host::allocate(bytes)); }
    static void free(std::byte* p, std::size_t bytes) noexcept { host::free(turned(p), bytes); }
    static void copy_in(std::byte* to, const void* from, std::size_t n) {
      host::copy_in(turned(to), from, n);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t n) {
      host::copy_out(to, turned(from), n);
    }
    using host = al::chip::host::memory;
  };
  struct queue {
    void wait() {}
  };
};
using card_stack = al::stack<al::on<card>, al::differentiate<al::autograd::tape<>>>;
using narrow = card_stack::tensor<al::bfloat16>;

struct weighted {
  BOOST_HANA_DEFINE_STRUCT(weighted, (narrow, w));
};

}  // namespace

TEST_CASE(
    "parallel/fsdp: 16 bits on a chip, float master weights and their optimizer on the host") {
  constexpr std::int64_t n = 21;
  const auto x_of = [](int rank) {
    std::vector<float> x;
    for (int i = 0; i < n; ++i) {
      x.push_back(static_cast<float>(al::bfloat16(0.37F * static_cast<float>(i - 9 + 5 * rank))));
    }
    return x;
  };
  const auto start = al::to_vector(al::randn<tensor>({n}, 3));
  // sum(w * x) has the gradient x, whatever w is; the mean of two is exact but for one rounding.
  std::vector<float> master;
  for (const float w : start) {
    master.push_back(static_cast<float>(al::bfloat16(w)));
  }
  for (int step = 0; step < steps; ++step) {
    for (std::size_t i = 0; i < master.size(); ++i) {
      master[i] -= 0.001F * ((x_of(0)[i] + x_of(1)[i]) * 0.5F);
    }
  }
  comm::run(2, [&](comm::threads& wires) {
    comm::logged endpoint(wires);
    weighted m;
    const auto narrowed = [](const std::vector<float>& v) {
      return al::from_values<narrow>({n}, std::vector<al::bfloat16>(v.begin(), v.end()));
    };
    m.w = narrowed(start);
    nn::require_grad(m);
    parallel::fsdp<narrow, comm::logged<comm::threads>, comm::ordered, tensor> fsdp(m, endpoint,
                                                                                    {"w"});
    nn::sgd<tensor> optimizer(fsdp.pieces());
    for (int step = 0; step < steps; ++step) {
      endpoint.clear();
      al::backward(fsdp.run(
          0, [&](const narrow& x) { return al::sum(m.w * x); }, narrowed(x_of(wires.rank()))));
      std::size_t sent = 0;
      for (const auto& message : endpoint.messages()) {
        sent += message.bytes;
      }
      // Gathered twice in 2 bytes, reduced in 4: own chunk out twice, the other's once.
      const std::size_t own = wires.rank() == 0 ? 11 : 10;
      CHECK(sent == 2 * 2 * own + 4 * (n - own));
      optimizer.step(0.001);
      fsdp.renew();
    }
    const auto own = al::to_vector(fsdp.pieces()[0]);
    const auto from = master.begin() + static_cast<std::ptrdiff_t>(fsdp.places()[0].first);
    CHECK(own == bits(from, from + static_cast<std::ptrdiff_t>(own.size())));
    const auto whole = fsdp.whole();
    const auto computing = al::to_vector(m.w);
    for (std::size_t i = 0; i < master.size(); ++i) {
      CHECK(static_cast<float>(computing[i]) == static_cast<float>(al::bfloat16(master[i])));
    }
  });
}

TEST_CASE("parallel/fsdp: two and four ranks have the bits of one rank with their micro-batches") {
  using parallel::prefetch;
  for (const int ranks : {1, 2, 3, 4}) {
    CAPTURE(ranks);
    const bits alone = train_replicas(1, ranks);
    for (const prefetch how : {prefetch::none, prefetch::post, prefetch::pre}) {
      for (const bool reshard : {true, false}) {
        const auto all = train_sharded(
            {.ranks = ranks,
             .options = {
                 .prefetch = how, .forward_prefetch = reshard, .reshard_after_forward = reshard}});
        for (const outcome& rank : all) {
          CHECK(rank.weights == alone);
        }
      }
    }
    CHECK(train_sharded({.ranks = ranks, .options = {.gathers = 3}, .hooks = true})[0].weights ==
          alone);
    CHECK(train_sharded({.ranks = ranks, .options = {.gathers = 1}})[0].weights == alone);
    const auto plain = train_sharded({.ranks = ranks}),
               again = train_sharded({.ranks = ranks, .again = true});
    CHECK(again[0].weights == alone);
    CHECK(again[0].sent == plain[0].sent);  // it runs where its unit is whole anyway
  }
  // Whole gradients add up under no_sync.
  CHECK(train_sharded({.ranks = 2, .options = {.micro_batches = 3}})[1].weights ==
        train_replicas(2, 3));
  for (const prefetch how : {prefetch::none, prefetch::post, prefetch::pre}) {
    CHECK(train_sharded(
              {.ranks = 2, .options = {.prefetch = how, .micro_batches = 3}, .late = true})[1]
              .weights == train_replicas(2, 3));
  }
  CHECK(train_sharded({.ranks = 1, .options = {.micro_batches = 3}})[0].weights ==
        train_replicas(1, 3));
  CHECK(train_replicas(1, 2) != train_replicas(1, 3));
}

TEST_CASE("parallel/fsdp: hybrid sharding adds up inside a group, then over the groups") {
  const auto all = train_sharded({.ranks = 4, .replicas = 2});
  // Two replicas which each accumulate what a group's two ranks have.
  const bits expected = train_replicas(2, 2);
  for (const outcome& rank : all) {
    CHECK(rank.weights == expected);
  }
  CHECK(train_sharded({.ranks = 4, .replicas = 4})[3].weights == train_replicas(4, 1));
}

TEST_CASE("parallel/fsdp: bytes sent and held are what the formulas say") {
  using parallel::prefetch;
  const parallel::precision fp32{.parameter = 4, .gradient = 4, .optimizer = 8};
  std::vector<double> sizes;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    sizes.push_back(static_cast<double>((widths[i] + 1) * widths[i + 1]));
    bytes += static_cast<std::size_t>((widths[i] + 1) * widths[i + 1]) * 4;
  }
  for (const int ranks : {2, 4}) {
    std::size_t peak[3]{}, parameters[3]{};
    for (const prefetch how : {prefetch::none, prefetch::post, prefetch::pre}) {
      CAPTURE(static_cast<int>(how));
      const auto predicted = parallel::fsdp_peak(sizes, fp32, how);
      for (const bool reshard : {true, false}) {
        const auto all = train_sharded(
            {.ranks = ranks, .options = {.prefetch = how, .reshard_after_forward = reshard}});
        std::size_t sent = 0;
        for (const outcome& rank : all) {
          sent += rank.sent;
          if (reshard) {
            CHECK(static_cast<double>(rank.usage.peak_parameters) == predicted.parameters);
            CHECK(static_cast<double>(rank.usage.peak) == predicted.together);
          } else {
            CHECK(rank.usage.peak_parameters == bytes);
          }
        }
        // Of all ranks together 3 M (p - 1) where units are gathered twice, else 2 M (p - 1).
        CHECK(sent == (reshard ? 3 : 2) * bytes * static_cast<std::size_t>(ranks - 1));
        if (reshard) {
          peak[static_cast<int>(how)] = all[0].usage.peak;
          parameters[static_cast<int>(how)] = all[0].usage.peak_parameters;
        }
      }
    }
    CHECK(peak[2] > peak[1]);
    CHECK(peak[1] > peak[0]);
    CHECK(parameters[2] > parameters[1]);
    CHECK(parameters[1] == parameters[0]);  // one unit is whole at a time
  }
}

TEST_CASE("parallel/fsdp: the norm is that of all parts, the same on every rank") {
  const auto all = train_sharded({.ranks = 4, .clip = 0.05});
  const bits alone = train_replicas(1, 4, 0.05);
  for (const outcome& rank : all) {
    CHECK(rank.weights == all[0].weights);
    CHECK(rank.norm == all[0].norm);
    CHECK(rank.norm > 0.05);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      // The norm is added up in another order: rounding, through ten steps of AdamW.
      CHECK(rank.weights[i] == doctest::Approx(alone[i]).epsilon(1e-4));
    }
  }
  CHECK(train_sharded({.ranks = 4, .clip = 0.05})[2].weights == all[0].weights);
  CHECK(train_sharded({.ranks = 4})[0].weights != all[0].weights);
}

TEST_CASE("parallel/fsdp: ranks whose units differ are told") {
  const auto with = [](const std::vector<std::string>& second) {
    comm::run(2, [&](comm::threads& endpoint) {
      auto m = make(1);
      const parallel::fsdp fsdp(m, endpoint, endpoint.rank() == 0 ? units() : second);
    });
  };
  CHECK_NOTHROW(with(units()));
  CHECK_THROWS_AS(with({"layers.0", "layers.1", "layers.3", "layers.2"}),
                  parallel::replica_mismatch);
}

TEST_CASE("parallel/fsdp: units that others left before all were gathered are in parts again") {
  std::size_t left = 1;
  const auto body = [&left](comm::threads& t) {
    auto m = make(1);
    parallel::fsdp fsdp(m, t, units());
    if (t.rank() == 1) {
      throw std::runtime_error("gone");
    }
    try {
      const auto whole = fsdp.whole();
    } catch (const comm::peer_failed&) {
      left = fsdp.usage().parameters;
      throw;
    }
  };
  CHECK_THROWS_AS(comm::run(2, body), std::runtime_error);
  CHECK(left == 0);
}

TEST_CASE("parallel/fsdp: what cannot be is told, and a pass that failed may be forgotten") {
  comm::thread_group group(1);
  auto endpoint = group.endpoint(0);
  auto m = make(1);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {"layers.9"}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {"layer"}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {"layers", "layers.1"}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {"layers.0", ""}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {}, {.gathers = 0}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {}, {.gathers = 96}), al::argument_error);
  CHECK_THROWS_AS(parallel::fsdp(m, endpoint, {}, {.micro_batches = 0}), al::argument_error);
  const bits before = weights_of(m);  // it has not been taken to pieces

  parallel::fsdp fsdp(m, endpoint, {"layers.2", "layers.0"});
  CHECK(fsdp.unit("layers.0") == 1);
  CHECK(fsdp.unit("") == 2);  // layers 1 and 3
  CHECK_THROWS_AS(static_cast<void>(fsdp.unit("layers.1")), al::argument_error);
  CHECK_THROWS_AS(static_cast<void>(fsdp.run(3, m.layers[0], al::randn<tensor>({4, 5}, 1))),
                  al::argument_error);
  const std::vector<std::size_t> unit_of = {1, 2, 0, 2};
  const auto run = [&](std::size_t i, const tensor& x) {
    return fsdp.run(unit_of[i], m.layers[i], x);
  };
  {
    const auto whole = fsdp.whole();
    CHECK(weights_of(m) == before);
  }
  {
    const al::no_grad off;
    static_cast<void>(loss_of(0, run));
    CHECK(fsdp.usage().parameters == 0);
  }
  // Layer 3 is left out: its unit does not get all of its gradients.
  try {
    const auto x = al::randn<tensor>({4, 5}, 1);
    al::backward(al::sum(run(2, run(1, run(0, x)))));
    FAIL("accepted");
  } catch (const parallel::unused_parameters& e) {
    CHECK(e.names == std::vector<std::string>{"layers.3.weight", "layers.3.bias"});
    CHECK(std::string(e.what()).find("fsdp: rank 0") != std::string::npos);
    CHECK(std::string(e.what()).find("unused::zero") == std::string::npos);  // that is ddp's
  }
  fsdp.renew();
  {
    const auto quiet = fsdp.no_sync();
    al::backward(al::sum(run(0, al::randn<tensor>({4, 5}, 1))));
  }
  CHECK_THROWS_AS(fsdp.reduce(), parallel::unused_parameters);
  fsdp.renew();
  al::backward(loss_of(0, run));
  bits gradients;
  for (const auto& g : fsdp.pieces()) {
    const auto v = al::to_vector(al::gradient(g));
    gradients.insert(gradients.end(), v.begin(), v.end());
  }
  const auto fresh = make(1);
  al::backward(loss_of(0, [&](std::size_t i, const tensor& x) { return fresh.layers[i](x); }));
  bits expected;
  for (const std::size_t i : {2u, 0u, 1u, 3u}) {
    for (const tensor& p : {fresh.layers[i].weight, fresh.layers[i].bias}) {
      const auto v = al::to_vector(al::gradient(p));
      expected.insert(expected.end(), v.begin(), v.end());
    }
  }
  CHECK(gradients == expected);
}

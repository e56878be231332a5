// SPDX-License-Identifier: Apache-2.0
#include "support/training.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/group.hpp"
#include "ashlar/comm/threads.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/nn/schedule.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/fsdp.hpp"
#include "ashlar/parallel/llama.hpp"
#include "ashlar/parallel/mesh.hpp"
#include "ashlar/parallel/pipeline/execute.hpp"
#include "ashlar/parallel/pipeline/make.hpp"

namespace ashlar::testing {

namespace {

using integers = training_llama::integers;

/// Counting sequences with strides that the model must notice: easy to learn.
std::pair<integers, integers> texts_of(std::int64_t vocab, std::uint64_t seed,
                                       std::uint64_t number) {
  constexpr std::int64_t rows = text_rows;
  constexpr std::int64_t length = text_length;
  std::vector<std::int32_t> in, out;
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto bits = philox_block(seed, number * rows + static_cast<std::uint64_t>(r));
    const auto vocabulary = static_cast<std::uint32_t>(vocab);
    std::uint32_t token = bits[0] % vocabulary;
    const std::uint32_t stride = 1 + bits[1] % 3;
    for (std::int64_t t = 0; t < length; ++t) {
      in.push_back(static_cast<std::int32_t>(token));
      token = (token + stride) % vocabulary;
      out.push_back(static_cast<std::int32_t>(token));
    }
  }
  return {from_values<integers>({rows, length}, in), from_values<integers>({rows * length}, out)};
}

auto loss_of(const training_llama& model, std::uint64_t seed, std::uint64_t number) {
  const auto [in, out] = texts_of(model.config.vocab, seed, number);
  return model.loss(in, out);
}

template <class Algorithm>
training_result train_rank(const llama_config& c, const training_plan& plan,
                           comm::threads& endpoint) {
  const chip::thread_limit limit(plan.threads);
  // Another rank's own start does not count: `ddp` hands out rank 0's.
  auto model = training_llama::make(c, plan.seed + static_cast<std::uint64_t>(endpoint.rank()));
  nn::require_grad(model);
  parallel::ddp ddp(model, endpoint,
                    parallel::ddp_options{.first_bucket_bytes = plan.bucket_bytes,
                                          .bucket_bytes = plan.bucket_bytes,
                                          .micro_batches = plan.micro_batches,
                                          .zero = plan.zero},
                    Algorithm{});
  using optimizer_type = nn::adamw<training_llama::parameter>;
  auto optimizer = plan.zero > 0 ? optimizer_type(ddp.pieces(), {.weight_decay = 0.1}, ddp.rule())
                                 : optimizer_type(model, {.weight_decay = 0.1});
  const nn::warmup_cosine rate{
      .peak = plan.peak, .floor = plan.peak / 10, .warmup = 3, .total = plan.steps};
  std::vector<float> losses;
  for (int step = 0; step < plan.steps; ++step) {
    const auto batch = [&](int b) {
      const int number = (step * plan.ranks + endpoint.rank()) * plan.micro_batches + b;
      const auto loss = loss_of(model, plan.seed, static_cast<std::uint64_t>(number));
      losses.push_back(item(loss));
      backward(loss);
    };
    for (int b = 0; b + 1 < plan.micro_batches; ++b) {
      const auto quiet = ddp.no_sync();
      batch(b);
    }
    batch(plan.micro_batches - 1);
    ddp.finish();
    if (plan.clip) {
      nn::clip_grad_norm(model, 0.5);
    }
    optimizer.step(rate(step));
    if (plan.zero > 0) {
      ddp.gather();
    }
    nn::zero_grad(model);
  }
  std::size_t remembered = 0;
  for (const auto& [name, x] : optimizer.state()) {
    remembered += name.ends_with(".exp_avg") ? static_cast<std::size_t>(x.spec().size) : 0;
  }
  return {std::move(model), std::move(losses), remembered};
}

using parameter = training_llama::parameter;

/// One stage of `stages`: the layers are divided evenly.
parameter through_stage(const training_llama& m, int stage, int stages, const parameter& input,
                        const std::pair<integers, integers>& texts) {
  const auto layers = static_cast<int>(m.model.layers.size());
  auto x = stage == 0 ? m.embed(texts.first) : input;
  for (int i = layers * stage / stages; i < layers * (stage + 1) / stages; ++i) {
    x = m.through_layer(static_cast<std::size_t>(i), x);
  }
  return stage + 1 == stages ? m.loss_behind(x, texts.second) : x;
}

/// The groups of one rank in a mesh.
struct model_groups {
  parallel::mesh places;
  comm::group<comm::any_endpoint> world, tensor, context, stages, data;

  model_groups(comm::any_endpoint& endpoint, const model_parallel_plan& plan)
      : places({{parallel::axis::data, plan.data},
                {parallel::axis::pipeline, plan.pipeline},
                {parallel::axis::sequence, plan.context},
                {parallel::axis::tensor, plan.tensor}}),
        world(endpoint),
        tensor(along(parallel::axis::tensor)),
        context(along(parallel::axis::sequence)),
        stages(along(parallel::axis::pipeline)),
        data(along(parallel::axis::data)) {}

 private:
  comm::group<comm::any_endpoint> along(parallel::axis a) {
    return world.split(places.group(world.rank(), a).front());
  }
};
using parallel_model =
    parallel::parallel_llama<training_llama, comm::group<comm::any_endpoint>, comm::ring>;

parallel_model divided(const llama_config& c, const model_parallel_plan& plan,
                       model_groups& groups) {
  const parallel::parallel_llama_options options{
      .sequence = plan.sequence, .zigzag = plan.zigzag, .sums_in_pass = plan.zero > 0};
  auto* context = plan.context > 1 ? &groups.context : nullptr;
  const auto whole = training_llama::make(c, plan.seed);
  auto model = plan.from_state
                   ? parallel_model(c, nn::state_dict(whole), groups.tensor, options, context)
                   : parallel_model(whole, groups.tensor, options, context);
  nn::require_grad(model.part);
  return model;
}

/// Collectives that a rank of two begins: each is one message in a ring, an all-reduce two.
layer_collectives count(const std::vector<comm::message_record>& messages) {
  layer_collectives found;
  const auto of = [&](comm::collective c) {
    return static_cast<int>(std::ranges::count(messages, comm::tags::of(c, 0),
                                               [](const auto& m) { return m.tag % 32768; }));
  };
  found.all_reduces = of(comm::collective::all_reduce) / 2;
  found.all_gathers = of(comm::collective::all_gather);
  found.reduce_scatters = of(comm::collective::reduce_scatter);
  for (const comm::message_record& m : messages) {
    found.bytes += m.bytes;
  }
  return found;
}

/// Counts what it hands on to the host's memory.
struct counting final : memory::resource {
  std::atomic<std::size_t> held = 0, peak = 0;

  using memory::resource::allocate;
  std::byte* allocate(std::size_t bytes) override {
    held += bytes;
    peak = std::max(peak.load(), held.load());
    return bytes == 0 ? nullptr : chip::host::memory::allocate(bytes);
  }
  void deallocate(std::byte* p, std::size_t bytes) noexcept override {
    held -= bytes;
    chip::host::memory::free(p, bytes);
  }
};

}  // namespace

named_weights named_weights_of(const training_llama& model) {
  named_weights all;
  for (const auto& p : nn::parameter_list(model)) {
    all.emplace_back(p.name, to_vector(p.value));
  }
  return all;
}

named_weights train_model_parallel(const llama_config& c, const model_parallel_plan& plan,
                                   comm::any_endpoint& endpoint) {
  const chip::thread_limit limit(1);
  model_groups groups(endpoint, plan);
  auto model = divided(c, plan, groups);
  using ddp_type =
      parallel::ddp<training_llama::parameter, comm::group<comm::any_endpoint>, comm::ring>;
  std::optional<ddp_type> ddp;
  if (plan.data > 1 && plan.pipeline == 1 && plan.micro_batches == 1) {
    ddp.emplace(
        model.part, groups.data,
        parallel::ddp_options{.first_bucket_bytes = 4096, .bucket_bytes = 4096, .zero = plan.zero});
  }
  using optimizer_type = nn::adamw<training_llama::parameter>;
  auto optimizer = plan.zero > 0 ? optimizer_type(ddp->pieces(), {.weight_decay = 0.1}, ddp->rule())
                                 : optimizer_type(model.part, {.weight_decay = 0.1});
  const nn::warmup_cosine rate{
      .peak = plan.peak, .floor = plan.peak / 10, .warmup = 3, .total = plan.steps};
  const auto schedule = parallel::pipeline::one_f_one_b(plan.pipeline, plan.micro_batches);
  const auto begin = [&](int step, int m) {
    const auto number = static_cast<std::uint64_t>(
        (step * plan.data + groups.data.rank()) * plan.micro_batches + m);
    const auto texts = texts_of(c.vocab, plan.seed, number);
    return model.begin(texts.first, texts.second);
  };
  std::set<std::string> trained;
  for (int step = 0; step < plan.steps; ++step) {
    parallel::pipeline::execute<training_llama::parameter>(
        schedule, groups.stages, begin(step, 0).boundary(),
        [&](int stage, int m, const training_llama::parameter& input) {
          const auto pass = begin(step, m);
          const auto layer = [&](int of) {
            return model.part.model.layers.size() * static_cast<std::size_t>(of) /
                   static_cast<std::size_t>(plan.pipeline);
          };
          const auto x =
              pass.through(stage == 0 ? pass.embed() : input, layer(stage), layer(stage + 1));
          return stage + 1 == plan.pipeline ? pass.loss(x) : x;
        });
    if (ddp) {
      ddp->finish();
    }
    model.finish();
    std::vector<training_llama::parameter> own;
    for (const auto& p : nn::parameter_list(model.part)) {
      if (gradient(p.value)) {
        own.push_back(p.value);
      }
      if (ddp || gradient(p.value)) {
        trained.insert(p.name);
      }
    }
    if (!ddp) {
      parallel::sum_gradients(groups.data, own);
      nn::scale_grad(own, 1.0 / (plan.data * plan.micro_batches));
    }
    if (plan.clip) {
      model.clip_grad_norm(0.5, &groups.stages);
    }
    optimizer.step(rate(step));
    if (plan.zero > 0) {
      ddp->gather();
    }
    nn::zero_grad(model.part);
  }
  auto whole = training_llama::make(c, plan.seed + 1);
  model.gather(whole);
  auto all = named_weights_of(whole);
  std::erase_if(all, [&](const auto& p) { return !trained.contains(p.first); });
  return all;
}

named_weights train_model_parallel(const llama_config& c, const model_parallel_plan& plan) {
  const auto ranks =
      comm::run(plan.tensor * plan.context * plan.pipeline * plan.data, [&](comm::threads& t) {
        comm::any_endpoint endpoint(t);
        return train_model_parallel(c, plan, endpoint);
      });
  std::map<std::string, std::vector<float>> found;
  for (const named_weights& rank : ranks) {
    found.insert(rank.begin(), rank.end());
  }
  named_weights all;
  for (const auto& p : nn::parameter_list(training_llama::make(c, plan.seed))) {
    all.emplace_back(p.name, found.at(p.name));
  }
  return all;
}

layer_collectives collectives_of(const llama_config& c, const model_parallel_plan& plan) {
  const auto step = [&](std::int64_t layers) {
    auto sized = c;
    sized.layers = layers;
    return count(comm::run(2, [&](comm::threads& t) {
                   comm::logged log(t);
                   comm::any_endpoint endpoint(log);
                   model_groups groups(endpoint, plan);
                   auto model = divided(sized, plan, groups);
                   const auto [in, out] = texts_of(c.vocab, plan.seed, 0);
                   log.clear();
                   backward(model.loss(in, out));
                   return log.messages();
                 }).front());
  };
  const layer_collectives with = step(2);
  const layer_collectives without = step(1);
  return {with.all_reduces - without.all_reduces, with.all_gathers - without.all_gathers,
          with.reduce_scatters - without.reduce_scatters, with.bytes - without.bytes};
}

std::vector<training_result> train(const llama_config& c, const training_plan& plan) {
  return comm::run(plan.ranks, [&](comm::threads& endpoint) {
    return plan.ordered ? train_rank<comm::ordered>(c, plan, endpoint)
                        : train_rank<comm::ring>(c, plan, endpoint);
  });
}

std::vector<sharded_result> train_sharded(const llama_config& c, const training_plan& plan,
                                          parallel::prefetch prefetch) {
  return comm::run(plan.ranks, [&](comm::threads& endpoint) {
    const chip::thread_limit limit(plan.threads);
    counting memory;
    const context<chip::host>::use_allocator all(memory);
    sharded_result result;
    auto model = training_llama::make(c, plan.seed + static_cast<std::uint64_t>(endpoint.rank()));
    nn::require_grad(model);
    std::vector<std::string> names = {"model.embed_tokens"};
    for (std::int64_t i = 0; i < c.layers; ++i) {
      names.push_back("model.layers." + std::to_string(i));
    }
    parallel::fsdp fsdp(model, endpoint, names,
                        {.prefetch = prefetch, .micro_batches = plan.micro_batches},
                        comm::ordered{});
    nn::adamw<parameter> optimizer(fsdp.pieces(), {.weight_decay = 0.1}, fsdp.rule());
    const nn::warmup_cosine rate{.peak = 1e-2, .floor = 1e-3, .warmup = 3, .total = plan.steps};
    memory.peak = memory.held.load();
    for (int step = 0; step < plan.steps; ++step) {
      const auto batch = [&](int b) {
        const int number = (step * plan.ranks + endpoint.rank()) * plan.micro_batches + b;
        const auto texts = texts_of(c.vocab, plan.seed, static_cast<std::uint64_t>(number));
        auto x = fsdp.run(
            0, [&](const integers& in) { return model.embed(in); }, texts.first);
        for (std::size_t i = 0; i < model.model.layers.size(); ++i) {
          x = fsdp.run(
              i + 1, [&](const parameter& y) { return model.through_layer(i, y); }, x);
        }
        backward(fsdp.run(
            names.size(), [&](const parameter& y) { return model.loss_behind(y, texts.second); },
            x));
      };
      for (int b = 0; b + 1 < plan.micro_batches; ++b) {
        const auto quiet = fsdp.no_sync();
        batch(b);
      }
      batch(plan.micro_batches - 1);
      optimizer.step(rate(step));
      fsdp.renew();
    }
    result.peak_bytes = memory.peak;
    const auto whole = fsdp.whole();
    result.weights = weights_of(model);
    return result;
  });
}

std::vector<float> train_pipeline(const llama_config& c, const training_plan& plan,
                                  const parallel::pipeline::schedule& schedule) {
  const int stages = parallel::pipeline::validate(schedule).stages;
  using part = std::vector<std::vector<float>>;  // by parameter; empty where another rank trains it
  const auto parts = comm::run(plan.ranks, [&](comm::threads& endpoint) {
    const chip::thread_limit limit(plan.threads);
    auto model = training_llama::make(c, plan.seed);
    nn::require_grad(model);
    nn::adamw optimizer(model, {.weight_decay = 0.1});
    const nn::warmup_cosine rate{
        .peak = plan.peak, .floor = plan.peak / 10, .warmup = 3, .total = plan.steps};
    std::vector<bool> trained;
    for (int step = 0; step < plan.steps; ++step) {
      parallel::pipeline::execute<parameter>(
          schedule, endpoint, {2, 12, c.dim}, [&](int stage, int m, const parameter& input) {
            const auto number = static_cast<std::uint64_t>(step * plan.micro_batches + m);
            return through_stage(model, stage, stages, input, texts_of(c.vocab, plan.seed, number));
          });
      nn::scale_grad(model, 1.0 / plan.micro_batches);
      trained.clear();
      for (const auto& p : nn::parameters(model)) {
        trained.push_back(static_cast<bool>(gradient(p)));
      }
      optimizer.step(rate(step));
      nn::zero_grad(model);
    }
    part mine;
    for (const auto& p : nn::parameters(model)) {
      mine.push_back(trained[mine.size()] ? to_vector(p) : std::vector<float>{});
    }
    return mine;
  });
  std::vector<float> all;
  for (std::size_t i = 0; i < parts[0].size(); ++i) {
    for (const part& rank : parts) {
      all.insert(all.end(), rank[i].begin(), rank[i].end());
    }
  }
  return all;
}

}  // namespace ashlar::testing

// SPDX-License-Identifier: Apache-2.0
#include "train/rank.hpp"

#include <ashlar/chip/host/parallel.hpp>
#include <ashlar/comm/group.hpp>
#include <ashlar/parallel/fsdp.hpp>
#include <ashlar/parallel/pipeline.hpp>
#include <ashlar/parallel/pipeline/execute.hpp>
#include <ashlar/parallel/training_state.hpp>
#include <bit>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace train {

namespace {

namespace parallel = ashlar::parallel;
namespace pipeline = ashlar::parallel::pipeline;
using demo::training_model;
using parallel::axis;
using parameter = training_model::parameter;
using group = al::comm::group<any_endpoint>;
using ddp = parallel::ddp<parameter, group, al::comm::ordered>;
using fsdp = parallel::fsdp<parameter, group, al::comm::ordered>;

/// Which of `stages` has a parameter: layers are divided evenly.
int stage_of(const std::string& name, std::int64_t layers, int stages) {
  constexpr std::string_view before = "model.layers.";
  if (name.starts_with(before)) {
    return static_cast<int>((std::stoll(name.substr(before.size())) * stages + stages - 1) /
                            layers);
  }
  return name.starts_with("model.embed_tokens") ? 0 : stages - 1;
}

struct trainer {
  const options& o;
  const demo::prepared& data;
  parallel::mesh layout;
  int stage, stages, replica, replicas;
  group world, replica_group, stage_group;
  training_model model;
  std::optional<ddp> whole_layers;
  std::optional<fsdp> sharded;

  trainer(any_endpoint& wires, const options& opts, const demo::prepared& d)
      : o(opts),
        data(d),
        layout(layout_of(opts)),
        stage(layout.coordinate(wires.rank(), axis::pipeline)),
        stages(layout.size(axis::pipeline)),
        replica(layout.coordinate(wires.rank(), axis::data)),
        replicas(layout.size(axis::data)),
        world(wires),
        replica_group(world.split(stage)),
        stage_group(world.split(replica)) {
    auto config = data.config;
    config.tied_embeddings = false;  // what two stages or units had would belong to neither
    model = training_model::make(config, o.model.seed);
    al::nn::require_grad(model);
  }

  /// This stage's parameters with their names.
  [[nodiscard]] std::vector<al::nn::named<parameter>> own_parameters() const {
    auto all = al::nn::parameter_list(model);
    std::erase_if(
        all, [&](const auto& p) { return stage_of(p.name, model.config.layers, stages) != stage; });
    return all;
  }

  /// Divides the parameters; what an optimizer is to step.
  parallel::held_parameters<parameter> divide() {
    if (o.zero == 3) {
      std::vector<std::string> units = {"model.embed_tokens"};
      for (std::int64_t i = 0; i < model.config.layers; ++i) {
        units.push_back("model.layers." + std::to_string(i));
      }
      sharded.emplace(model, replica_group, units,
                      parallel::fsdp_options{.micro_batches = o.micro_batches});
      return parallel::held_parameters<parameter>(*sharded);
    }
    const auto own = own_parameters();
    std::vector<parameter> values;
    for (const auto& p : own) {
      values.push_back(p.value);
    }
    whole_layers.emplace(values, replica_group,
                         parallel::ddp_options{.micro_batches = o.micro_batches, .zero = o.zero});
    if (o.zero > 0) {
      parallel::held_parameters<parameter> held(*whole_layers);
      for (auto& place : held.places) {  // named by number
        place.name = own[static_cast<std::size_t>(std::stoll(place.name))].name;
      }
      return held;
    }
    parallel::held_parameters<parameter> held(values);
    for (std::size_t i = 0; i < own.size(); ++i) {
      held.places[i].name = own[i].name;
    }
    return held;
  }

  /// Micro-batch `m` of this replica's in a step.
  [[nodiscard]] demo::batch batch_of(int step, int m) const {
    const int rows = o.model.batch / (replicas * o.micro_batches);
    const auto number = (static_cast<std::uint64_t>(step) * static_cast<std::uint64_t>(replicas) +
                         static_cast<std::uint64_t>(replica)) *
                            static_cast<std::uint64_t>(o.micro_batches) +
                        static_cast<std::uint64_t>(m);
    return demo::draw(data.training, o.model.seed, o.model.context,
                      number * static_cast<std::uint64_t>(rows), rows);
  }

  /// Gradients of a step's micro-batches. Returns: the sum of their losses, where it is known.
  double gradients(int step) {
    double sum = 0;
    if (stages > 1) {
      const auto quiet = whole_layers->no_sync();
      const int rows = o.model.batch / (replicas * o.micro_batches);
      const auto losses = pipeline::execute<parameter>(
          pipeline::one_f_one_b(stages, o.micro_batches), stage_group,
          {rows, o.model.context, model.config.dim},
          [&](int at, int m, const parameter& input) { return through_stage(at, step, m, input); });
      for (const parameter& loss : losses) {
        sum += static_cast<double>(al::item(loss));
      }
      return sum;
    }
    for (int m = 0; m < o.micro_batches; ++m) {
      const parameter loss = sharded ? through_units(step, m) : through_stage(0, step, m, {});
      sum += static_cast<double>(al::item(loss));
      const bool more = m + 1 < o.micro_batches;
      if (sharded && more) {
        const auto quiet = sharded->no_sync();
        al::backward(loss);
      } else if (more) {
        const auto quiet = whole_layers->no_sync();
        al::backward(loss);
      } else {
        al::backward(loss);
      }
    }
    return sum;
  }
  parameter through_stage(int at, int step, int m, const parameter& input) const {
    const demo::batch b = batch_of(step, m);
    parameter x = at == 0 ? model.embed(b.inputs) : input;
    for (std::size_t i = 0; i < model.model.layers.size(); ++i) {
      if (stage_of("model.layers." + std::to_string(i), model.config.layers, stages) == at) {
        x = model.through_layer(i, x);
      }
    }
    return at + 1 == stages ? model.loss_behind(x, b.targets) : x;
  }
  parameter through_units(int step, int m) {
    const demo::batch b = batch_of(step, m);
    parameter x = sharded->run(0, [&] { return model.embed(b.inputs); });
    for (std::size_t i = 0; i < model.model.layers.size(); ++i) {
      x = sharded->run(
          i + 1, [&](const parameter& y) { return model.through_layer(i, y); }, x);
    }
    return sharded->run(
        sharded->unit(""), [&](const parameter& y) { return model.loss_behind(y, b.targets); }, x);
  }

  /// The mean of a step's losses, on every rank.
  double mean_loss(double sum) {
    al::comm::broadcast(stage_group, std::span(&sum, 1), stages - 1);
    al::comm::all_reduce<al::comm::ordered>(replica_group, std::span(&sum, 1));
    return sum / (replicas * o.micro_batches);
  }

  /// Gives every rank every stage's parameters; judges them. Units are whole already.
  void judge(outcome& result) {
    const al::no_grad off;
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const auto& p : al::nn::parameter_list(model)) {
      auto values = al::to_vector(p.value);
      if (stages > 1) {
        al::comm::broadcast(stage_group, std::span(values),
                            stage_of(p.name, model.config.layers, stages));
        parameter to = p.value;
        al::copy.in_place(to, al::from_values<parameter>(al::shape(to.shape()), values));
      }
      for (const float x : values) {
        hash = (hash ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3u;
      }
    }
    result.fingerprint = hash;
    result.held_out =
        world.rank() == 0 ? demo::held_out_loss(model, data.held_out, o.model.context) : 0;
  }
};

}  // namespace

al::parallel::mesh layout_of(const options& o) {
  const auto m = parallel::mesh::parse(o.mesh);
  const auto refuse = [](const std::string& why) { throw std::runtime_error(why); };
  for (const axis a : {axis::tensor, axis::sequence, axis::expert}) {
    if (m.size(a) > 1) {
      refuse("--mesh: " + std::string(parallel::name_of(a)) +
             " is not trained by this program yet; divide by data and pipeline");
    }
  }
  const int stages = m.size(axis::pipeline);
  if (stages > 1 && o.zero > 1) {
    refuse("--zero " + std::to_string(o.zero) +
           ": a pipeline adds up whole gradients, which ZeRO-2 and 3 do not keep; use --zero 1");
  }
  if (stages > o.model.layers) {
    refuse("--mesh: " + std::to_string(stages) + " stages for --layers " +
           std::to_string(o.model.layers) + "; there must be a layer for each");
  }
  const int parts = m.size(axis::data) * o.micro_batches;
  if (o.model.batch % parts != 0) {
    refuse("--batch " + std::to_string(o.model.batch) + " must be a multiple of " +
           std::to_string(parts) + ", the micro-batches of all replicas");
  }
  return m;
}

outcome run_rank(any_endpoint& wires, const options& o, const demo::prepared& data) {
  const demo::training_stack::session session;
  const al::chip::thread_limit one(1);  // the ranks are the threads
  trainer t(wires, o, data);
  const auto held = t.divide();
  al::nn::adamw<parameter> optimizer(
      held.pieces, {.weight_decay = o.model.weight_decay},
      parallel::rule_of_pieces(held.places, al::nn::decay_matrices{}));
  const al::nn::warmup_cosine rate{.peak = o.model.learning_rate,
                                   .floor = o.model.learning_rate / 10,
                                   .warmup = std::max(1, o.model.steps / 20),
                                   .total = o.model.steps};
  int step = 0;
  if (!o.resume.empty()) {
    const auto saved = parallel::checkpoint::open(o.resume);
    step = std::stoi(saved.metadata().at("step"));
    parallel::load_training(saved, held, optimizer);
    if (t.whole_layers && o.zero > 0) {
      t.whole_layers->gather();
    }
  }
  outcome result;
  const int first = step;
  const int last = o.stop > 0 ? std::min(o.stop, o.model.steps) : o.model.steps;
  for (; step < last; ++step) {
    const double sum = t.gradients(step);
    if (t.stages > 1) {
      t.whole_layers->reduce();
    }
    optimizer.step(rate(step));
    if (t.sharded) {
      t.sharded->renew();
    } else {
      if (o.zero > 0) {
        t.whole_layers->gather();
      }
      al::nn::zero_grad(t.model);
    }
    result.last_loss = t.mean_loss(sum);
    if (step == first) {
      result.first_loss = result.last_loss;
    }
    if (wires.rank() == 0) {
      std::fprintf(stderr, "\rstep %d of %d, loss %.3f", step + 1, o.model.steps, result.last_loss);
    }
  }
  if (wires.rank() == 0) {
    std::fputc('\n', stderr);
  }
  if (!o.save.empty()) {
    const parallel::state_metadata note = {{"step", std::to_string(step)}};
    if (o.zero == 0 && t.replica > 0) {  // its replica saves the same
      parallel::save_part(o.save, wires.rank(), wires.size(), {}, note);
    } else {
      parallel::save_training(o.save, wires.rank(), wires.size(), held, optimizer, note);
    }
  }
  std::optional<fsdp::whole_scope> whole;
  if (t.sharded) {
    whole.emplace(*t.sharded);
  }
  t.judge(result);
  return result;
}

}  // namespace train

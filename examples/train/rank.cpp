// SPDX-License-Identifier: Apache-2.0
#include "train/rank.hpp"

#include <algorithm>
#include <ashlar/chip/host/parallel.hpp>
#include <ashlar/comm/group.hpp>
#include <ashlar/parallel/fsdp.hpp>
#include <ashlar/parallel/llama.hpp>
#include <ashlar/parallel/pipeline.hpp>
#include <ashlar/parallel/pipeline/execute.hpp>
#include <ashlar/parallel/training_state.hpp>
#include <bit>
#include <charconv>
#include <cstdio>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace train {

namespace {

namespace parallel = ashlar::parallel;
namespace pipeline = ashlar::parallel::pipeline;
using al::comm::any_endpoint;
using demo::training_model;
using parallel::axis;
using parameter = training_model::parameter;
using group = al::comm::group<any_endpoint>;
using ddp = parallel::ddp<parameter, group, al::comm::ordered>;
using fsdp = parallel::fsdp<parameter, group, al::comm::ordered>;
using divided = parallel::parallel_llama<training_model, group, al::comm::ordered>;

/// Which of `stages` has a parameter: layers are divided evenly.
int stage_of(const std::string& name, std::int64_t layers, int stages) {
  constexpr std::string_view before = "model.layers.";
  if (name.starts_with(before)) {
    return static_cast<int>((std::stoll(name.substr(before.size())) * stages + stages - 1) /
                            layers);
  }
  return name.starts_with("model.embed_tokens") ? 0 : stages - 1;
}

/// A group of ranks along a dimension of the mesh.
group along(group& world, const parallel::mesh& layout, axis a) {
  return world.split(layout.group(world.rank(), a).front());
}

struct trainer {
  const options& o;
  const demo::prepared& data;
  parallel::mesh layout;
  int stage, stages, replica, replicas;
  group world, replica_group, stage_group, tensor_group, context_group;
  al::models::llama_config config;
  std::map<std::string, al::shape> shapes;  ///< of whole parameters
  training_model undivided;
  std::optional<divided> parts;  ///< of matrices or tokens
  std::optional<ddp> whole_layers;
  std::optional<fsdp> sharded;
  note_taker notes;
  std::map<std::string, double> forward_seconds;  ///< of units, on the notes' chip

  trainer(any_endpoint& wires, const options& opts, const demo::prepared& d, note_taker taker)
      : o(opts),
        data(d),
        layout(layout_of(opts)),
        stage(layout.coordinate(wires.rank(), axis::pipeline)),
        stages(layout.size(axis::pipeline)),
        replica(layout.coordinate(wires.rank(), axis::data)),
        replicas(layout.size(axis::data)),
        world(wires),
        replica_group(along(world, layout, axis::data)),
        stage_group(along(world, layout, axis::pipeline)),
        tensor_group(along(world, layout, axis::tensor)),
        context_group(along(world, layout, axis::sequence)),
        config(d.config),
        notes(taker) {
    config.tied_embeddings = false;  // what two stages or units had would belong to neither
    undivided = training_model::make(config, o.model.seed);
    for (const auto& p : al::nn::parameter_list(undivided)) {
      shapes.emplace(p.name, al::shape(p.value.shape()));
    }
    if (tensor_group.size() * context_group.size() > 1) {
      parts.emplace(undivided, tensor_group, parallel::parallel_llama_options{},
                    context_group.size() > 1 ? &context_group : nullptr);
      undivided = {};
    }
    al::nn::named_parameters(model(), [&](const std::string& name, auto& x) {
      if (stage_of(name, config.layers, stages) != stage) {
        x = {};  // another stage's
      }
    });
    al::nn::require_grad(model());
    if (notes.record != nullptr) {
      estimate();
    }
  }

  /// How long units take, by operations or by bytes, whichever takes longer.
  void estimate() {
    const auto m = parallel::transformer::llama(config, o.model.context);
    const double parts_of = tensor_group.size();
    const double width = static_cast<double>(m.width);
    const double table = static_cast<double>(m.vocabulary) * width;
    const double tokens = static_cast<double>(o.model.batch) / (replicas * o.micro_batches) *
                          o.model.context / context_group.size();
    const auto takes = [&](double flops, double elements) {
      return std::max(flops / notes.chip.flops, 4 * elements / notes.chip.memory_bandwidth) /
             parts_of;
    };
    forward_seconds["model.embed_tokens"] = takes(0, 2 * tokens * width);
    const double scores = 4.0 * o.model.context * static_cast<double>(m.query_width());
    const double matrices = static_cast<double>(m.layer_matrices());
    for (std::size_t i = 0; i < first_layer(stages); ++i) {
      forward_seconds[layer_name(i)] = takes(tokens * (2 * matrices + scores), matrices);
    }
    forward_seconds[""] = takes(2 * tokens * table, table);
  }
  /// From here on this rank computes something.
  void computes(const char* what, const std::string& unit, double times) {
    if (notes.record != nullptr) {
      notes.record->computes(what + (unit.empty() ? "the loss" : unit),
                             times * forward_seconds.at(unit));
    }
    if (notes.timed != nullptr) {
      notes.timed->computes(what + (unit.empty() ? "the loss" : unit));
    }
  }

  /// What this rank has of the model.
  training_model& model() { return parts ? parts->part : undivided; }

  /// Where this rank's parts of tensors lie in the whole ones.
  [[nodiscard]] parallel::box_rule boxes() const {
    return [this](parallel::region& r) {
      r.whole = shapes.at(r.name);
      r.start = parallel::start_of(parallel::splits_of(config, tensor_group.size()), r.name,
                                   r.whole, tensor_group.size(), tensor_group.rank());
    };
  }

  [[nodiscard]] std::size_t first_layer(int of) const {
    return static_cast<std::size_t>(config.layers * of / stages);
  }
  [[nodiscard]] static std::string layer_name(std::size_t i) {
    return "model.layers." + std::to_string(i);
  }

  /// Divides the parameters; what an optimizer is to step.
  parallel::held_parameters<parameter> divide() {
    if (o.zero == 3) {
      std::vector<std::string> units;
      if (stage == 0) {
        units.emplace_back("model.embed_tokens");
      }
      for (std::size_t i = first_layer(stage); i < first_layer(stage + 1); ++i) {
        units.push_back(layer_name(i));
      }
      sharded.emplace(model(), replica_group, units,
                      parallel::fsdp_options{.micro_batches = o.micro_batches});
      return parallel::held_parameters<parameter>(*sharded);
    }
    const auto own = al::nn::parameter_list(model());
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

  /// Gradients of a step's micro-batches, summed over all ranks that are to have them. Returns: the
  /// sum of their losses, where it is known.
  double gradients(int step) {
    double sum = 0;
    // What several ranks have of one parameter is summed when all passes are over, in whole
    // gradients, and nobody knows which pass of a pipeline is the last.
    const bool copies =
        context_group.size() > 1 || tensor_group.size() > static_cast<int>(config.kv_heads);
    if (sharded && stages == 1 && !copies) {
      for (int m = 0; m < o.micro_batches; ++m) {
        const parameter loss = through_stage(0, step, m, {});
        sum += static_cast<double>(al::item(loss));
        if (m + 1 < o.micro_batches) {
          const auto quiet = sharded->no_sync();
          al::backward(loss);
        } else {
          al::backward(loss);
        }
      }
      return sum;
    }
    {
      const auto quiet = sharded ? sharded->no_sync() : whole_layers->no_sync();
      const auto losses = pipeline::execute<parameter>(
          pipeline::one_f_one_b(stages, o.micro_batches), stage_group, boundary(step),
          [&](int at, int m, const parameter& input) { return through_stage(at, step, m, input); });
      for (const parameter& loss : losses) {
        sum += static_cast<double>(al::item(loss));
      }
    }
    if (parts) {
      parts->finish();
    }
    sharded ? sharded->reduce() : whole_layers->reduce();
    return sum;
  }
  /// What goes from stage to stage.
  al::shape boundary(int step) {
    const demo::batch b = batch_of(step, 0);
    return parts ? parts->begin(b.inputs, b.targets).boundary()
                 : al::shape{b.inputs.extent(0), b.inputs.extent(1), config.dim};
  }
  /// Runs a part of the model, as a unit where parameters are in parts.
  template <class F, class... X>
  parameter run(const std::string& unit, const F& f, const X&... x) {
    const auto noted = [&](const X&... y) {
      computes("forward ", unit, 1);
      return f(y...);
    };
    const parameter y = sharded ? sharded->run(sharded->unit(unit), noted, x...) : noted(x...);
    if ((notes.record != nullptr || notes.timed != nullptr) && al::requires_grad(y)) {
      // Behind the unit's own hook, which waits for its parameters.
      al::register_hook(y, [this, unit](const parameter&) { computes("backward ", unit, 2); });
    }
    return y;
  }
  parameter through_stage(int at, int step, int m, const parameter& input) {
    const demo::batch b = batch_of(step, m);
    std::optional<divided::pass> pass;
    if (parts) {
      pass = parts->begin(b.inputs, b.targets);
    }
    parameter x = input;
    if (at == 0) {
      x = run("model.embed_tokens",
              [&] { return pass ? pass->embed() : undivided.embed(b.inputs); });
    }
    for (std::size_t i = first_layer(at); i < first_layer(at + 1); ++i) {
      x = run(
          layer_name(i),
          [&](const parameter& y) {
            return pass ? pass->through(y, i, i + 1) : undivided.through_layer(i, y);
          },
          x);
    }
    if (at + 1 < stages) {
      return x;
    }
    return run(
        "",
        [&](const parameter& y) {
          return pass ? pass->loss(y) : undivided.loss_behind(y, b.targets);
        },
        x);
  }

  /// The mean of a step's losses, on every rank.
  double mean_loss(double sum) {
    al::comm::broadcast(stage_group, std::span(&sum, 1), stages - 1);
    al::comm::all_reduce<al::comm::ordered>(replica_group, std::span(&sum, 1));
    return sum / (replicas * o.micro_batches);
  }

  /// Gives every rank every stage's parameters and makes them whole; judges them. Units are whole
  /// already.
  void judge(outcome& result) {
    const al::no_grad off;
    const training_model all = training_model::make(
        parts ? parallel::part_of(config, tensor_group.size(), tensor_group.rank()) : config, 0);
    const auto own = al::nn::state_dict(model());
    for (const auto& p : al::nn::parameter_list(all)) {
      const auto at = own.find(p.name);
      auto values = al::to_vector(at == own.end() ? p.value : parameter(at->second));
      al::comm::broadcast(stage_group, std::span(values), stage_of(p.name, config.layers, stages));
      parameter to = p.value;
      al::copy.in_place(to, al::from_values<parameter>(al::shape(to.shape()), values));
    }
    model() = all;
    if (parts) {
      undivided = training_model::make(config, o.model.seed);
      parts->gather(undivided);
    }
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const auto& p : al::nn::parameter_list(undivided)) {
      for (const float x : al::to_vector(p.value)) {
        hash = (hash ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001b3u;
      }
    }
    result.fingerprint = hash;
    result.held_out =
        world.rank() == 0 ? demo::held_out_loss(undivided, data.held_out, o.model.context) : 0;
  }
};

}  // namespace

al::parallel::mesh layout_of(const options& o) {
  const auto m = parallel::mesh::parse(o.mesh);
  const auto refuse = [](const std::string& why) { throw std::runtime_error(why); };
  if (m.size(axis::expert) > 1) {
    refuse("--mesh: the model has no experts to divide; leave expert out");
  }
  const int stages = m.size(axis::pipeline);
  if (stages > o.model.layers) {
    refuse("--mesh: " + std::to_string(stages) + " stages for --layers " +
           std::to_string(o.model.layers) + "; there must be a layer for each");
  }
  const std::int64_t parts = std::int64_t{m.size(axis::data)} * o.micro_batches;
  if (o.model.batch % parts != 0) {
    refuse("--batch " + std::to_string(o.model.batch) + " must be a multiple of " +
           std::to_string(parts) + ", the micro-batches of all replicas");
  }
  return m;
}

namespace {

/// The step at which a checkpoint goes on, before `last`.
int step_of(const parallel::checkpoint& saved, const std::string& folder, int last) {
  const auto found = saved.metadata().find("step");
  const std::string text = found == saved.metadata().end() ? "" : found->second;
  int step = -1;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), step);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || step < 0) {
    throw std::runtime_error("--resume: '" + folder + "' does not say at which step it was saved");
  }
  if (step >= last) {
    throw std::runtime_error("--resume: '" + folder + "' is at step " + text +
                             "; nothing is left to do before step " + std::to_string(last));
  }
  return step;
}

}  // namespace

outcome run_rank(any_endpoint& wires, const options& o, const demo::prepared& data,
                 note_taker notes) {
  const demo::training_stack::session session;
  const al::chip::thread_limit one(1);  // the ranks are the threads
  if (!o.save.empty()) {
    parallel::expect_room(o.save, wires.rank(), wires.size());
  }
  trainer t(wires, o, data, notes);
  const auto held = t.divide();
  al::nn::adamw<parameter> optimizer(
      held.pieces, {.weight_decay = o.model.weight_decay},
      parallel::rule_of_pieces(held.places, al::nn::decay_matrices{}));
  const al::nn::warmup_cosine rate{.peak = o.model.learning_rate,
                                   .floor = o.model.learning_rate / 10,
                                   .warmup = std::max(1, o.model.steps / 20),
                                   .total = o.model.steps};
  const int last = o.stop > 0 ? std::min(o.stop, o.model.steps) : o.model.steps;
  int step = 0;
  if (!o.resume.empty()) {
    const auto saved = parallel::checkpoint::open(o.resume);
    step = step_of(saved, o.resume, last);
    parallel::load_training(saved, held, optimizer, t.boxes());
    if (t.whole_layers && o.zero > 0) {
      t.whole_layers->gather();
    }
  }
  outcome result;
  const int first = step;
  double held_elements = 0;
  for (const auto& piece : held.pieces) {
    held_elements += static_cast<double>(piece.size());
  }
  const auto note_step = [&] {
    if (notes.record != nullptr) {
      notes.record->mark();
    }
    if (notes.timed != nullptr) {
      notes.timed->computes("");
      result.marks.push_back(notes.timed->now());
    }
  };
  note_step();
  for (; step < last; ++step) {
    const double sum = t.gradients(step);
    if (notes.record != nullptr) {  // reads and writes what it keeps and the parameters
      notes.record->computes("optimizer", 7 * 4 * held_elements / notes.chip.memory_bandwidth);
    }
    if (notes.timed != nullptr) {
      notes.timed->computes("optimizer");
    }
    optimizer.step(rate(step));
    if (t.sharded) {
      t.sharded->renew();
    } else {
      if (o.zero > 0) {
        t.whole_layers->gather();
      }
      al::nn::zero_grad(t.model());
    }
    result.last_loss = t.mean_loss(sum);
    note_step();
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
      parallel::save_training(o.save, wires.rank(), wires.size(), held, optimizer, note, t.boxes());
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

// SPDX-License-Identifier: Apache-2.0
// Trains the demo's model on many ranks, divided as a mesh says.
#include <CLI/CLI.hpp>
#include <ashlar/comm/threads.hpp>
#include <ashlar/comm/traced.hpp>
#include <ashlar/io/file.hpp>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "train/rank.hpp"
#include "train/simulated.hpp"
#include "train/timeline.hpp"
#ifdef ASHLAR_TRAIN_MPI
#include <ashlar/comm/mpi.hpp>
#endif

namespace {

namespace comm = ashlar::comm;
using comm::any_endpoint;

void report(const train::outcome& r) {
  std::printf("loss %.4f, then %.4f; held-out loss %.4f; parameters %016llx\n", r.first_loss,
              r.last_loss, r.held_out, static_cast<unsigned long long>(r.fingerprint));
}

/// One rank over a transport that is there; with a file, its last step's timeline goes there.
template <class Endpoint>
train::outcome run_here(Endpoint& endpoint, const train::options& o, const demo::prepared& data,
                        const std::string& file, comm::run_record::clock::time_point start) {
  if (file.empty()) {
    any_endpoint wires(endpoint);
    return train::run_rank(wires, o, data);
  }
  comm::run_record record(endpoint.rank(), start);
  comm::traced<Endpoint> noted(endpoint, record);
  any_endpoint wires(noted);
  auto result = train::run_rank(wires, o, data, {.timed = &record});
  const auto all = comm::gather_timelines(endpoint, record.timeline());
  if (endpoint.rank() == 0) {
    train::report_steps("here", all, result.marks, endpoint.size(), file);
  }
  return result;
}

int run(const train::options& o, const train::network_options& network) {
  const auto layout = train::layout_of(o);
  if (!network.timeline.empty()) {  // what cannot be written is told before anything runs
    const ashlar::io::file_writer nothing(network.timeline);
  }
  if (o.transport == "threads") {
    const auto data = demo::prepare(o.model);
    const auto start = comm::run_record::clock::now();
    const auto all = comm::run(layout.size(), [&](comm::threads& endpoint) {
      return run_here(endpoint, o, data, network.timeline, start);
    });
    report(all.front());
    return 0;
  }
  if (o.transport == "simulated") {
    report(train::run_simulated(o, network));
    return 0;
  }
#ifdef ASHLAR_TRAIN_MPI
  if (o.transport == "mpi") {
    const ashlar::comm::mpi_session session;
    ashlar::comm::mpi endpoint;
    if (endpoint.size() != layout.size()) {
      throw std::runtime_error("--mesh " + o.mesh + " wants " + std::to_string(layout.size()) +
                               " ranks, MPI has " + std::to_string(endpoint.size()) +
                               "; start it by mpirun -n " + std::to_string(layout.size()));
    }
    const auto data = demo::prepare(o.model);
    comm::barrier(endpoint);  // processes have a clock each: it begins where all are here
    const auto result =
        run_here(endpoint, o, data, network.timeline, comm::run_record::clock::now());
    if (endpoint.rank() == 0) {
      report(result);
    }
    return 0;
  }
#endif
  throw std::runtime_error("--transport mpi: this program was built without MPI");
}

}  // namespace

int main(int argc, char** argv) {
  train::options o;
  train::network_options network;
  o.model.kv_heads = 2;
  o.model.steps = 40;
  CLI::App app{
      "Trains a small Llama-architecture language model on real text, on many ranks. Stages, "
      "parts\n"
      "and transports change no bit of the result on stdout; divided matrices and tokens round.",
      "ashlar train"};
  app.add_option("--mesh", o.mesh,
                 "sizes of the dimensions: data=2,tensor=2,pipeline=2; also sequence");
  app.add_option("--zero", o.zero,
                 "what replicas keep in parts: 0 nothing, 1 the optimizer's "
                 "state, 2 gradients too, 3 parameters too")
      ->check(CLI::Range(0, 3));
  app.add_option("--transport", o.transport,
                 "threads; mpi under mpirun; simulated: threads whose steps are timed on a network")
      ->check(CLI::IsMember({"threads", "mpi", "simulated"}));
  app.add_option("--network", network.shape,
                 "simulated: dimensions, the first one fastest, of ring, line, full, switch, "
                 "fat-tree: full=4,ring=2");
  app.add_option("--latency", network.latency, "simulated: [s] per link, of each dimension or all")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  app.add_option("--bandwidth", network.bandwidth, "simulated: [bytes/s] of a link, likewise")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--overhead", network.overhead, "simulated: [s] per message")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--packet", network.packet_bytes,
                 "simulated: [bytes] that nodes pass on at once; 0: they store whole messages")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--compute", network.compute,
                 "simulated: npu, by the accelerator's description; or measured")
      ->check(CLI::IsMember({"npu", "measured"}));
  app.add_option("--flops", network.flops, "simulated: in place of the accelerator's [1/s]")
      ->check(CLI::PositiveNumber);
  app.add_option("--memory-bandwidth", network.memory_bandwidth, "simulated: likewise [bytes/s]")
      ->check(CLI::PositiveNumber);
  app.add_option("--timeline", network.timeline,
                 "file for the last step, a picture (.svg, .html) or a Chrome trace");
  app.add_option("--micro-batches", o.micro_batches, "per step and replica")
      ->check(CLI::Range(1, 1024));
  app.add_option("--save", o.save, "folder for a checkpoint at the end");
  app.add_option("--resume", o.resume, "folder of a checkpoint, of any layout, to go on from");
  app.add_option("--text", o.model.text, "a text file (default: this library's own text)");
  app.add_option("--steps", o.model.steps, "up to this step")->check(CLI::Range(1, 1000000));
  app.add_option("--stop", o.stop, "leave before this step of --steps; 0: go to the end")
      ->check(CLI::Range(0, 1000000));
  app.add_option("--batch", o.model.batch, "sequences per step, over all ranks")
      ->check(CLI::Range(1, 65536));
  app.add_option("--context", o.model.context, "tokens of a sequence")->check(CLI::Range(2, 4096));
  app.add_option("--dim", o.model.dim, "width; a multiple of 8")->check(CLI::Range(8, 4096));
  app.add_option("--layers", o.model.layers)->check(CLI::Range(1, 128));
  app.add_option("--vocabulary", o.model.vocabulary)->check(CLI::Range(258, 65536));
  app.add_option("--learning-rate", o.model.learning_rate)->check(CLI::PositiveNumber);
  app.add_option("--seed", o.model.seed);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  }
  try {
    for (const CLI::Option* given : app.get_options()) {
      if (o.transport != "simulated" && given->count() > 0 &&
          given->get_description().starts_with("simulated:")) {
        throw std::runtime_error(given->get_name() + " is for --transport simulated");
      }
    }
    if (o.model.dim % 8 != 0) {
      throw std::runtime_error("--dim " + std::to_string(o.model.dim) +
                               " must be a multiple of 8: four heads of an even size");
    }
    return run(o, network);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "ashlar train: %s\n", e.what());
    return 1;
  }
}

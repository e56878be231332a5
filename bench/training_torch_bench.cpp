// SPDX-License-Identifier: Apache-2.0
#if defined(ASHLAR_BENCH_DEBUG_BUILD) || !defined(NDEBUG)
#error "ashlar: figures of a Debug build mean nothing; use the preset `bench`"
#endif
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <torch/optim/adamw.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/models/gpt.hpp"
#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/stack.hpp"

// One step of training: forward pass, loss, backward pass, AdamW. Each implementation runs in a
// process of its own, so that its peak memory is its own; before anything is timed the losses of
// its first three steps must be the other's. Threads are OMP_NUM_THREADS, for both.
namespace {

namespace al = ashlar;
namespace nn = ashlar::nn;

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using floats = stack::tensor<float>;
using integers = stack::tensor<std::int32_t>;
using weights = std::map<std::string, at::Tensor>;

constexpr double learning_rate = 1e-3;
constexpr double decay = 0.01;

template <class X>
at::Tensor copied(const X& x) {
  using T = typename X::value_type;
  const at::Tensor y = at::empty(at::IntArrayRef(x.shape().data(), x.shape().size()),
                                 c10::CppTypeToScalarType<T>::value);
  std::memcpy(y.data_ptr(), x.data(), y.nbytes());
  return y;
}

/// `n` class numbers below `below`.
integers classes(const al::shape& s, std::int32_t below, std::int64_t factor) {
  const auto made = al::empty<integers>(s);
  for (std::int64_t i = 0; i < made.size(); ++i) {
    made.data()[i] = static_cast<std::int32_t>(i * factor % below);
  }
  return made;
}

// ---- models -------------------------------------------------------------------------------------

template <class Stack>
struct two_layers {
  using layer = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(two_layers, (layer, first), (layer, second));

  auto operator()(const auto& x) const { return second(al::relu(first(x))); }
};

struct mlp {
  static constexpr auto name = "mlp_step/f32/128x256-1024-256";
  using module = two_layers<stack>;

  static module make() {
    module m{module::layer::make(256, 1024), module::layer::make(1024, 256)};
    nn::initialize(m, 1, nn::init::normal(0.0, 0.05));
    return m;
  }
  static floats inputs() { return al::randn<floats>({128, 256}, 2); }
  static integers targets() { return classes({128}, 256, 89); }

  static at::Tensor theirs(const weights& w, const at::Tensor& x) {
    const at::Tensor hidden = at::relu(at::linear(x, w.at("first.weight"), w.at("first.bias")));
    return at::linear(hidden, w.at("second.weight"), w.at("second.bias"));
  }
};

struct gpt {
  static constexpr auto name = "gpt_step/f32/B:4/T:64/layers:12/C:768/V:50257";
  using module = al::models::gpt<stack>;
  static constexpr al::models::gpt_config config{
      .dim = 768, .hidden = 3072, .layers = 12, .heads = 12, .vocab = 50257, .context = 1024};

  static module make() { return module::make(config, 1); }
  static integers inputs() { return classes({4, 64}, config.vocab, 7919); }
  static integers targets() { return classes({4 * 64}, config.vocab, 104729); }

  static at::Tensor theirs(const weights& w, const at::Tensor& tokens) {
    const auto batch = tokens.size(0);
    const auto length = tokens.size(1);
    const auto norm = [&](const at::Tensor& x, const std::string& at) {
      return at::layer_norm(x, {config.dim}, w.at(at + ".weight"), w.at(at + ".bias"),
                            config.norm_eps);
    };
    const auto project = [&](const at::Tensor& x, const std::string& at) {
      return at::addmm(w.at(at + ".bias"), x, w.at(at + ".weight"));
    };
    const auto heads = [&](const at::Tensor& y) {
      return y.view({batch, length, config.heads, config.head_dim()}).transpose(1, 2);
    };
    const at::Tensor hidden = at::ones({length, length}, at::TensorOptions(at::kBool)).triu(1);
    at::Tensor x = (at::embedding(w.at("transformer.wte.weight"), tokens) +
                    w.at("transformer.wpe.weight").slice(0, 0, length))
                       .view({-1, config.dim});
    for (std::int64_t i = 0; i < config.layers; ++i) {
      const std::string layer = "transformer.h." + std::to_string(i) + ".";
      const auto parts =
          project(norm(x, layer + "ln_1"), layer + "attn.c_attn").split(config.dim, -1);
      const at::Tensor scores = at::matmul(heads(parts[0]), heads(parts[1]).transpose(-2, -1)) /
                                std::sqrt(static_cast<double>(config.head_dim()));
      const at::Tensor mixed =
          at::matmul(at::softmax(scores.masked_fill(hidden, -INFINITY), -1), heads(parts[2]))
              .transpose(1, 2)
              .reshape({-1, config.dim});
      x = x + project(mixed, layer + "attn.c_proj");
      const at::Tensor inner = project(norm(x, layer + "ln_2"), layer + "mlp.c_fc");
      x = x + project(at::gelu(inner, "tanh"), layer + "mlp.c_proj");
    }
    return at::linear(norm(x, "transformer.ln_f"), w.at("transformer.wte.weight"));
  }
};

// ---- steps --------------------------------------------------------------------------------------

template <class Model>
class our_training {
 public:
  double step() {
    const auto loss = al::cross_entropy(model_(inputs_), targets_);
    al::backward(loss);
    optimizer_.step(learning_rate);
    nn::zero_grad(model_);
    return static_cast<double>(al::item(loss));
  }

 private:
  static auto recorded() {
    auto model = Model::make();
    nn::require_grad(model);
    return model;
  }

  stack::session memory_;
  typename Model::module model_ = recorded();
  // LibTorch's one group: everything decays.
  nn::adamw<floats> optimizer_{
      model_, {.weight_decay = decay}, [](std::string_view, const al::tensor_spec&) {
        return nn::parameter_group{};
      }};
  decltype(Model::inputs()) inputs_ = Model::inputs();
  integers targets_ = Model::targets();
};

template <class Model>
class their_training {
 public:
  double step() {
    const at::Tensor loss = at::cross_entropy_loss(Model::theirs(weights_, inputs_), targets_);
    loss.backward();
    optimizer_.step();
    for (auto& [name, w] : weights_) {
      w.mutable_grad() = at::Tensor();  // as `zero_grad(set_to_none=True)`
    }
    return loss.item<double>();
  }

 private:
  static weights copies() {
    const auto model = Model::make();
    weights all;
    nn::named_parameters(model, [&](const std::string& name, const floats& x) {
      all.emplace(name, copied(x).requires_grad_());
    });
    return all;
  }
  static std::vector<at::Tensor> list(const weights& all) {
    std::vector<at::Tensor> tensors;
    for (const auto& [name, w] : all) {
      tensors.push_back(w);
    }
    return tensors;
  }
  static at::Tensor example() {
    const at::Tensor x = copied(Model::inputs());
    return x.is_floating_point() ? x : x.to(at::kLong);
  }

  weights weights_ = copies();
  torch::optim::AdamW optimizer_{list(weights_),
                                 torch::optim::AdamWOptions(learning_rate).weight_decay(decay)};
  at::Tensor inputs_ = example();
  at::Tensor targets_ = copied(Model::targets()).to(at::kLong);
};

// ---- processes ----------------------------------------------------------------------------------

struct report {
  double loss;
  double seconds;
  double peak_mib;  ///< resident memory of the process so far
};

double peak_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmHWM:") {
      double kib = 0;
      status >> kib;
      return kib / 1024;
    }
  }
  return 0;
}

/// A process that trains: one step whenever it is asked.
class trainer {
 public:
  template <class Training>
  static trainer start() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
      throw al::argument_error("training_torch_bench", "no socket pair");
    }
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      at::set_num_threads(al::chip::host_threads());
      Training training;
      for (char asked = 0; read(ends[1], &asked, 1) == 1;) {
        const auto start = std::chrono::steady_clock::now();
        report r{};
        r.loss = training.step();
        r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        r.peak_mib = peak_mib();
        if (write(ends[1], &r, sizeof r) != sizeof r) {
          break;
        }
      }
      _exit(0);
    }
    close(ends[1]);
    return trainer(child, ends[0]);
  }
  trainer(trainer&& other) noexcept
      : child_(std::exchange(other.child_, -1)), end_(std::exchange(other.end_, -1)) {}
  trainer& operator=(trainer&&) = delete;
  ~trainer() {
    if (child_ > 0) {
      close(end_);
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
  }

  /// Throws: `argument_error` where the process has died.
  report step() {
    report r{};
    if (write(end_, "s", 1) != 1 || read(end_, &r, sizeof r) != sizeof r) {
      throw al::argument_error("training_torch_bench", "the training process has died");
    }
    return r;
  }
  std::vector<double> first_losses() {
    std::vector<double> losses;
    for (int i = 0; i < 3; ++i) {
      losses.push_back(step().loss);
    }
    return losses;
  }

 private:
  trainer(pid_t child, int end) : child_(child), end_(end) {}
  pid_t child_;
  int end_;
};

template <class Mine, class Other>
void measure(benchmark::State& state) {
  static const std::vector<double> wanted = trainer::start<Other>().first_losses();
  trainer mine = trainer::start<Mine>();
  const std::vector<double> losses = mine.first_losses();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (!(std::abs(losses[i] - wanted[i]) <= 1e-4 * std::abs(wanted[i]))) {
      state.SkipWithError(("step " + std::to_string(i) + " has loss " + std::to_string(losses[i]) +
                           ", the other library " + std::to_string(wanted[i]))
                              .c_str());
      return;
    }
  }
  double peak = 0;
  for (auto _ : state) {
    const report r = mine.step();
    state.SetIterationTime(r.seconds);
    peak = r.peak_mib;
  }
  state.counters["peak_MiB"] = peak;
  state.counters["loss"] = losses.back();
}

template <class Model>
void add(int iterations) {
  using ours = our_training<Model>;
  using theirs = their_training<Model>;
  const auto registered = [&](const char* implementation, auto f) {
    benchmark::RegisterBenchmark((Model::name + std::string("/impl:") + implementation).c_str(), f)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(iterations);
  };
  registered("ashlar", measure<ours, theirs>);
  registered("libtorch", measure<theirs, ours>);
}

const int registered = [] {
  add<mlp>(200);
  add<gpt>(4);
  return 0;
}();

}  // namespace

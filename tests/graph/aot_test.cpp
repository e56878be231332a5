// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/aot.hpp"

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/chip/source/portable.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/passes/fold_constants.hpp"
#include "ashlar/graph/tiles.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/batch_norm.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/conv.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cross_entropy.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/optimizer.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/tile.hpp"
#include "ashlar/ops/views.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace graph = ashlar::graph;
namespace tools = al::chip::llvm_codegen;

namespace {

using keys = al::make_key_set<al::keys::backend<al::chip::portable>>;
using real = al::tensor<float, keys>;
using integer = al::tensor<std::int32_t, keys>;

struct close_library {
  void operator()(void* library) const { ::dlclose(library); }
};

/// A written source, compiled and loaded.
class loaded {
 public:
  loaded(const std::string& compiler, const graph::written_source& s) : source_(s) {
    const tools::temporary_folder folder;
    tools::write_file(folder / "model.cpp", s.text);
    std::vector<std::string> command{
        compiler,  "-std=c++20", "-O1",     "-ffp-contract=off",  "-Wall", "-Wextra",
        "-Werror", "-fPIC",      "-shared", folder / "model.cpp", "-o",    folder / "model.so"};
    if (al::simd::fused_madd) {
      command.emplace_back("-march=native");
    }
    const tools::run_result r = tools::run_program(command);
    CHECK_MESSAGE(r.status == 0, r.output.substr(0, 3000));
    library_.reset(::dlopen((folder / "model.so").c_str(), RTLD_NOW | RTLD_LOCAL));
    REQUIRE(library_ != nullptr);
    const auto* const bytes =
        static_cast<const long long*>(::dlsym(library_.get(), "model_arena_bytes"));
    REQUIRE(bytes != nullptr);
    CHECK(*bytes == s.arena_bytes);
    function_ = reinterpret_cast<function>(::dlsym(library_.get(), "model"));
    const bool there = function_ != nullptr;
    REQUIRE(there);
  }

  int operator()(std::vector<const void*> in, std::vector<void*> out) const {
    std::vector<void*> parameters;
    for (const al::tensor_handle& p : source_.parameters) {
      parameters.push_back(p.body()->root().data);
    }
    const auto size = static_cast<std::size_t>(source_.arena_bytes) + 64;
    void* const arena = ::operator new(size, std::align_val_t{64});
    std::fill_n(static_cast<unsigned char*>(arena), size, 0xab);  // nothing in it counts
    const int broken = function_(in.data(), out.data(), parameters.data(), arena);
    ::operator delete(arena, std::align_val_t{64});
    return broken;
  }

 private:
  using function = int (*)(const void* const*, void* const*, void* const*, void*);
  graph::written_source source_;
  std::unique_ptr<void, close_library> library_{};
  function function_ = nullptr;
};

std::vector<std::string> compilers() {
  std::vector<std::string> found;
  for (const std::string& c : {tools::find_program("g++"), tools::find_tool("clang++")}) {
    if (!c.empty()) {
      found.push_back(c);
    }
  }
  return found;
}

/// A block of a transformer with its embedding, on sequences of one length.
struct block {
  real table = al::randn<real>({50, 24}, 1);
  real gain = al::randn<real>({24}, 2);
  real qkv = al::randn<real>({72, 24}, 3);
  real out = al::randn<real>({24, 24}, 4);
  real up = al::randn<real>({64, 24}, 5);
  real down = al::randn<real>({24, 64}, 6);

  auto operator()(const auto& ids) const {
    const auto x = al::embedding(table, ids);
    const auto all = al::linear(al::rms_norm(x, gain, 1e-5), qkv);
    const auto heads = [&](std::int64_t part) {
      return al::transpose(al::reshape(al::narrow(all, -1, 24 * part, 24), {2, 7, 3, 8}), 1, 2);
    };
    const auto mixed = al::scaled_dot_product_attention(heads(0), heads(1), heads(2), true);
    const auto y = al::add(x, al::linear(al::reshape(al::transpose(mixed, 1, 2), {2, 7, 24}), out));
    const auto z =
        al::add(y, al::linear(al::silu(al::linear(al::rms_norm(y, gain, 1e-5), up)), down));
    return std::tuple(z, al::softmax(z), al::narrow(z, 1, 6, 1));
  }
};

/// Convolutions, one of them by channel, a norm by its running statistics, pools and a head.
struct conv_net {
  real stem = al::randn<real>({4, 3, 3, 3}, 1), bias = al::randn<real>({4}, 2);
  real mean = al::randn<real>({4}, 3), variance = al::square(al::randn<real>({4}, 4));
  real gain = al::randn<real>({4}, 5), shift = al::randn<real>({4}, 6);
  real depthwise = al::randn<real>({4, 1, 3, 3}, 7), head = al::randn<real>({5, 4}, 8);

  auto operator()(const auto& images) const {
    const al::window_options same{.padding = {1, 1}};
    const auto normed =
        al::batch_norm(al::conv2d(images, stem, bias, same), mean, variance, gain, shift);
    const auto y =
        al::gelu(al::conv2d(al::max_pool2d(al::relu(normed), al::shape{2, 2}), depthwise, same, 4));
    const auto pooled = al::avg_pool2d(y, al::shape{y.extent(2), y.extent(3)});
    return al::linear(al::reshape(pooled, al::shape{y.extent(0), 4}), head);
  }
};

/// A mixture of experts as one graph has it: each expert sees every token, and those that a token
/// does not take, all but its first two, weigh nothing.
struct experts {
  static constexpr std::int64_t count = 4;
  real gate = al::randn<real>({count, 8}, 1);
  std::vector<real> up, down;
  experts() {
    for (std::uint64_t e = 0; e < count; ++e) {
      up.push_back(al::randn<real>({12, 8}, 10 + e));
      down.push_back(al::randn<real>({8, 12}, 20 + e));
    }
  }

  auto operator()(const auto& x) const {
    const auto p = al::softmax(al::linear(x, gate));
    const auto none = al::scale(p, 0.0);
    const auto others = al::where(al::lt(p, al::max(p, -1, true)), p, none);
    const auto taken = al::where(al::ge(p, al::max(others, -1, true)), p, none);
    const auto weights = al::div(taken, al::sum(taken, -1, true));
    auto y = al::scale(x, 0.0);
    for (std::int64_t e = 0; e < count; ++e) {
      const auto k = static_cast<std::size_t>(e);
      const auto made = al::linear(al::silu(al::linear(x, up[k])), down[k]);
      y = al::add(y, al::mul(made, al::narrow(weights, -1, e, 1)));
    }
    return y;
  }
};

/// A classifier of pairs of tokens with what an optimizer keeps of it, and one step of its
/// training.
struct trained {
  using stack = al::stack<al::on<al::chip::portable>, al::differentiate<al::autograd::tape<>>,
                          al::through<al::keys::capture>>;
  using tensor = stack::tensor<float>;
  using integers = stack::tensor<std::int32_t>;
  using whole = stack::tensor<std::int64_t>;

  tensor table = al::randn<tensor>({7, 8}, 1), gain = al::ones<tensor>({16}),
         shift = al::zeros<tensor>({16}), hidden = al::randn<tensor>({12, 16}, 2),
         bias = al::zeros<tensor>({12}), head = al::randn<tensor>({7, 12}, 3);
  std::vector<tensor> parameters{table, gain, shift, hidden, bias, head}, first{}, second{};

  trained() {
    for (const tensor& p : parameters) {
      al::require_grad(p);
      first.push_back(al::zeros<tensor>(al::shape(p.shape())));
      second.push_back(al::zeros<tensor>(al::shape(p.shape())));
    }
  }
  /// By AdamW, or by descent with momentum.
  bool adam = false;
  tensor operator()(const integers& ids, const integers& targets, const whole& number) const {
    const auto rows = al::reshape(al::embedding(table, ids), {ids.extent(0), -1});
    const auto y = al::tanh(al::linear(al::layer_norm(rows, gain, shift, 1e-5), hidden, bias));
    const tensor loss = al::cross_entropy(al::linear(y, head), targets);
    al::backward(loss);
    const al::no_grad off;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const tensor g = std::exchange(al::gradient(parameters[i]), {});
      if (adam) {
        al::adamw_step(parameters[i], g, first[i], second[i], al::adamw_options{}, number);
      } else {
        al::sgd_step(parameters[i], g, first[i], al::sgd_options{.lr = 0.1, .momentum = 0.9});
      }
    }
    return al::detach(loss);
  }
  /// All that a step may write to.
  std::vector<std::vector<float>> state() const {
    std::vector<std::vector<float>> all;
    for (const auto& each : {parameters, first, second}) {
      for (const tensor& x : each) {
        all.push_back(al::to_vector(x));
      }
    }
    return all;
  }
};

/// The model as a file, by each compiler, has the bits of the tile backend, and those of its calls
/// but for the order of sums in fused kernels: a few roundings of results, here up to 16.
template <class Model>
void check_written(const Model& f, const real& x) {
  const graph::graph g = graph::freeze(graph::capture(f, x));
  const graph::written_source s = graph::write_source(g);
  const std::vector<float> in = al::to_vector(x), eager = al::to_vector(f(x));
  auto tiled = graph::tiles<al::chip::portable>{}.compile(g);
  const std::vector<float> expected = al::to_vector(real(tiled(x)[0]));
  for (const std::string& compiler : compilers()) {
    CAPTURE(compiler);
    const loaded model(compiler, s);
    std::vector<float> y(expected.size());
    CHECK(model({in.data()}, {y.data()}) == 0);
    CHECK(y == expected);
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(std::abs(y[i] - eager[i]) <= 16 * 1.2e-7f * (1 + std::abs(eager[i])));
    }
  }
}

}  // namespace

TEST_CASE("graph/aot: a model in one source file, which compiles alone and has the chip's bits") {
  const block f;
  std::vector<std::int32_t> numbers;
  for (int i = 0; i < 14; ++i) {
    numbers.push_back(i * 7 % 50);
  }
  const auto ids = al::from_values<integer>({2, 7}, numbers);
  const graph::graph g = graph::capture(f, ids);
  const auto [y, p, last] = f(ids);
  for (const std::size_t embedded : {std::size_t{0}, std::size_t{1} << 20}) {
    // Constants of products are packed, parameters are not.
    const graph::written_source s =
        graph::write_source(embedded == 0 ? graph::freeze(g) : g, {.embed_bytes = embedded});
    CHECK(s.parameters.size() == (embedded == 0 ? 6 : 0));
    CHECK(s.arena.ratio() < 1.5);
    for (std::size_t a = 0; a < s.lifetimes.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        if (al::plan::meet(s.lifetimes[a], s.lifetimes[b])) {
          const bool apart = s.arena.offsets[a] + s.lifetimes[a].bytes <= s.arena.offsets[b] ||
                             s.arena.offsets[b] + s.lifetimes[b].bytes <= s.arena.offsets[a];
          CHECK(apart);
        }
      }
    }
    for (const std::string& compiler : compilers()) {
      CAPTURE(compiler);
      const loaded model(compiler, s);
      for (int time = 0; time < 2; ++time) {
        std::vector<float> a(2 * 7 * 24), b(2 * 7 * 24), c(2 * 24);
        CHECK(model({numbers.data()}, {a.data(), b.data(), c.data()}) == 0);
        CHECK(a == al::to_vector(y));
        CHECK(b == al::to_vector(p));
        CHECK(c == al::to_vector(last));
        std::vector<std::int32_t> wrong = numbers;
        wrong[3] = 50;
        CHECK(model({wrong.data()}, {a.data(), b.data(), c.data()}) == 1);
      }
    }
  }
}

TEST_CASE("graph/aot: outputs that are arguments, parameters or one another; a graph of nothing") {
  const real w = al::randn<real>({3}, 1);
  const auto f = [&](const auto& x) { return std::tuple(x, al::neg(w), x, w); };
  const real x = al::randn<real>({3}, 2);
  const graph::written_source s = graph::write_source(graph::capture(f, x));
  const loaded model(compilers().at(0), s);
  std::vector<float> in = al::to_vector(x), a(3), b(3), c(3), d(3);
  CHECK(model({in.data()}, {a.data(), b.data(), c.data(), d.data()}) == 0);
  CHECK(a == in);
  CHECK(b == al::to_vector(al::neg(w)));
  CHECK(c == in);
  CHECK(d == al::to_vector(w));

  const auto none = [](const auto& e) { return al::relu(e); };
  const graph::written_source empty =
      graph::write_source(graph::capture(none, al::zeros<real>({0, 4})));
  CHECK(empty.launches == 0);
  const loaded nothing(compilers().at(0), empty);
  CHECK(nothing({nullptr}, {nullptr}) == 0);

  // An argument that is written to.
  const auto turns = [](auto e) {
    al::neg.in_place(e);
    return al::relu(e);
  };
  const loaded turned(compilers().at(0), graph::write_source(graph::capture(turns, x)));
  CHECK(turned({in.data()}, {a.data()}) == 0);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(in[i] == -c[i]);
    CHECK(a[i] == std::max(in[i], 0.0f));
  }

  for (const char* name : {"", "my model", "2nd", "a-b", "na\xc3\xafve", "double", "main"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(static_cast<void>(graph::write_source(graph::capture(f, x), {.name = name})),
                    graph::source_error);
  }
  CHECK(graph::write_source(graph::capture(f, x), {.name = "_2nd_double"}).launches == s.launches);
}

TEST_CASE("graph/aot: a convolutional net and a mixture of experts") {
  check_written(conv_net{}, al::randn<real>({2, 3, 8, 6}, 9));
  check_written(experts{}, al::randn<real>({5, 8}, 9));
}

TEST_CASE("graph/aot: a training step, which moves the parameters that it is given") {
  const auto numbers = [](std::int32_t step, std::int32_t count) {
    std::vector<std::int32_t> all;
    for (std::int32_t i = 0; i < count; ++i) {
      all.push_back((i * (step + 3) + step) % 7);
    }
    return all;
  };
  const auto tokens = [&](std::int32_t n) {
    return al::from_values<trained::integers>({5, 2}, numbers(n, 10));
  };
  const auto targets = [&](std::int32_t n) {
    return al::from_values<trained::integers>({5}, numbers(n + 1, 5));
  };
  const auto number = al::zeros<trained::whole>({});
  for (const std::string& compiler : compilers()) {
    CAPTURE(compiler);
    const trained eager, filed, fresh;
    const graph::written_source s =
        graph::write_source(graph::freeze(graph::capture(filed, tokens(0), targets(0), number)));
    CHECK(filed.state() == fresh.state());  // writing the file is no step
    CHECK(s.parameters.size() == 12);       // however small: six, and their momenta
    const loaded step(compiler, s);
    for (std::int32_t n = 0; n < 4; ++n) {
      float loss = 0;
      CHECK(step({numbers(n, 10).data(), numbers(n + 1, 5).data(), nullptr}, {&loss}) == 0);
      CHECK(loss == al::item(eager(tokens(n), targets(n), number)));
    }
    CHECK(filed.state() == eager.state());
    CHECK(filed.state() != fresh.state());
  }
  // A number in a tensor is read on the host, and no launch says it.
  trained other;
  other.adam = true;
  const auto before = other.state();
  try {
    static_cast<void>(graph::write_source(graph::capture(other, tokens(0), targets(0), number)));
    FAIL("written");
  } catch (const graph::source_error& e) {
    CHECK(e.call == "adamw_step");
  }
  CHECK(other.state() == before);
}

// SPDX-License-Identifier: Apache-2.0
#include "ashlar/graph/aot.hpp"

#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/chip/llvm/tools.hpp"
#include "ashlar/chip/source/portable.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/attention.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/embedding.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/norm.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/tile.hpp"
#include "ashlar/ops/views.hpp"

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
    const graph::written_source s = graph::write_source(g, {.embed_bytes = embedded});
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
}

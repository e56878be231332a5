// SPDX-License-Identifier: Apache-2.0
// On a chip without memory every operator computes geometry and asks nobody for a byte.
#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <set>
#include <string>
#include <type_traits>

#include "ashlar/chip/meta.hpp"
#include "ashlar/nn.hpp"
#include "ashlar/ops.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;
namespace ops = ashlar::ops;

namespace {
std::atomic<std::size_t> asked{0};  // bytes
}

void* operator new(std::size_t bytes) {
  asked += bytes;
  if (void* p = std::malloc(bytes == 0 ? 1 : bytes)) {
    return p;
  }
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  asked += bytes;
  const auto a = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (bytes + a - 1) / a * a)) {
    return p;
  }
  throw std::bad_alloc();
}
// Not inlined: g++ would see `free` of what `operator new` returned, and think it wrong.
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace {

using meta_keys = al::make_key_set<al::keys::backend<al::chip::meta>>;
template <class T>
using ghost = al::tensor<T, meta_keys>;
using real = ghost<float>;
using number = ghost<std::int64_t>;

std::set<std::string> seen;

/// Sanitizers see every tensor body, as lists of free ones are off: some hundred bytes each.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t bodies = 1 << 16;
#else
constexpr std::size_t bodies = 0;
#endif

/// Bytes that `f()` asks for once this thread's list of tensor bodies is filled.
template <class F>
std::size_t bytes_of(const F& f) {
  f();
  const std::size_t before = asked;
  f();
  return asked - before;
}

template <class Op, class... A>
void run(const A&... args) {
  seen.emplace(al::detail::short_name<Op>());
  CHECK_MESSAGE(bytes_of([&] { static_cast<void>(al::call<Op>(args...)); }) <= bodies, Op::name);
  if constexpr (al::Structured<Op> && !al::View<Op>) {
    auto out = al::call<Op>(args...);
    CHECK_MESSAGE(bytes_of([&] { al::op_function<Op>{}.out(out, args...); }) <= bodies, Op::name,
                  ".out");
  }
}
template <class... Op>
void run_unary(const real& x, ops::operators<Op...>) {
  (run<Op>(x), ...);
}
template <class... Op>
void run_binary(const real& x, ops::operators<Op...>) {
  (run<Op>(x, x), ...);
}

struct stack {
  template <class T>
  using tensor = ghost<T>;
};

/// Large enough that one tensor would be gigabytes.
constexpr std::int64_t rows = 1 << 16;
real make(const al::shape& s) { return al::empty<real>(s); }
number integers(const al::shape& s) { return al::empty<number>(s); }

}  // namespace

TEST_CASE("ops/meta_execution: elementwise operators, views and reductions ask for no byte") {
  const real x = make({rows, rows});
  run_unary(x, ops::operators<ops::neg, ops::abs, ops::sign, ops::square, ops::exp, ops::log,
                              ops::sqrt, ops::rsqrt, ops::tanh, ops::erf, ops::sigmoid, ops::relu,
                              ops::gelu, ops::gelu_tanh, ops::silu, ops::logical_not,
                              ops::cast<float>, ops::clone, ops::contiguous, ops::sum_squares>{});
  run_binary(
      x, ops::operators<ops::add, ops::sub, ops::mul, ops::div, ops::maximum, ops::minimum,
                        ops::swiglu, ops::tanh_backward, ops::sigmoid_backward, ops::relu_backward,
                        ops::gelu_backward, ops::gelu_tanh_backward, ops::silu_backward, ops::eq,
                        ops::ne, ops::lt, ops::le, ops::gt, ops::ge, ops::copy>{});
  run<ops::scale>(x, 2.0, 1.0);
  run<ops::pow>(x, 3.0);
  run<ops::where>(al::lt(x, x), x, x);
  run<ops::fill>(x, 1.0);
  run<ops::arange>(x, 0.0, 1.0);
  const std::uint64_t seed = 1;
  run<ops::uniform>(x, seed, seed, 0.0, 1.0);
  run<ops::normal>(x, seed, seed, 0.0, 1.0);
  run<ops::dropout>(x, 0.5, seed, seed);

  const std::int64_t one = 1;
  run<ops::slice>(x, one, one, one + 5, one);
  run<ops::narrow>(x, one, one, one);
  run<ops::select>(x, one, one);
  run<ops::transpose>(x, one, one - 1);
  run<ops::permute>(x, al::shape{1, 0});
  run<ops::expand>(x, al::shape{3, rows, rows});
  run<ops::unsqueeze>(x, one);
  run<ops::squeeze>(al::unsqueeze(x, 1), one);
  run<ops::view_as>(x, al::shape{rows * rows});
  run<ops::reshape>(al::transpose(x), al::shape{rows * rows});
  run<ops::unfold>(x, one, one + 2, one, one);
  run<ops::unfold_backward>(al::unfold(x, 1, 3), al::shape{rows, rows}, one, one + 2, one, one);
  run<ops::slice_backward>(make({rows, 5}), al::shape{rows, rows}, one, one, one + 5, one);
  run<ops::cat>(x, x, one);

  for (const bool keep : {false, true}) {
    run<ops::sum>(x, al::shape{0}, keep);
    run<ops::mean>(x, al::shape{}, keep);
    run<ops::max>(x, al::shape{1}, keep);
    run<ops::min>(x, al::shape{1}, keep);
    run<ops::argmax>(x, al::shape{0, 1}, keep);
  }
  run<ops::sum_to>(x, al::shape{1, rows});
  run<ops::cumsum>(x, one, false);
  run<ops::argsort>(x, one, true, one + 8);
  run<ops::topk>(x, one + 8, one, true);
  run<ops::sort>(x, one, true);
  run<ops::gather>(x, integers({rows, 3}), one);
  run<ops::index_select>(x, integers({rows}), one);
  run<ops::one_hot<float>>(integers({rows, 3}), rows);
  run<ops::scatter>(x, integers({rows, 3}), make({rows, 3}), one, true);
  run<ops::softmax>(x, one);
  run<ops::softmax_backward>(x, x, one);
  run<ops::log_softmax>(x, one);
  run<ops::log_softmax_backward>(x, x, one);
}

TEST_CASE("ops/meta_execution: layers ask for no byte") {
  const real x = make({rows, rows});
  const real c = make({rows});
  const real scalar = make({});
  const std::int64_t none = -100;
  run<ops::cross_entropy>(x, integers({rows}), none);
  run<ops::cross_entropy_backward>(scalar, x, integers({rows}), none);
  run<ops::matmul>(x, x);
  run<ops::linear>(x, x);
  run<ops::linear_bias>(x, x, c);
  run<ops::dense<void>>(x, x, c);
  run<ops::embedding>(x, integers({rows}));
  run<ops::embedding_backward>(x, integers({rows}), rows);
  run<ops::rms_norm>(x, c, 1e-5);
  run<ops::rms_norm_backward_x>(x, x, c, 1e-5);
  run<ops::rms_norm_backward_weight>(x, x, 1e-5);
  run<ops::layer_norm>(x, c, c, 1e-5);
  run<ops::layer_norm_backward_x>(x, x, c, 1e-5);
  run<ops::layer_norm_backward_weight>(x, x, 1e-5);
  const real heads = make({4, 8, rows, 64});
  const real own = make({4, 2, rows, 64});
  run<ops::rope>(make({rows, 8, 64}), integers({rows}), 1e4, false, false);
  run<ops::scaled_dot_product_attention>(heads, own, own, true, 0.1);
  run<ops::scaled_dot_product_attention_backward>(heads, heads, own, own, heads, true, 0.1);
  using places = ghost<std::int32_t>;
  const auto keys = make({rows, 2, 64, 16});
  const auto values = make({rows, 2, 16, 64});
  const auto one_each = al::empty<places>({rows});
  run<ops::paged_attention>(make({rows, 8, 64}), keys, values, al::empty<places>({4, rows}),
                            one_each, one_each, 0.1);
  run<ops::cache_write>(keys, values, make({rows, 2, 64}), make({rows, 2, 64}), integers({rows}));
  run<ops::adamw_step>(x, x, x, x, al::adamw_options{}, std::int64_t{1}, 1.0);
  run<ops::sgd_step>(x, x, x, al::sgd_options{.momentum = 0.9}, 1.0);
  const real image = make({64, 32, 512, 512});
  const real filters = make({64, 32, 3, 3});
  const al::window_options padded{.padding = {1, 1}};
  run<ops::conv2d>(image, filters, padded, std::int64_t{1});
  run<ops::max_pool2d>(image, al::shape{3, 3}, padded);
  run<ops::avg_pool2d>(image, al::shape{3, 3}, padded, false);
  const real channels = make({32});
  run<ops::batch_norm>(image, channels, channels, channels, channels, 1e-5);
  run<ops::batch_norm_train>(image, channels, channels, 1e-5);
}

TEST_CASE("ops/meta_execution: modules ask for no byte that depends on the size of tensors") {
  const auto conv = nn::conv2d<stack>::make(32, 64, {3, 3}, {.padding = {1, 1}});
  const auto norm = nn::batch_norm2d<stack>::make(64);
  const auto drop = nn::dropout::make(0.5, 1);
  const auto image = make({64, 32, 512, 512});
  CHECK(bytes_of([&] { static_cast<void>(drop(norm(conv(image)))); }) <= bodies);
  const auto table = nn::embedding<stack>::make(rows, rows);
  const auto dense = nn::linear<stack>::make(rows, rows);
  const auto root = nn::rms_norm<stack>::make(rows);
  const auto both = nn::layer_norm<stack>::make(rows);
  const auto tokens_of_text = integers({rows});
  CHECK(bytes_of([&] { static_cast<void>(both(root(dense(table(tokens_of_text))))); }) <= bodies);
  const auto moe = nn::moe<stack>::make(64, 128, 8, 2);
  // What remains are lists of handles and of one number for each expert.
  const auto with_tokens = [&](std::int64_t tokens) {
    return bytes_of([&] { static_cast<void>(moe(make({tokens, 64}))); });
  };
  CHECK(with_tokens(4) == with_tokens(rows));
  CHECK(with_tokens(4) < 1024 + bodies);
}

// Runs last: the cases above have to have run.
TEST_CASE("ops/meta_execution: every operator has been run") {
  for (const al::coverage_row& row : al::dispatch::coverage<al::chip::meta>().rows) {
    CHECK_MESSAGE(seen.contains(std::string(row.name)), row.name);
  }
}

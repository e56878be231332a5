// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ashlar/chip/host/attention_backward.hpp"
#include "ashlar/core/error.hpp"
#include "attention_support.hpp"

namespace {

using namespace attention_test;
namespace kernels = ashlar::chip::host_kernels;

struct problem {
  std::int64_t B, H, Hkv, Tq, Tk, Dh;
};

template <class T>
struct tensors {
  array<T> q, k, v, out, dout, dq, dk, dv;

  explicit tensors(const problem& p)
      : q({p.B, p.H, p.Tq, p.Dh}),
        k({p.B, p.Hkv, p.Tk, p.Dh}),
        v(k),
        out(q),
        dout(q),
        dq({p.B, p.H, p.Tq, p.Dh}, std::numeric_limits<T>::quiet_NaN()),
        dk({p.B, p.Hkv, p.Tk, p.Dh}, std::numeric_limits<T>::quiet_NaN()),
        dv(dk) {
    q.randomise(1);
    k.randomise(2);
    v.randomise(3);
    dout.randomise(4);
  }
  void run(bool causal, double scale) {
    kernels::sdpa<T>(out, q, k, v, causal, scale);
    kernels::sdpa_backward<T>(dq, dk, dv, dout, q, k, v, out, causal, scale);
  }
};

/// `sum of dout * attention(q, k, v)`, whose derivatives are the gradients.
double loss(const tensors<double>& t, bool causal, double scale) {
  const std::vector<double> out = naive_attention(t.q, t.k, t.v, causal, scale);
  double sum = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    sum += out[i] * t.dout.storage[i];
  }
  return sum;
}

TEST_CASE("chip/host_attention_backward: gradients agree with finite differences") {
  // Central differences of step 1e-5 leave an error of about 1e-10 in the third derivative's term
  // and 1e-11 by cancellation.
  constexpr double step = 1e-5;
  for (const problem p :
       {problem{1, 1, 1, 1, 1, 1}, problem{2, 2, 1, 3, 5, 3}, problem{1, 4, 2, 6, 6, 5},
        problem{1, 4, 1, 5, 18, 8}, problem{1, 2, 2, 5, 3, 4}, problem{1, 1, 1, 18, 18, 17}}) {
    for (const bool causal : {false, true}) {
      CAPTURE(p.Tq);
      CAPTURE(p.Dh);
      CAPTURE(causal);
      const double scale = 0.7;
      tensors<double> t(p);
      t.run(causal, scale);
      const auto differences = [&](array<double>& x) {
        std::vector<double> result;
        x.each([&](double& at) {
          const double value = at;
          at = value + step;
          const double up = loss(t, causal, scale);
          at = value - step;
          const double down = loss(t, causal, scale);
          at = value;
          result.push_back((up - down) / (2 * step));
        });
        return result;
      };
      CHECK(largest_difference(t.dq.storage, differences(t.q)) < 1e-8);
      CHECK(largest_difference(t.dk.storage, differences(t.k)) < 1e-8);
      CHECK(largest_difference(t.dv.storage, differences(t.v)) < 1e-8);
    }
  }
}

TEST_CASE("chip/host_attention_backward: float agrees with double") {
  // Sums of up to Tq * H / Hkv terms of size about 1: some hundred roundings of 6e-8.
  for (const problem p : {problem{2, 4, 2, 70, 70, 20}, problem{1, 8, 2, 33, 47, 64},
                          problem{1, 2, 2, 50, 50, 16}, problem{2, 3, 1, 9, 130, 33}}) {
    for (const bool causal : {false, true}) {
      tensors<float> f(p);
      tensors<double> d(p);
      f.run(causal, 0.2);
      d.run(causal, 0.2);
      CHECK(largest_difference(f.dq.storage, d.dq.storage) < 3e-5);
      CHECK(largest_difference(f.dk.storage, d.dk.storage) < 3e-5);
      CHECK(largest_difference(f.dv.storage, d.dv.storage) < 3e-5);
    }
  }
}

TEST_CASE("chip/host_attention_backward: empty problems give zeros where there is something") {
  for (const problem p :
       {problem{0, 2, 1, 3, 3, 4}, problem{1, 0, 1, 3, 3, 4}, problem{1, 2, 1, 0, 3, 4},
        problem{1, 2, 1, 3, 0, 4}, problem{1, 2, 1, 3, 3, 0}, problem{1, 0, 0, 3, 3, 2}}) {
    tensors<float> t(p);
    t.run(true, 1);
    for (const auto* x : {&t.dq, &t.dk, &t.dv}) {
      CHECK(std::all_of(x->storage.begin(), x->storage.end(), [](float g) { return g == 0; }));
    }
  }
}

TEST_CASE("chip/host_attention_backward: strides and threads do not change a bit") {
  const problem p{3, 6, 3, 67, 81, 20};
  tensors<float> expected(p);
  expected.run(true, 0.2);
  for (const int threads : {1, 2, 4}) {
    const ashlar::chip::thread_limit limit(threads);
    for (const auto& order : {std::initializer_list<int>{0, 2, 1, 3}, {3, 1, 2, 0}}) {
      tensors<float> t(p);
      for (array<float>* x : {&t.q, &t.k, &t.v, &t.dout, &t.out, &t.dq, &t.dk, &t.dv}) {
        *x = array<float>({x->spec[0], x->spec[1], x->spec[2], x->spec[3]}, order, 2);
      }
      t.q.randomise(1);
      t.k.randomise(2);
      t.v.randomise(3);
      t.dout.randomise(4);
      t.run(true, 0.2);
      CHECK(same_bits(t.dq.values(), expected.dq.storage));
      CHECK(same_bits(t.dk.values(), expected.dk.storage));
      CHECK(same_bits(t.dv.values(), expected.dv.storage));
    }
  }
}

TEST_CASE("chip/host_attention_backward: gradients of wrong shape are refused") {
  tensors<float> t({1, 4, 2, 3, 5, 8});
  CHECK_THROWS_AS(
      kernels::sdpa_backward<float>(t.dk, t.dk, t.dv, t.dout, t.q, t.k, t.v, t.out, true, 1),
      ashlar::shape_error);
  CHECK_THROWS_AS(
      kernels::sdpa_backward<float>(t.dq, t.dk, t.dq, t.dout, t.q, t.k, t.v, t.out, true, 1),
      ashlar::shape_error);
  t.run(true, 1);
}

}  // namespace

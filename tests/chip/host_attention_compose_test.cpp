// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "ashlar/chip/host/attention.hpp"
#include "ashlar/chip/host/gemm.hpp"
#include "ashlar/chip/host/softmax.hpp"
#include "attention_support.hpp"

namespace {

using namespace attention_test;
namespace kernels = ashlar::chip::host_kernels;

struct problem {
  std::int64_t queries, keys, dim;
};

TEST_CASE_TEMPLATE("chip/host_attention: sdpa has the bits of matrix products around softmax", T,
                   float, double) {
  constexpr T scale = T(0.31);
  for (const problem p : {problem{1, 1, 1}, problem{1, 200, 64}, problem{5, 16, 16},
                          problem{33, 47, 20}, problem{70, 129, 33}}) {
    const std::int64_t Tq = p.queries;
    const std::int64_t Tk = p.keys;
    const std::int64_t Dh = p.dim;
    CAPTURE(Tk);
    CAPTURE(Dh);
    array<T> q({1, 1, Tq, Dh});
    array<T> k({1, 1, Tk, Dh});
    array<T> v({1, 1, Tk, Dh});
    q.randomise(1, 3);
    k.randomise(2, 3);
    v.randomise(3, 3);
    array<T> out({1, 1, Tq, Dh});
    kernels::sdpa<T>(out, q, k, v, false, static_cast<double>(scale));

    array<T> scores({Tq, Tk});
    ashlar::chip::gemm(ashlar::chip::gemm_args<T>{.m = Tq,
                                                  .n = Tk,
                                                  .k = Dh,
                                                  .a = q.storage.data(),
                                                  .a_row = Dh,
                                                  .b = k.storage.data(),
                                                  .b_row = 1,
                                                  .b_col = Dh,
                                                  .c = scores.storage.data(),
                                                  .c_row = Tk});
    for (T& x : scores.storage) {
      x *= scale;
    }
    array<T> weights({Tq, Tk});
    kernels::softmax(ashlar::view<T>(weights), ashlar::view<T>(scores), 1);
    array<T> composed({1, 1, Tq, Dh});
    ashlar::chip::gemm(ashlar::chip::gemm_args<T>{.m = Tq,
                                                  .n = Dh,
                                                  .k = Tk,
                                                  .a = weights.storage.data(),
                                                  .a_row = Tk,
                                                  .b = v.storage.data(),
                                                  .b_row = Dh,
                                                  .c = composed.storage.data(),
                                                  .c_row = Dh});
    CHECK(same_bits(out.storage, composed.storage));
  }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>

#include "ashlar/chip/host/embedding.hpp"
#include "host_support.hpp"

namespace hk = ashlar::chip::host_kernels;
using ashlar::shape;
using host_test::array;
using host_test::random;
using host_test::scattered;

namespace {

void check(const shape& id_shape, std::int64_t vocabulary, std::int64_t columns) {
  shape out_shape = id_shape;
  out_shape.push_back(columns);
  const auto weight = random<float>({vocabulary, columns}, 1);
  const auto g = random<float>(out_shape, 2);
  array<std::int32_t> ids(id_shape);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>((i * i * 31 + 7) % vocabulary);
  }
  array<float> y(out_shape);
  hk::embedding(y.out(), weight.in(), ids.in());
  array<float> d({vocabulary, columns});
  hk::fill(d.out(), 7.0f);
  hk::embedding_backward(d.out(), g.in(), ids.in());
  array<float> expected({vocabulary, columns});
  bool right = true;
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    for (std::int64_t c = 0; c < columns; ++c) {
      right = right && y[i * columns + c] == weight[ids[i] * columns + c];
      expected[ids[i] * columns + c] += g[i * columns + c];
    }
  }
  CHECK(right);
  CHECK(host_test::same_bits(d, expected));

  auto z = scattered(array<float>(out_shape));
  hk::embedding(z.out(), scattered(weight).in(), scattered(ids).in());
  CHECK(host_test::same_bits(y, z));
  auto e = scattered(array<float>({vocabulary, columns}));
  hk::embedding_backward(e.out(), scattered(g).in(), scattered(ids).in());
  CHECK(host_test::same_bits(d, e));
}

}  // namespace

TEST_CASE("chip/host/embedding: rows are found and gradients summed in the order of the ids") {
  check({0}, 3, 4);
  check({}, 3, 4);
  check({1}, 1, 1);
  check({7}, 5, 17);
  check({3, 11}, 13, 33);
  check({5}, 4, 0);
  check({2, 3, 4}, 100, 16);
}

TEST_CASE("chip/host/embedding: an id out of range is named and nothing is written") {
  const auto weight = random<float>({5, 3}, 1);
  array<std::int64_t> ids({2, 2});
  array<float> y({2, 2, 3});
  for (const std::int64_t bad : {std::int64_t{5}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    ids[3] = bad;
    hk::fill(y.out(), 9.0f);
    try {
      hk::embedding(y.out(), weight.in(), ids.in());
      FAIL("no error");
    } catch (const ashlar::argument_error& e) {
      CHECK(std::strstr(e.what(), std::to_string(bad).c_str()) != nullptr);
      CHECK(std::strstr(e.what(), "place 3") != nullptr);
    }
    CHECK(y[0] == 9.0f);
    array<float> d({5, 3});
    CHECK_THROWS_AS(hk::embedding_backward(d.out(), y.in(), ids.in()), ashlar::argument_error);
  }
}

TEST_CASE("chip/host/embedding: threads do not change a bit") {
  const auto g = random<float>({3000, 65}, 1);
  array<std::int64_t> ids({3000});
  for (std::int64_t i = 0; i < 3000; ++i) {
    ids[i] = i * i % 301;
  }
  CHECK(host_test::threads_agree([&] {
    array<float> d({301, 65});
    hk::embedding_backward(d.out(), g.in(), ids.in());
    return d;
  }));
}

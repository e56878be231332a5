// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/matmul.hpp"

#include <cmath>
#include <vector>

#include "ashlar/ops/reduction.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

/// One element of a product of matrices that broadcast to the batch of `out`.
template <class A, class B>
double product(const A& a, const B& b, const al::shape& out, std::int64_t i) {
  const std::int64_t columns = out[out.rank() - 1];
  const std::int64_t rows = out[out.rank() - 2];
  al::shape batch;
  for (int axis = 0; axis + 2 < out.rank(); ++axis) {
    batch.push_back(out[axis]);
  }
  const std::int64_t number = columns * rows == 0 ? 0 : i / (columns * rows);
  const auto matrix = [&](const auto& x) {
    al::tensor_spec s = x.spec();
    s.rank = static_cast<std::uint8_t>(s.rank - 2);
    return x.data() + place(s, batch.span(), number);
  };
  double sum = 0;
  for (std::int64_t p = 0; p < a.extent(-1); ++p) {
    sum += static_cast<double>(matrix(
               a)[i / columns % rows * a.spec().stride_of(-2) + p * a.spec().stride_of(-1)]) *
           static_cast<double>(
               matrix(b)[p * b.spec().stride_of(-2) + i % columns * b.spec().stride_of(-1)]);
  }
  return sum;
}

struct sample {
  al::shape a, b, out;
};
const std::vector<sample> samples{
    {{1, 1}, {1, 1}, {1, 1}},
    {{3, 5}, {5, 7}, {3, 7}},
    {{17, 33}, {33, 19}, {17, 19}},
    {{0, 5}, {5, 7}, {0, 7}},
    {{3, 0}, {0, 7}, {3, 7}},
    {{2, 3, 5}, {5, 7}, {2, 3, 7}},
    {{3, 5}, {4, 5, 7}, {4, 3, 7}},
    {{2, 3, 4, 5}, {2, 3, 5, 6}, {2, 3, 4, 6}},
    {{2, 1, 4, 5}, {3, 5, 6}, {2, 3, 4, 6}},
    {{0, 4, 5}, {5, 6}, {0, 4, 6}},
};

template <class T>
void check(double allowed) {
  for (const auto& [sa, sb, so] : samples) {
    const auto a = numbers<plain<T>>(sa, 1);
    const auto b = numbers<plain<T>>(sb, 2);
    const auto y = al::matmul(a, b);
    REQUIRE(al::shape(y.shape()) == so);
    check_elements(
        y, [&, &shape = so](std::int64_t i) { return product(a, b, shape, i); }, allowed, allowed);
    // Strides change no bit.
    check_same(al::matmul(scattered(a), b), y);
    check_same(al::matmul(a, scattered(b)), y);
    check_same(al::matmul(a, al::transpose(al::contiguous(al::transpose(b)))), y);
    auto given = scattered(al::zeros<plain<T>>(so));
    check_same(al::matmul.out(given, a, b), y);
    check_meta(y, al::matmul(ghost_of(a), ghost_of(b)));
  }
}

}  // namespace

TEST_CASE("ops/matmul: products equal their naive twins, batched and broadcast, in any strides") {
  check<float>(1e-5);  // chains of up to 33 products of numbers up to 2
  check<double>(1e-13);
  check<std::int32_t>(0);
}

TEST_CASE("ops/matmul: 16-bit formats are summed in float and rounded once") {
  const auto a = numbers<plain<al::bfloat16>>({3, 5}, 1);
  const auto b = numbers<plain<al::bfloat16>>({5, 7}, 2);
  const auto y = al::matmul(al::cast<float>(a), al::cast<float>(b));
  check_same(al::matmul(a, b), al::cast<al::bfloat16>(y));
}

TEST_CASE("ops/matmul: an operand with one axis is a row on the left and a column on the right") {
  const auto m = numbers<plain<double>>({3, 4, 5}, 1);
  const auto left = numbers<plain<double>>({4}, 2);
  const auto right = numbers<plain<double>>({5}, 3);
  const auto row = al::matmul(left, m);
  check_same(row, al::squeeze(al::matmul(al::unsqueeze(left, 0), m), 1));
  CHECK(al::shape(row.shape()) == al::shape{3, 5});
  const auto column = al::matmul(m, right);
  CHECK(al::shape(column.shape()) == al::shape{3, 4});
  check_same(column, al::squeeze(al::matmul(m, al::unsqueeze(right, 1)), 2));
  const auto dot = al::matmul(right, right);
  CHECK(dot.rank() == 0);
  check_elements(
      dot, [&](std::int64_t) { return al::item(al::sum_squares(right)); }, 1e-14);
}

TEST_CASE("ops/matmul: linear multiplies by the transposed weight and starts from the bias") {
  const auto w = numbers<plain<float>>({7, 5}, 2);
  const auto bias = numbers<plain<float>>({7}, 3);
  for (const al::shape& s : {al::shape{5}, {1, 5}, {3, 5}, {2, 3, 5}, {0, 5}}) {
    const auto x = numbers<plain<float>>(s, 1);
    const auto y = al::linear(x, w);
    const auto z = al::linear(x, w, bias);
    check_same(y, al::matmul(x, al::transpose(w)));
    check_elements(
        z, [&](std::int64_t i) { return at(y, i) + at(bias, i % 7); }, 1e-5, 1e-5);
    check_same(al::linear(scattered(x), scattered(w), scattered(bias)), z);
    check_same(al::linear(x, w, al::zeros<plain<float>>({7})), y);
    check_meta(z, al::linear(ghost_of(x), ghost_of(w), ghost_of(bias)));
    if (s.rank() > 1 && s[0] > 0) {  // a row has the same bits alone
      check_same(al::linear(al::select(x, 0, -1), w, bias), al::select(z, 0, -1));
    }
  }
}

TEST_CASE("ops/matmul: what does not fit is refused") {
  const auto a = al::zeros<plain<float>>({2, 3});
  CHECK_THROWS_AS(al::matmul(a, a), al::shape_error);
  CHECK_THROWS_AS(
      al::matmul(al::zeros<plain<float>>({2, 2, 3}), al::zeros<plain<float>>({3, 3, 1})),
      al::shape_error);
  CHECK_THROWS_AS(al::matmul(al::zeros<plain<float>>({}), a), al::shape_error);
  CHECK_THROWS_AS(al::matmul(a, plain<float>{}), al::undefined_tensor);
  CHECK_THROWS_AS(al::linear(a, al::zeros<plain<float>>({4, 2})), al::shape_error);
  CHECK_THROWS_AS(al::linear(a, al::zeros<plain<float>>({4, 3}), al::zeros<plain<float>>({3})),
                  al::shape_error);
}

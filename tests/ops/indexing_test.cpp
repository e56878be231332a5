// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/sort.hpp"
#include "ashlar/ops/unfold.hpp"
#include "ops/twins.hpp"

using namespace twins;

namespace {

using real = plain<float>;
using number_of_place = plain<std::int64_t>;
template <class Op>
constexpr al::op_function<Op> of;

template <class I>
plain<I> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<plain<I>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<I>(i * 7 % below);
  }
  return ids;
}

/// The indices of element `i` in row-major order.
std::vector<std::int64_t> indices(const al::shape& s, std::int64_t i) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(s.rank()));
  for (int a = s.rank() - 1; a >= 0; --a) {
    at[static_cast<std::size_t>(a)] = i % s[a];
    i /= s[a];
  }
  return at;
}
/// The number of the element of `s` at these indices.
std::int64_t flat(const al::shape& s, const std::vector<std::int64_t>& at) {
  std::int64_t i = 0;
  for (int a = 0; a < s.rank(); ++a) {
    i = i * s[a] + at[static_cast<std::size_t>(a)];
  }
  return i;
}

template <class X>
std::vector<typename X::value_type> values(const X& x) {
  return al::to_vector(x);
}

}  // namespace

TEST_CASE("ops/gather: elements are those that the index names, in all forms") {
  struct sample {
    al::shape self, index;
    int axis;
  };
  for (const sample& each :
       {sample{{5}, {0}, 0}, sample{{1}, {1}, 0}, sample{{5}, {7}, 0}, sample{{3, 5}, {3, 2}, 1},
        sample{{3, 5}, {2, 4}, 0}, sample{{2, 7, 3}, {2, 11, 3}, 1}, sample{{2, 0}, {2, 0}, 0}}) {
    const al::shape& self = each.self;  // names of a binding would not be captured by clang 16
    const al::shape& index = each.index;
    const int axis = each.axis;
    const auto x = numbers<real>(self, 1);
    const auto ids = picks<std::int32_t>(index, self[axis]);
    const auto source = numbers<real>(index, 2);
    const auto place = [&](std::int64_t i) {
      auto at = indices(index, i);
      at[static_cast<std::size_t>(axis)] = twins::at(ids, i);
      return flat(self, at);
    };
    const auto y = check_output(al::gather, x, axis, ids);
    check_elements(y, [&](std::int64_t i) { return twins::at(x, place(i)); });

    auto written = values(x);
    auto added = written;
    for (std::int64_t i = 0; i < ids.size(); ++i) {
      written[static_cast<std::size_t>(place(i))] = twins::at(source, i);
      added[static_cast<std::size_t>(place(i))] += twins::at(source, i);
    }
    check_forms(al::scatter, x, axis, ids, source);
    check_forms(al::scatter_add, x, axis, ids, source);
    check_elements(al::scatter(x, axis, ids, source),
                   [&](std::int64_t i) { return written[static_cast<std::size_t>(i)]; });
    check_elements(al::scatter_add(x, axis, ids, source),
                   [&](std::int64_t i) { return added[static_cast<std::size_t>(i)]; });
  }
}

TEST_CASE("ops/gather: wrong indices and shapes are refused, and nothing is written") {
  const auto x = numbers<real>({3, 5}, 1);
  auto y = al::clone(x);
  for (const std::int64_t wrong : {std::int64_t{5}, std::int64_t{-1}}) {
    auto ids = picks<std::int64_t>({3, 2}, 5);
    ids.data()[3] = wrong;
    CHECK_THROWS_WITH_AS(
        al::gather(x, 1, ids),
        ("ashlar::gather: index " + std::to_string(wrong) + " at place 3; the axis has 5 places")
            .c_str(),
        al::argument_error);
    CHECK_THROWS_AS(al::scatter_add.in_place(y, 1, ids, numbers<real>({3, 2})), al::argument_error);
    check_same(y, x);
  }
  CHECK_THROWS_AS(al::gather(x, 1, picks<std::int32_t>({4, 2}, 5)), al::shape_error);
  CHECK_THROWS_AS(al::gather(x, 1, picks<std::int32_t>({3}, 5)), al::shape_error);
  CHECK_THROWS_AS(al::gather(x, 2, picks<std::int32_t>({3, 2}, 5)), al::argument_error);
  CHECK_THROWS_AS(al::scatter(x, 1, picks<std::int32_t>({3, 2}, 5), numbers<real>({3, 3})),
                  al::shape_error);
  CHECK_THROWS_AS(al::index_select(x, 0, picks<std::int32_t>({3, 1}, 3)), al::shape_error);
}

TEST_CASE("ops/gather: index_select copies places, one_hot marks them") {
  const auto ids = picks<std::int64_t>({4}, 3);
  for (const std::int64_t axis : {0, 1, -1}) {
    const auto x = numbers<real>({3, 3, 5}, 1);
    const auto y = check_output(al::index_select, x, axis, ids);
    const int a = axis < 0 ? 2 : static_cast<int>(axis);
    for (std::int64_t i = 0; i < y.size(); ++i) {
      auto from = indices(al::shape(y.shape()), i);
      from[static_cast<std::size_t>(a)] = at(ids, from[static_cast<std::size_t>(a)]);
      CHECK(at(y, i) == at(x, flat(al::shape(x.shape()), from)));
    }
  }
  const auto y = al::one_hot<real>(ids, 3);
  CHECK(values(y) == std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0});
  CHECK(al::one_hot<real>(picks<std::int32_t>({0}, 3), 3).size() == 0);
  real given = al::full<real>({4, 3}, 7.0);
  const float* const place = given.data();
  al::one_hot<real>.out(given, ids, 3);
  check_same(given, y);
  CHECK(given.data() == place);
  real strided = scattered(al::full<real>({4, 3}, 7.0));
  al::one_hot<real>.out(strided, ids, 3);
  check_same(strided, y);
  for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{3}}) {
    CHECK_THROWS_AS(al::one_hot<real>(al::full<number_of_place>({2}, double(wrong)), 3),
                    al::argument_error);
    CHECK_THROWS_AS(al::index_select(y, 1, al::full<number_of_place>({2}, double(wrong))),
                    al::argument_error);
    const auto nothing = al::narrow(y, 0, 0, 0);  // (0, 3)
    CHECK_THROWS_AS(al::index_select(nothing, 1, al::full<number_of_place>({2}, double(wrong))),
                    al::argument_error);
    CHECK(al::shape(al::index_select(nothing, 1, al::full<number_of_place>({2}, 2)).shape()) ==
          al::shape{0, 2});
  }
  CHECK_THROWS_AS(al::one_hot<real>(ids, -1), al::argument_error);
  // More classes than the ids can name: none of them comes back as another one.
  const auto narrow = al::from_values<plain<std::uint8_t>>({1}, {3});
  CHECK(al::item(al::sum(al::one_hot<real>(narrow, 300))) == 1.0F);
}

TEST_CASE("ops/sort: places are those of a stable sort with NaN last, in all forms") {
  for (const al::shape& s : {al::shape{}, {1}, {7}, {0, 3}, {3, 0}, {5, 1, 4}, {2, 67}}) {
    auto x = numbers<real>(s, 1);
    for (std::int64_t i = 0; i < x.size(); i += 3) {
      x.data()[i] = i % 2 == 0 ? 0.5F : std::numeric_limits<float>::quiet_NaN();
    }
    for (const std::int64_t axis : {0, -1}) {
      for (const bool down : {false, true}) {
        const auto places = check_output(al::argsort, x, axis, down);
        CHECK(al::same_shape(places.spec(), x.spec()));
        if (s.rank() != 1) {
          continue;  // the rows below
        }
        std::vector<std::int64_t> order(static_cast<std::size_t>(x.size()));
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(order, [&](std::int64_t i, std::int64_t j) {
          const float a = down ? at(x, j) : at(x, i);
          const float b = down ? at(x, i) : at(x, j);
          return a < b || (std::isnan(b) && !std::isnan(a));
        });
        CHECK(values(places) == order);
      }
    }
  }
  // Along an axis: each row is sorted as if it were alone.
  const auto x = numbers<real>({4, 3, 5}, 2);
  const auto places = al::argsort(x, 1, true);
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t j = 0; j < 5; ++j) {
      const auto row = al::select(al::select(x, 0, i), 1, j);
      CHECK(values(al::select(al::select(places, 0, i), 1, j)) ==
            values(al::argsort(row, 0, true)));
    }
  }
}

TEST_CASE("ops/sort: topk is the beginning of a sort, with its values") {
  const auto x = numbers<real>({3, 17}, 1);
  for (const bool largest : {false, true}) {
    const auto all = check_output(al::sort, x, -1, largest);
    for (const std::int64_t k : {0, 1, 5, 17}) {
      const auto top = check_output(al::topk, x, k, -1, largest);
      check_same(std::get<0>(top), al::clone(al::narrow(std::get<0>(all), 1, 0, k)));
      check_same(std::get<1>(top), al::clone(al::narrow(std::get<1>(all), 1, 0, k)));
      check_same(std::get<0>(top), al::gather(x, 1, std::get<1>(top)));
    }
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(al::topk(x, 18)),
                       "ashlar::topk: 18 places of 17; they must all exist", al::argument_error);
  // A wrong place for one result: neither is written.
  auto kept = std::tuple(al::zeros<real>({3, 2}),
                         al::expand(al::zeros<plain<std::int64_t>>({3, 1}), {3, 2}));
  CHECK_THROWS_AS(al::topk.out(kept, x, 2), al::overlap_error);
  CHECK(al::item(al::sum(al::abs(std::get<0>(kept)))) == 0);
  const auto least = std::get<0>(al::topk(numbers<plain<std::int32_t>>({5}), 2, 0, false));
  CHECK(at(least, 0) <= at(least, 1));
  const auto alone = check_output(al::topk, numbers<real>({}), 1);
  CHECK(at(std::get<1>(alone), 0) == 0);
}

TEST_CASE("ops/cumsum: sums run along the axis in turn, from either end, in all forms") {
  for (const al::shape& s : {al::shape{}, {0}, {1}, {7}, {3, 5, 2}, {2, 0, 3}}) {
    const auto x = numbers<real>(s, 1);
    for (const std::int64_t axis : {0, -1}) {
      for (const bool from_end : {false, true}) {
        check_forms(al::cumsum, x, axis, from_end);
        const auto y = al::cumsum(x, axis, from_end);
        const int a = axis == 0 ? 0 : std::max(s.rank() - 1, 0);
        for (std::int64_t i = 0; i < x.size() && s.rank() > 0; ++i) {
          auto from = indices(s, i);
          auto& place = from[static_cast<std::size_t>(a)];
          const std::int64_t last = place;
          float sum = 0;
          for (std::int64_t n = 0; n <= (from_end ? s[a] - 1 - last : last); ++n) {
            place = from_end ? s[a] - 1 - n : n;
            sum += at(x, flat(s, from));
          }
          CHECK(at(y, i) == sum);
        }
      }
    }
  }
  const auto counts = al::cumsum(al::from_values<plain<bool>>({4}, {true, false, true, true}));
  CHECK(values(counts) == std::vector<std::int64_t>{1, 1, 2, 3});
}

TEST_CASE("ops/unfold: windows are a view, and their gradient adds them up") {
  const auto x = numbers<real>({2, 11, 3}, 1);
  for (const auto& v : {x, scattered(x)}) {
    const auto w = al::unfold(v, 1, 3, 2, 2);  // places 0 2 4, 2 4 6, 4 6 8, 6 8 10
    CHECK(al::shape(w.shape()) == al::shape{2, 4, 3, 3});
    CHECK(w.data() == v.data());
    for (std::int64_t b = 0; b < 2; ++b) {
      for (std::int64_t n = 0; n < 4; ++n) {
        for (std::int64_t c = 0; c < 3; ++c) {
          for (std::int64_t k = 0; k < 3; ++k) {
            CHECK(w.view()(b, n, c, k) == v.view()(b, 2 * n + 2 * k, c));
          }
        }
      }
    }
  }
  const auto g = numbers<real>({2, 4, 3, 3}, 2);
  const auto back = [](const auto& w) {
    return al::call<al::ops::unfold_backward>(w, al::shape{2, 11, 3}, std::int64_t{1},
                                              std::int64_t{3}, std::int64_t{2}, std::int64_t{2});
  };
  check_output(of<al::ops::unfold_backward>, g, al::shape{2, 11, 3}, std::int64_t{1},
               std::int64_t{3}, std::int64_t{2}, std::int64_t{2});
  check_elements(back(g), [&](std::int64_t i) {
    const std::int64_t b = i / 33;
    const std::int64_t at_place = i / 3 % 11;
    float sum = 0;
    for (std::int64_t k = 0; k < 3; ++k) {
      const std::int64_t twice = at_place - 2 * k;
      if (twice >= 0 && twice % 2 == 0 && twice / 2 < 4) {
        sum += g.view()(b, twice / 2, i % 3, k);
      }
    }
    return sum;
  });
  CHECK(al::unfold(numbers<real>({0, 5}), 1, 5).size() == 0);
  CHECK_THROWS_AS(al::unfold(x, 1, 12), al::argument_error);
  CHECK_THROWS_AS(al::unfold(x, 1, 6, 1, 3), al::argument_error);
  CHECK_THROWS_AS(al::unfold(x, 1, 3, 0), al::argument_error);
  CHECK_THROWS_AS(al::unfold(x, 1, 0), al::argument_error);
}

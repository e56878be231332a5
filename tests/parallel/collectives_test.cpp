// SPDX-License-Identifier: Apache-2.0
#include "ashlar/parallel/collectives.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "ashlar/comm/threads.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/passes/reorder.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"

namespace al = ashlar;
namespace comm = al::comm;
namespace graph = al::graph;
namespace parallel = al::parallel;

namespace {

using real =
    graph::capturable<al::tensor<float, al::make_key_set<al::keys::backend<al::chip::host>>>>;

using values = std::vector<float>;
using words = std::vector<std::string_view>;

words names(const graph::graph& g) {
  words all;
  for (const graph::node& n : g.nodes) {
    if (n.op) {
      all.push_back(n.op->name);
    }
  }
  return all;
}
bool begins(const graph::node& n) {
  return graph::is_call_of<parallel::collective_ops::begin_all_reduce>(n) ||
         graph::is_call_of<parallel::collective_ops::begin_all_gather>(n) ||
         graph::is_call_of<parallel::collective_ops::begin_reduce_scatter>(n);
}
/// Whole numbers, so that no order of sums rounds: element i of rank r is i + 10 r.
real mine(int rank, std::int64_t rows) {
  return al::scale(al::arange<real>(2 * rows), 1.0, 10.0 * rank);
}

/// Two layers of a backward pass: each gradient is summed over the ranks while the next is
/// computed.
struct step {
  parallel::communicator to;

  auto operator()(const real& x) const {
    const real second = al::scale(x, 2.0);
    const real summed = parallel::all_reduce(second, to);
    const real first = al::square(second);
    const real all = parallel::all_gather(first, to);
    const real here = al::neg(al::abs(first));
    const real later = al::scale(summed, 0.5, 1.0);
    return std::tuple(later, al::neg(all), here);
  }
};

}  // namespace

TEST_CASE("parallel/collectives: as operators they give what naive sums over the ranks give") {
  for (const int ranks : {1, 2, 3}) {
    for (const std::int64_t rows : {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}}) {
      const auto got = comm::run(ranks, [&](comm::threads& t) {
        const parallel::communicator to(t);
        const real x = mine(t.rank(), rows);
        const real whole = mine(t.rank(), rows * ranks);
        auto all = std::tuple(al::to_vector(parallel::all_reduce(x, to)),
                              al::to_vector(parallel::all_gather(x, to)),
                              al::to_vector(parallel::reduce_scatter(whole, to)));
        return std::pair(all, to.under_way());
      });
      values sum, gathered;
      for (std::int64_t i = 0; i < 2 * rows * ranks; ++i) {
        float total = 0;
        for (int r = 0; r < ranks; ++r) {
          total += static_cast<float>(i) + 10 * static_cast<float>(r);
        }
        sum.push_back(total);
      }
      for (int r = 0; r < ranks; ++r) {
        for (std::int64_t i = 0; i < 2 * rows; ++i) {
          gathered.push_back(static_cast<float>(i) + 10 * static_cast<float>(r));
        }
      }
      for (int r = 0; r < ranks; ++r) {
        const auto& all = got[static_cast<std::size_t>(r)].first;
        const auto first = sum.begin() + 2 * rows * r;
        CHECK(std::get<0>(all) == values(sum.begin(), sum.begin() + 2 * rows));
        CHECK(std::get<1>(all) == gathered);
        CHECK(std::get<2>(all) == values(first, first + 2 * rows));
        CHECK(got[static_cast<std::size_t>(r)].second == 0);
      }
    }
  }
}

TEST_CASE("parallel/collectives: several without elements are under way at once") {
  comm::run(2, [](comm::threads& t) {
    const parallel::communicator to(t);
    const real nothing = mine(t.rank(), 0), x = mine(t.rank(), 3);
    const real first = parallel::begin_all_reduce(nothing, to);
    const real second = parallel::begin_all_gather(nothing, to);
    const real third = parallel::begin_all_reduce(x, to);
    CHECK(to.under_way() == 3);
    CHECK(al::to_vector(parallel::finish(second, to)).empty());
    CHECK(al::to_vector(parallel::finish(third, to)) == values{10, 12, 14, 16, 18, 20});
    CHECK(al::to_vector(parallel::finish(first, to)).empty());
    CHECK(to.under_way() == 0);
    CHECK_THROWS_AS(static_cast<void>(parallel::finish(first, to)), al::argument_error);
    // In an arena they may stand where another's elements do.
    const auto f = [&](const real& a, const real& b) {
      const real begun = parallel::begin_all_reduce(a, to);
      const real more = parallel::begin_all_reduce(b, to);
      const real again = parallel::begin_all_gather(a, to);
      return std::tuple(parallel::finish(again, to), parallel::finish(more, to),
                        parallel::finish(begun, to));
    };
    const auto out =
        graph::planned<al::chip::host>{}.compile(graph::capture(f, nothing, x))(nothing, x);
    CHECK(al::to_vector(real(out[0])).empty());
    CHECK(al::to_vector(real(out[1])) == values{10, 12, 14, 16, 18, 20});
    CHECK(to.under_way() == 0);
  });
}

TEST_CASE("parallel/collectives: captured ones begin early, and who waits for them comes late") {
  const auto got = comm::run(3, [&](comm::threads& t) {
    const step f{parallel::communicator(t)};
    const real x = mine(t.rank(), 5);
    const auto y = f(x);
    const std::vector<values> expected{al::to_vector(std::get<0>(y)), al::to_vector(std::get<1>(y)),
                                       al::to_vector(std::get<2>(y))};
    const graph::graph g = graph::capture(f, x);
    const graph::graph now = graph::reorder_for_overlap(g, begins);
    verify(now);
    int equal = 0;
    const auto check = [&](auto compiled) {
      for (int again = 0; again < 2; ++again) {
        const auto out = compiled(x);
        std::vector<values> elements;
        for (const al::tensor_handle& element : out) {
          elements.push_back(al::to_vector(real(element)));
        }
        equal += elements == expected ? 1 : 0;
      }
    };
    check(graph::eager{}.compile(g));
    check(graph::eager{}.compile(now));
    check(graph::planned<al::chip::host>{}.compile(now));
    return std::tuple(names(g), names(now), equal, f.to.under_way());
  });
  for (const auto& each : got) {
    CHECK(std::get<0>(each) == words{"scale", "begin_all_reduce", "finish", "square",
                                     "begin_all_gather", "finish", "abs", "neg", "scale", "neg"});
    // Both are under way before anybody waits, and what needs neither runs in between.
    CHECK(std::get<1>(each) == words{"scale", "begin_all_reduce", "square", "begin_all_gather",
                                     "abs", "neg", "finish", "scale", "finish", "neg"});
    CHECK(std::get<2>(each) == 6);
    CHECK(std::get<3>(each) == 0);
  }
}

TEST_CASE("parallel/collectives: shapes that do not divide, and waiting for nothing, are errors") {
  comm::run(2, [](comm::threads& t) {
    const parallel::communicator to(t);
    const real x = al::ones<real>({3, 2});
    CHECK_THROWS_AS(static_cast<void>(parallel::reduce_scatter(x, to)), al::argument_error);
    CHECK_THROWS_AS(static_cast<void>(parallel::all_gather(al::ones<real>({}), to)),
                    al::argument_error);
    CHECK_THROWS_AS(static_cast<void>(parallel::finish(x, to)), al::argument_error);
    CHECK(to == parallel::communicator(to));
    CHECK(!(to == parallel::communicator(t)));

    values one{1, 2}, more(3);
    const al::tensor_spec two = al::contiguous_spec(al::dtype::float32, al::shape{2}.span()),
                          three = al::contiguous_spec(al::dtype::float32, al::shape{3}.span());
    to.begin<float>(
        one.data(), {one.data(), &two}, 2, {0, 2}, {0, 2}, [](auto& end, auto all, int channel) {
          return comm::start_all_reduce(end, all, comm::sum_op{}, comm::ordered{}, channel);
        });
    CHECK_THROWS_AS(to.finish<float>({more.data(), &three}, one.data()), al::argument_error);
    to.finish<float>({more.data(), &two}, one.data());
    CHECK(more == values{2, 4, 0});
  });
}

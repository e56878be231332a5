// SPDX-License-Identifier: Apache-2.0
// Every algorithm's schedules for all ranks, run on one thread against a naive reference.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ashlar/comm/algorithms/doubling.hpp"
#include "ashlar/comm/algorithms/exchange.hpp"
#include "ashlar/comm/algorithms/ring.hpp"
#include "ashlar/comm/algorithms/tree.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/core/error.hpp"
#include "laws/schedule.hpp"

namespace comm = ashlar::comm;
namespace laws = ashlar::laws;

namespace {

const std::vector<int> rank_counts{1,  2,  3,  4,  5,  6,  7,  8,  9, 10,
                                   11, 12, 13, 14, 15, 16, 17, 24, 32};
const std::vector<std::size_t> sizes{0, 1, 2, 7, 64, 1000, 100003};

using make = std::function<comm::schedule(const comm::problem&)>;
using number = std::int32_t;

std::vector<number> numbers(std::size_t n, int rank) {
  std::vector<number> v(n);
  auto state = static_cast<std::uint32_t>(rank * 2654435 + 12345);
  for (number& x : v) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<number>(state >> 4);  // sums wrap around
  }
  return v;
}
std::vector<std::vector<number>> numbers_of_all(int p, std::size_t n) {
  std::vector<std::vector<number>> all;
  for (int r = 0; r < p; ++r) {
    all.push_back(numbers(n, r));
  }
  return all;
}
std::vector<number> sum_of_all(int p, std::size_t n) {
  std::vector<number> sum(n);
  for (int r = 0; r < p; ++r) {
    const auto x = numbers(n, r);
    for (std::size_t i = 0; i < n; ++i) {
      sum[i] = comm::sum(sum[i], x[i]);
    }
  }
  return sum;
}

std::vector<comm::schedule> plans(const make& how, int p, std::size_t n, int root = 0) {
  std::vector<comm::schedule> all;
  for (int r = 0; r < p; ++r) {
    all.push_back(how(comm::problem::even(p, r, n, sizeof(number), root)));
  }
  return all;
}

template <class F>
void sweep(const F& f) {
  for (const int p : rank_counts) {
    for (const std::size_t n : sizes) {
      CAPTURE(p);
      CAPTURE(n);
      f(p, n);
    }
  }
}

const comm::reducer add = comm::reducer_of<number, comm::sum_op>;

template <class A>
make all_reduce_of(A how) {
  return [how](const comm::problem& q) { return how.all_reduce(q); };
}

}  // namespace

TEST_CASE("comm/schedule: every all-reduce gives every rank the sum") {
  const std::map<std::string, make> algorithms{
      {"ring", all_reduce_of(comm::ring{})},
      {"segmented ring", all_reduce_of(comm::segmented_ring{4096})},
      {"recursive doubling", all_reduce_of(comm::recursive_doubling{})},
      {"rabenseifner", all_reduce_of(comm::rabenseifner{})},
      {"binomial", all_reduce_of(comm::binomial{})},
      {"chain", all_reduce_of(comm::chain{4096})},
      {"double tree", all_reduce_of(comm::double_tree{4096})},
      {"hierarchical 4", all_reduce_of(comm::hierarchical{4})},
      {"hierarchical 3", all_reduce_of(comm::hierarchical{3})},
      {"ordered", all_reduce_of(comm::ordered{})}};
  sweep([&](int p, std::size_t n) {
    const auto expected = sum_of_all(p, n);
    for (const auto& named : algorithms) {
      const auto& name = named.first;
      const auto& how = named.second;
      auto data = numbers_of_all(p, n);
      const auto run = laws::run_all(plans(how, p, n), data, add);
      bool right = run.outcome.complete();
      for (const auto& x : data) {
        right = right && x == expected;
      }
      CHECK_MESSAGE(right, name);
      CHECK_MESSAGE(run.broken == "", name);
    }
  });
}

TEST_CASE("comm/schedule: reduce-scatter and all-gather do it for equal and unequal parts") {
  const std::map<std::string, make> scatters{
      {"ring", [](const comm::problem& q) { return comm::ring{}.reduce_scatter(q); }},
      {"halving", [](const comm::problem& q) { return comm::rabenseifner{}.reduce_scatter(q); }},
      {"ordered", [](const comm::problem& q) { return comm::ordered{}.reduce_scatter(q); }}};
  const std::map<std::string, make> gathers{
      {"ring", [](const comm::problem& q) { return comm::ring{}.all_gather(q); }},
      {"doubling", [](const comm::problem& q) { return comm::recursive_doubling{}.all_gather(q); }},
      {"bruck", [](const comm::problem& q) { return comm::bruck{}.all_gather(q); }}};
  sweep([&](int p, std::size_t n) {
    std::vector<std::size_t> counts(static_cast<std::size_t>(p),
                                    n / static_cast<std::size_t>(p) / 2);
    counts[static_cast<std::size_t>(p / 2)] = 0;
    std::size_t given = 0;
    for (std::size_t i = 1; i < counts.size(); ++i) {
      given += counts[i];
    }
    counts[0] = n - given;
    const auto sum = sum_of_all(p, n);
    for (const comm::partition& parts : {comm::partition(n, p), comm::partition(counts)}) {
      const auto with_parts = [&](const make& how) {
        return [&parts, &how](comm::problem q) {
          q.parts = parts;
          return how(q);
        };
      };
      for (const auto& named : scatters) {
        const auto& name = named.first;
        const auto& how = named.second;
        auto data = numbers_of_all(p, n);
        const auto run = laws::run_all(plans(with_parts(how), p, n), data, add);
        bool right = run.outcome.complete() && run.broken.empty();
        for (int r = 0; r < p; ++r) {
          for (std::size_t i = parts.at(r).first; i < parts.at(r).last; ++i) {
            right = right && data[static_cast<std::size_t>(r)][i] == sum[i];
          }
        }
        CHECK_MESSAGE(right, name);
      }
      for (const auto& named : gathers) {
        const auto& name = named.first;
        const auto& how = named.second;
        const auto whole = numbers(n, 77);
        std::vector<std::vector<number>> data;
        for (int r = 0; r < p; ++r) {
          std::vector<number> own(n, -1);
          std::copy(whole.begin() + static_cast<std::ptrdiff_t>(parts.at(r).first),
                    whole.begin() + static_cast<std::ptrdiff_t>(parts.at(r).last),
                    own.begin() + static_cast<std::ptrdiff_t>(parts.at(r).first));
          data.push_back(std::move(own));
        }
        const auto run = laws::run_all(plans(with_parts(how), p, n), data, nullptr);
        bool right = run.outcome.complete() && run.broken.empty();
        for (const auto& x : data) {
          right = right && x == whole;
        }
        CHECK_MESSAGE(right, name);
      }
    }
  });
}

TEST_CASE("comm/schedule: broadcast and reduce work from and to every root") {
  const std::map<std::string, make> broadcasts{
      {"binomial", [](const comm::problem& q) { return comm::binomial{}.broadcast(q); }},
      {"scatter", [](const comm::problem& q) { return comm::scatter_gather{}.broadcast(q); }},
      {"chain", [](const comm::problem& q) { return comm::chain{4096}.broadcast(q); }}};
  const std::map<std::string, make> reductions{
      {"binomial", [](const comm::problem& q) { return comm::binomial{}.reduce(q); }},
      {"scatter", [](const comm::problem& q) { return comm::scatter_gather{}.reduce(q); }},
      {"chain", [](const comm::problem& q) { return comm::chain{4096}.reduce(q); }}};
  sweep([&](int p, std::size_t n) {
    const auto sum = sum_of_all(p, n);
    for (int root = 0; root<p; root += n> 1000 ? 5 : 1) {
      CAPTURE(root);
      const auto at = static_cast<std::size_t>(root);
      for (const auto& named : broadcasts) {
        const auto& name = named.first;
        const auto& how = named.second;
        auto data = numbers_of_all(p, n);
        const auto run = laws::run_all(plans(how, p, n, root), data, nullptr);
        bool right = run.outcome.complete() && run.broken.empty();
        for (const auto& x : data) {
          right = right && x == data[at];
        }
        CHECK_MESSAGE((right && data[at] == numbers(n, root)), name);
      }
      for (const auto& named : reductions) {
        const auto& name = named.first;
        const auto& how = named.second;
        auto data = numbers_of_all(p, n);
        const auto run = laws::run_all(plans(how, p, n, root), data, add);
        CHECK_MESSAGE((run.outcome.complete() && run.broken.empty() && data[at] == sum), name);
      }
    }
  });
}

TEST_CASE("comm/schedule: all-to-all gives everyone what everyone has for it") {
  for (const int p : rank_counts) {
    CAPTURE(p);
    const auto count = static_cast<std::size_t>(p);
    for (const std::size_t block : {0u, 1u, 7u, 500u}) {
      CAPTURE(block);
      for (const bool short_messages : {false, true}) {
        auto inputs = numbers_of_all(p, block * count);
        std::vector<std::vector<number>> data(count, std::vector<number>(block * count, -1));
        std::vector<comm::schedule> all;
        for (int r = 0; r < p; ++r) {
          const auto q = comm::exchange::even(p, r, block);
          all.push_back(short_messages ? comm::bruck{}.all_to_all(q)
                                       : comm::pairwise{}.all_to_all(q));
        }
        const auto run = laws::run_all(all, data, nullptr, inputs);
        bool right = run.outcome.complete() && run.broken.empty();
        for (std::size_t to = 0; to < count; ++to) {
          for (std::size_t i = 0; i < block * count; ++i) {
            right = right && data[to][i] == inputs[i / block][to * block + i % block];
          }
        }
        CHECK(right);
        const int rounds = comm::detail::log2_up(p);
        CHECK(run.outcome.messages ==
              count * static_cast<std::size_t>(short_messages ? rounds : p - 1));
      }
    }
    // Rank a sends (a + 2 b) % 5 elements to rank b.
    const auto size = [](int a, int b) { return static_cast<std::size_t>((a + 2 * b) % 5); };
    std::vector<comm::schedule> all;
    std::vector<std::vector<number>> inputs;
    std::vector<std::vector<number>> data;
    std::vector<std::vector<number>> expected;
    for (int r = 0; r < p; ++r) {
      std::vector<std::size_t> out;
      std::vector<std::size_t> in;
      inputs.emplace_back();
      expected.emplace_back();
      for (int k = 0; k < p; ++k) {
        out.push_back(size(r, k));
        in.push_back(size(k, r));
        inputs.back().insert(inputs.back().end(), size(r, k), r * 100 + k);
        expected.back().insert(expected.back().end(), size(k, r), k * 100 + r);
      }
      data.emplace_back(expected.back().size(), -1);
      all.push_back(comm::pairwise{}.all_to_all(
          comm::exchange{p, r, comm::partition(out), comm::partition(in)}));
    }
    CHECK(laws::run_all(all, data, nullptr, inputs).outcome.complete());
    CHECK(data == expected);
  }
}

TEST_CASE("comm/schedule: fixed_order gives the bits of rank order, whatever the algorithm") {
  using comm::fixed_order;
  const auto value = [](int rank, std::size_t i) {
    std::mt19937 random(static_cast<std::uint32_t>(rank) * 7919u + static_cast<std::uint32_t>(i));
    return static_cast<float>(std::ldexp(static_cast<double>(random() % 100003) - 50001.0,
                                         static_cast<int>(random() % 21) - 10));
  };
  const std::map<std::string, make> algorithms{
      {"ring", all_reduce_of(fixed_order<comm::ring>{})},
      {"segmented ring", all_reduce_of(fixed_order<comm::segmented_ring>{})},
      {"recursive doubling", all_reduce_of(fixed_order<comm::recursive_doubling>{})},
      {"rabenseifner", all_reduce_of(fixed_order<comm::rabenseifner>{})},
      {"binomial", all_reduce_of(fixed_order<comm::binomial>{})},
      {"chain", all_reduce_of(fixed_order<comm::chain>{{64}})},
      {"double tree", all_reduce_of(fixed_order<comm::double_tree>{})},
      {"hierarchical", all_reduce_of(fixed_order<comm::hierarchical>{{4}})},
      {"ordered", all_reduce_of(comm::ordered{})}};
  for (const int p : rank_counts) {
    for (const std::size_t n : {0u, 1u, 7u, 1000u}) {
      CAPTURE(p);
      CAPTURE(n);
      std::vector<std::vector<float>> given;
      for (int r = 0; r < p; ++r) {
        given.emplace_back();
        for (std::size_t i = 0; i < n; ++i) {
          given.back().push_back(value(r, i));
        }
      }
      std::vector<std::uint32_t> expected(n);
      for (std::size_t i = 0; i < n; ++i) {
        float x = given[0][i];
        for (int r = 1; r < p; ++r) {
          x = x + given[static_cast<std::size_t>(r)][i];
        }
        expected[i] = std::bit_cast<std::uint32_t>(x);
      }
      for (const auto& named : algorithms) {
        const auto& name = named.first;
        const auto& how = named.second;
        auto data = given;
        const auto run =
            laws::run_all(plans(how, p, n), data, comm::reducer_of<float, comm::sum_op>);
        bool right = run.outcome.complete() && run.broken.empty();
        for (const auto& x : data) {
          for (std::size_t i = 0; i < n; ++i) {
            right = right && std::bit_cast<std::uint32_t>(x[i]) == expected[i];
          }
        }
        CHECK_MESSAGE(right, name);
      }
    }
  }
}

TEST_CASE("comm/schedule: rounds, messages and elements are those of the closed forms") {
  for (const int p : rank_counts) {
    CAPTURE(p);
    const auto n = static_cast<std::size_t>(p) * 64;  // parts are equal, also in powers of two
    const auto ranks = static_cast<std::size_t>(p);
    const auto run = [&](const make& how, int root = 0) {
      auto data = numbers_of_all(p, n);
      return laws::run_all(plans(how, p, n, root), data, add).outcome;
    };
    const int up = comm::detail::log2_up(p);
    const comm::detail::folding f(p);
    const int fold = f.rest > 0 ? 2 : 0;
    const auto rest = static_cast<std::size_t>(f.rest);
    const auto pow2 = static_cast<std::size_t>(f.pow2);

    auto o = run(all_reduce_of(comm::ring{}));
    CHECK(o.rounds == 2 * (p - 1));
    CHECK(o.most_elements == 2 * n * (ranks - 1) / ranks);
    CHECK(o.elements == 2 * n * (ranks - 1));

    o = run(all_reduce_of(comm::segmented_ring{n}));  // bytes: four pieces
    CHECK(o.rounds == 5 * (p - 1));
    CHECK(o.elements == 2 * n * (ranks - 1));

    o = run(all_reduce_of(comm::recursive_doubling{}));
    CHECK(o.rounds == f.levels() + fold);
    CHECK(o.elements == n * (pow2 * static_cast<std::size_t>(f.levels()) + 2 * rest));

    o = run(all_reduce_of(comm::rabenseifner{}));
    CHECK(o.rounds == 2 * f.levels() + fold);
    CHECK(o.elements == 2 * n * (pow2 - 1) + 2 * rest * n);

    o = run(all_reduce_of(comm::binomial{}));
    CHECK(o.rounds == 2 * up);
    CHECK(o.elements == 2 * n * (ranks - 1));

    o = run(all_reduce_of(comm::chain{n}));
    CHECK(o.rounds == (p == 1 ? 0 : 2 * (4 + p - 2)));
    CHECK(o.elements == 2 * n * (ranks - 1));

    o = run(all_reduce_of(comm::double_tree{n / 2}));  // four pieces of each half
    CHECK(o.rounds == (p == 1 ? 0 : 2 * up + 4 - 1));
    CHECK(o.elements == 2 * n * (ranks - 1));
    CHECK(o.most_elements <= 2 * n);

    if (p % 4 == 0) {
      o = run(all_reduce_of(comm::hierarchical{4}));
      CHECK(o.rounds == 2 * 3 + 2 * (p / 4 - 1));
      CHECK(o.most_elements == 2 * n * 3 / 4 + 2 * (n / 4) * (ranks / 4 - 1) / (ranks / 4));
    }

    o = run([](const comm::problem& q) { return comm::bruck{}.all_gather(q); });
    CHECK(o.elements == n * (ranks - 1));
    CHECK(o.messages == ranks * static_cast<std::size_t>(up));

    o = run([](const comm::problem& q) { return comm::scatter_gather{}.broadcast(q); }, p / 2);
    CHECK(o.rounds == up + p - 1);
    o = run([](const comm::problem& q) { return comm::dissemination{}.barrier(q); });
    CHECK(o.rounds == up);
    CHECK(o.messages == ranks * static_cast<std::size_t>(up));
    CHECK(o.elements == 0);
  }
}

TEST_CASE("comm/schedule: more segments than rounds can count are refused") {
  const auto problem = [](int ranks, std::size_t count) {
    return comm::problem::even(ranks, 0, count, 4);
  };
  constexpr std::size_t many = std::size_t{1} << 32;
  CHECK_THROWS_AS(static_cast<void>(comm::segmented_ring{4}.all_reduce(problem(2, many))),
                  ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(comm::segmented_ring{4}.all_reduce(problem(9, many >> 3))),
                  ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(comm::chain{4}.all_reduce(problem(3, many))),
                  ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(comm::chain{4}.all_reduce(problem(100, (many >> 2) - 1))),
                  ashlar::argument_error);
  CHECK_THROWS_AS(static_cast<void>(comm::double_tree{4}.all_reduce(problem(3, many))),
                  ashlar::argument_error);
  CHECK(comm::segmented_ring{4}.all_reduce(problem(2, 5)).rounds() == 6);
  CHECK(comm::segmented_ring{~std::size_t{0}}.all_reduce(problem(2, 5)).rounds() == 2);
}

TEST_CASE("comm/schedule: of the two trees, nobody but one rank is inside both") {
  for (int p = 2; p <= 200; ++p) {
    int both = 0;
    for (int rank = 0; rank < p; ++rank) {
      const int second = p % 2 == 0 ? p - 1 - rank : (rank + p - 1) % p;
      const auto inside = [p](int v) {
        return comm::detail::in_order_tree(v, p).children != std::array<int, 2>{-1, -1};
      };
      both += inside(rank) && inside(second) ? 1 : 0;
      const comm::detail::in_order_tree node(rank, p);
      CHECK(node.depth <= comm::detail::in_order_tree::height(p));
      for (const int child : node.children) {
        CHECK((child < 0 || comm::detail::in_order_tree(child, p).parent == rank));
      }
    }
    CHECK(both <= 1);
    CHECK((p % 2 != 0 || both == 0));
  }
}

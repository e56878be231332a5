// SPDX-License-Identifier: Apache-2.0
#include "ashlar/comm/collectives.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ashlar/comm/checked.hpp"
#include "ashlar/comm/threads.hpp"

namespace comm = ashlar::comm;

static_assert(comm::ReduceAlgorithm<comm::ring>);
static_assert(comm::ReduceAlgorithm<comm::ordered>);
static_assert(comm::Transport<comm::logged<comm::threads>>);
static_assert(std::is_move_constructible_v<comm::work<comm::threads>>);
static_assert(!std::is_move_assignable_v<comm::work<comm::threads>>);
static_assert(comm::chunk_of(7, 3, 0) == comm::chunk{0, 3});
static_assert(comm::chunk_of(7, 3, 2) == comm::chunk{5, 7});
static_assert(comm::chunk_of(2, 4, 3) == comm::chunk{2, 2});

namespace {

constexpr int most_ranks = 7;
const std::vector<std::size_t> sizes{0, 1, 2, 3, 5, 7, 16, 97, 1024, 4099};

/// Values for which the order of a sum shows in its bits.
template <class T>
std::vector<T> values(std::size_t count, int rank) {
  std::mt19937_64 random(static_cast<std::uint64_t>(rank) * 1000 + count);
  std::vector<T> v(count);
  for (T& x : v) {
    if constexpr (std::is_floating_point_v<T>) {
      x = static_cast<T>(std::ldexp(static_cast<double>(random() % 100003) - 50001,
                                    static_cast<int>(random() % 21) - 10));
    } else {
      x = static_cast<T>(random());  // sums wrap around
    }
  }
  return v;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  using bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::ranges::equal(
      a, b, [](T x, T y) { return std::bit_cast<bits>(x) == std::bit_cast<bits>(y); });
}

/// One rank after the other, element by element, in the order that the algorithm promises.
template <class Algorithm, class T, class Op>
std::vector<T> naive(std::size_t count, int p, Op op) {
  std::vector<std::vector<T>> parts;
  for (int rank = 0; rank < p; ++rank) {
    parts.push_back(values<T>(count, rank));
  }
  std::vector<T> result(count);
  for (int owner = 0; owner < p; ++owner) {
    const auto [first, last] = comm::chunk_of(count, p, owner);
    const int start = std::is_same_v<Algorithm, comm::ring> ? (owner + 1) % p : 0;
    for (std::size_t i = first; i < last; ++i) {
      T x = parts[static_cast<std::size_t>(start)][i];
      for (int k = 1; k < p; ++k) {
        x = op(x, parts[static_cast<std::size_t>((start + k) % p)][i]);
      }
      result[i] = x;
    }
  }
  return result;
}

template <class Algorithm, class T, class Op>
void check_all_reduce(Op op) {
  for (int p = 1; p <= most_ranks; ++p) {
    const auto results = comm::run(p, [op](comm::threads& t) {
      std::vector<std::vector<T>> all;
      for (const std::size_t n : sizes) {
        all.push_back(values<T>(n, t.rank()));
        comm::all_reduce<Algorithm>(t, std::span(all.back()), op);
      }
      return all;
    });
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      CAPTURE(p);
      CAPTURE(sizes[i]);
      const auto expected = naive<Algorithm, T>(sizes[i], p, op);
      for (const auto& rank : results) {
        CHECK(same_bits(rank[i], expected));
      }
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("comm/collectives: all_reduce forms every element in the stated order",
                   Algorithm, comm::ring, comm::ordered) {
  check_all_reduce<Algorithm, float>(comm::sum);
  check_all_reduce<Algorithm, double>(comm::sum);
  check_all_reduce<Algorithm, std::int32_t>(comm::sum);
  check_all_reduce<Algorithm, std::int64_t>(comm::max);
  check_all_reduce<Algorithm, float>(comm::min);
}

TEST_CASE("comm/collectives: on two ranks the ring adds as one rank would") {
  for (const std::size_t n : sizes) {
    CHECK(same_bits(naive<comm::ring, float>(n, 2, comm::sum),
                    naive<comm::ordered, float>(n, 2, comm::sum)));
  }
  // and on more it does not
  CHECK_FALSE(same_bits(naive<comm::ring, float>(1024, 4, comm::sum),
                        naive<comm::ordered, float>(1024, 4, comm::sum)));
}

TEST_CASE_TEMPLATE("comm/collectives: reduce_scatter leaves each rank its chunk of the result",
                   Algorithm, comm::ring, comm::ordered) {
  for (int p = 1; p <= most_ranks; ++p) {
    for (const std::size_t n : {0u, 1u, 3u, 50u, 97u}) {
      const auto expected = naive<Algorithm, double>(n, p, comm::sum);
      const auto chunks = comm::run(p, [n](comm::threads& t) {
        auto data = values<double>(n, t.rank());
        const auto own = comm::reduce_scatter<Algorithm>(t, std::span(data));
        return std::vector<double>(own.begin(), own.end());
      });
      std::vector<double> joined;
      for (const auto& c : chunks) {
        joined.insert(joined.end(), c.begin(), c.end());
      }
      CHECK(same_bits(joined, expected));
    }
  }
}

TEST_CASE("comm/collectives: all_gather puts the chunks together, from inside or outside") {
  for (int p = 1; p <= most_ranks; ++p) {
    for (const std::size_t n : {0u, 2u, 53u}) {
      std::vector<std::int32_t> expected(n);
      std::iota(expected.begin(), expected.end(), 1);
      const auto check = [&](bool inside) {
        const auto got = comm::run(p, [&, inside](comm::threads& t) {
          const auto c = comm::chunk_of(n, p, t.rank());
          std::vector<std::int32_t> all(n, -1);
          const auto own = std::span(all).subspan(c.first, c.size());
          std::vector<std::int32_t> apart(expected.begin() + static_cast<std::ptrdiff_t>(c.first),
                                          expected.begin() + static_cast<std::ptrdiff_t>(c.last));
          if (inside) {
            std::ranges::copy(apart, own.begin());
          }
          comm::all_gather(t, std::span<const std::int32_t>(inside ? own : std::span(apart)),
                           std::span(all));
          return all;
        });
        for (const auto& all : got) {
          CHECK(all == expected);
        }
      };
      check(true);
      check(false);
    }
  }
  CHECK_THROWS_AS(comm::run(2,
                            [](comm::threads& t) {
                              std::vector<float> own(2);
                              std::vector<float> all(5);
                              comm::all_gather(t, std::span<const float>(own), std::span(all));
                            }),
                  ashlar::argument_error);
}

TEST_CASE("comm/collectives: broadcast copies the root's data, in one segment or in many") {
  for (int p = 1; p <= 5; ++p) {
    for (const std::size_t n :
         {std::size_t{0}, std::size_t{1}, std::size_t{16384}, std::size_t{40001}}) {
      for (int root = 0; root < p; ++root) {
        const auto got = comm::run(p, [n, root](comm::threads& t) {
          auto data = values<std::int64_t>(n, t.rank());
          comm::broadcast(t, std::span(data), root);
          return data;
        });
        for (const auto& data : got) {
          CHECK(data == values<std::int64_t>(n, root));
        }
      }
    }
  }
  CHECK_THROWS_AS(comm::run(2,
                            [](comm::threads& t) {
                              std::vector<float> data(1);
                              comm::broadcast(t, std::span(data), 2);
                            }),
                  ashlar::argument_error);
}

TEST_CASE("comm/collectives: nobody leaves a barrier before everyone has come") {
  for (int p = 1; p <= most_ranks; ++p) {
    std::atomic<int> arrived = 0;
    std::atomic<int> early = 0;
    comm::run(p, [&](comm::threads& t) {
      for (int round = 1; round <= 30; ++round) {
        ++arrived;
        comm::barrier(t);
        early += arrived < round * p ? 1 : 0;
        comm::barrier(t);
      }
    });
    CHECK(early == 0);
  }
}

TEST_CASE_TEMPLATE("comm/collectives: all_reduce sends what the formula says", Algorithm,
                   comm::ring, comm::ordered) {
  for (int p = 1; p <= most_ranks; ++p) {
    for (const std::size_t n :
         {std::size_t{0}, std::size_t{3}, std::size_t{97}, std::size_t{5040}}) {
      const auto logs = comm::run(p, [n](comm::threads& t) {
        comm::logged log(t);
        std::vector<float> data(n, 1.0F);
        comm::all_reduce<Algorithm>(log, std::span(data));
        return log.messages();
      });
      std::size_t total = 0;
      for (int rank = 0; rank < p; ++rank) {
        const auto& log = logs[static_cast<std::size_t>(rank)];
        CHECK(std::ssize(log) == 2 * (p - 1));
        std::size_t sent = 0;
        for (const auto& m : log) {
          CHECK(m.from == rank);
          CHECK(m.to != rank);
          if (std::is_same_v<Algorithm, comm::ring>) {
            CHECK(m.to == (rank + 1) % p);
            CHECK(m.step == &m - log.data());  // one message a round
          }
          sent += m.bytes;
        }
        // Chunks differ by at most one element, so a rank is off by less than its messages.
        const double formula = 2.0 * (p - 1) / p * static_cast<double>(n * sizeof(float));
        CHECK(std::abs(static_cast<double>(sent) - formula) <=
              2.0 * (p - 1) * static_cast<double>(sizeof(float)));
        if (n % static_cast<std::size_t>(p) == 0) {
          CHECK(static_cast<double>(sent) == doctest::Approx(formula));
        }
        total += sent;
      }
      CHECK(total == 2 * static_cast<std::size_t>(p - 1) * n * sizeof(float));
    }
  }
}

TEST_CASE_TEMPLATE("comm/collectives: ranks that disagree about the size get a typed error",
                   Algorithm, comm::ring, comm::ordered) {
  for (int p = 2; p <= 5; ++p) {
    for (int odd = 0; odd < p; ++odd) {
      CHECK_THROWS_AS(comm::run(p,
                                [odd](comm::threads& t) {
                                  std::vector<float> data(t.rank() == odd ? 8 : 7);
                                  comm::all_reduce<Algorithm>(t, std::span(data));
                                }),
                      comm::collective_mismatch);
    }
  }
}

TEST_CASE("comm/collectives: a rank that throws inside a series of collectives frees the others") {
  for (int p = 2; p <= 5; ++p) {
    CHECK_THROWS_AS(comm::run(p,
                              [](comm::threads& t) {
                                std::vector<double> data(33, 1.0);
                                for (int i = 0; i < 10; ++i) {
                                  if (t.rank() == 1 && i == 5) {
                                    throw std::runtime_error("out of memory");
                                  }
                                  comm::all_reduce<comm::ring>(t, std::span(data));
                                  comm::barrier(t);
                                }
                              }),
                    std::runtime_error);
  }
}

TEST_CASE("comm/reduce: a NaN passes through min and max from either side") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(comm::min(nan, 1.0F)));
  CHECK(std::isnan(comm::min(1.0F, nan)));
  CHECK(std::isnan(comm::max(nan, 1.0F)));
  CHECK(std::isnan(comm::max(1.0F, nan)));
  CHECK(comm::sum(std::numeric_limits<std::int32_t>::max(), 1) ==
        std::numeric_limits<std::int32_t>::min());
}

TEST_CASE("comm/collectives: every algorithm over threads, all elements and operations") {
  const auto results = comm::run(3, [](comm::threads& t) {
    int wrong = 0;
    const auto check = [&](auto how, auto op, auto element, double expected) {
      using T = decltype(element);
      std::vector<T> data(37, static_cast<T>(static_cast<float>(t.rank() + 1)));
      comm::all_reduce(t, std::span(data), op, how);
      for (const T x : data) {
        wrong += static_cast<double>(x) == expected ? 0 : 1;
      }
    };
    const auto each_op = [&](auto how, auto element) {
      check(how, comm::sum, element, 6);
      check(how, comm::prod, element, 6);
      check(how, comm::min, element, 1);
      check(how, comm::max, element, 3);
      check(how, comm::avg, element, 2);
    };
    each_op(comm::ring{}, float{});
    each_op(comm::ring{}, std::uint8_t{});
    each_op(comm::recursive_doubling{}, std::int8_t{});
    each_op(comm::recursive_doubling{}, double{});
    each_op(comm::rabenseifner{}, ashlar::float16{});
    each_op(comm::rabenseifner{}, std::int32_t{});
    each_op(comm::double_tree{}, ashlar::bfloat16{});
    each_op(comm::binomial{}, std::int64_t{});
    each_op(comm::ordered{}, ashlar::float8_e4m3{});
    each_op(comm::segmented_ring{64}, ashlar::float8_e5m2{});
    check(comm::chain{64}, comm::sum, float{}, 6);
    // Of `bool`: or, and, and, or of false, true, true.
    const auto truth = [&](auto op, bool expected) {
      std::array<bool, 5> data;
      data.fill(t.rank() != 0);
      comm::all_reduce(t, std::span<bool>(data), op, comm::recursive_doubling{});
      wrong += static_cast<int>(std::ranges::count(data, !expected));
    };
    truth(comm::sum, true);
    truth(comm::prod, false);
    truth(comm::min, false);
    truth(comm::max, true);
    check(comm::hierarchical{2}, comm::sum, float{}, 6);
    return wrong;
  });
  CHECK(results == std::vector<int>(3, 0));
}

TEST_CASE("comm/collectives: several are under way at once, on channels of their own") {
  for (int p = 1; p <= 4; ++p) {
    const auto right = comm::run(p, [p](comm::threads& t) {
      constexpr int many = 5;
      std::vector<std::vector<std::int32_t>> data;
      std::vector<std::int32_t> all(static_cast<std::size_t>(p) * 3);
      const comm::partition parts(all.size(), p);
      for (std::size_t i = parts.at(t.rank()).first; i < parts.at(t.rank()).last; ++i) {
        all[i] = t.rank() + 1;
      }
      for (int i = 0; i < many; ++i) {
        data.emplace_back(1000, t.rank() + i);
      }
      std::vector<comm::work<comm::threads>> under_way;
      for (int i = 0; i < many; ++i) {
        under_way.push_back(comm::start_all_reduce<comm::ring>(
            t, std::span(data[static_cast<std::size_t>(i)]), comm::sum, {}, i));
      }
      auto gathered = comm::start_all_gather(t, std::span(all), parts, comm::ring{}, many);
      // Each rank asks in another order.
      bool open = true;
      while (open) {
        open = !gathered.test();
        for (int i = 0; i < many; ++i) {
          auto& w = under_way[static_cast<std::size_t>((i + t.rank()) % many)];
          open = !w.test() || open;
        }
      }
      bool good = true;
      for (int i = 0; i < many; ++i) {
        good = good && data[static_cast<std::size_t>(i)] ==
                           std::vector<std::int32_t>(1000, p * (p - 1) / 2 + p * i);
      }
      for (std::size_t i = 0; i < all.size(); ++i) {
        good = good && all[i] == static_cast<std::int32_t>(i / 3) + 1;
      }
      return good;
    });
    CHECK(right == std::vector<bool>(static_cast<std::size_t>(p), true));
  }
}

TEST_CASE("comm/collectives: from one span to another, with parts of any size, and all to all") {
  const auto right = comm::run(3, [](comm::threads& t) {
    const std::vector<float> in(10, static_cast<float>(t.rank()));
    std::vector<float> out(10);
    comm::all_reduce<comm::ring>(t, std::span<const float>(in), std::span(out));
    bool good = out == std::vector<float>(10, 3.0F);
    const comm::partition parts(std::vector<std::size_t>{7, 0, 3});
    std::vector<float> data = in;
    const auto own = comm::reduce_scatter<comm::ring>(t, std::span(data), parts, comm::avg);
    good = good && own.size() == parts.at(t.rank()).size();
    for (const float x : own) {
      good = good && x == 1.0F;
    }
    std::vector<float> root(5, static_cast<float>(t.rank() + 1));
    comm::reduce(t, std::span(root), 1, comm::prod);
    good = good && (t.rank() != 1 || root == std::vector<float>(5, 6.0F));
    std::vector<std::int32_t> give(6, t.rank());
    std::vector<std::int32_t> take(6);
    comm::all_to_all(t, std::span<const std::int32_t>(give), std::span(take));
    good = good && take == std::vector<std::int32_t>{0, 0, 1, 1, 2, 2};
    comm::all_to_all(t, std::span<const std::int32_t>(give), std::span(take), comm::bruck{});
    return good && take == std::vector<std::int32_t>{0, 0, 1, 1, 2, 2};
  });
  CHECK(right == std::vector<bool>(3, true));
}

TEST_CASE("comm/collectives: parts that are not one for each rank are refused") {
  comm::run(3, [](comm::threads& t) {
    std::vector<float> data(10);
    const std::span<float> all(data);
    const std::vector<float> in(10);
    const std::span<const float> from(in);
    const comm::partition right(10, 3);
    const comm::partition skew(std::vector<std::size_t>{4, 5, 1});
    for (const int wrong : {1, 2, 4}) {
      const comm::partition parts(10, wrong);
      CHECK_THROWS_AS(comm::reduce_scatter(t, all, parts), ashlar::argument_error);
      CHECK_THROWS_AS(comm::all_gather(t, from.first(parts.at(0).size()), all, parts),
                      ashlar::argument_error);
      CHECK_THROWS_AS(static_cast<void>(comm::start_all_gather(t, all, parts)),
                      ashlar::argument_error);
      CHECK_THROWS_AS(comm::all_to_all(t, from, parts, all, right), ashlar::argument_error);
      CHECK_THROWS_AS(comm::all_to_all(t, from, right, all, parts), ashlar::argument_error);
    }
    CHECK_THROWS_AS(comm::all_to_all(t, from, skew, all, skew, comm::bruck{}),
                    ashlar::argument_error);
  });
}

TEST_CASE("comm/collectives: channels that are not there are refused") {
  comm::thread_group group(1);
  auto t = group.endpoint(0);
  std::vector<float> data(3);
  for (const int channel : {-1, comm::tags::channels}) {
    CHECK_THROWS_AS(comm::barrier(t, channel), ashlar::argument_error);
    CHECK_THROWS_AS(comm::broadcast(t, std::span(data), 0, comm::chain{}, channel),
                    ashlar::argument_error);
    CHECK_THROWS_AS(comm::all_reduce(t, std::span(data), comm::sum, comm::ring{}, channel),
                    ashlar::argument_error);
  }
  comm::barrier(t, comm::tags::channels - 1);
}

TEST_CASE("comm/collectives: different collectives are named, as is who has not joined in time") {
  CHECK_THROWS_AS(comm::run(2,
                            [](comm::threads& t) {
                              std::vector<float> data(8);
                              if (t.rank() == 0) {
                                comm::all_reduce(t, std::span(data), comm::sum);
                              } else {
                                comm::all_reduce(t, std::span(data), comm::max);
                              }
                            }),
                  comm::collective_mismatch);
  CHECK_THROWS_AS(comm::run(2,
                            [](comm::threads& t) {  // as many bytes
                              std::vector<float> f(8);
                              std::vector<double> d(4);
                              t.rank() == 0 ? comm::all_reduce<comm::ring>(t, std::span(f))
                                            : comm::all_reduce<comm::ring>(t, std::span(d));
                            }),
                  comm::collective_mismatch);
  std::string text;
  CHECK_THROWS_AS(comm::run(
                      3,
                      [&text](comm::threads& t) {
                        std::vector<float> data(8);
                        if (t.rank() == 2) {
                          std::vector<std::byte> nothing(1);
                          try {
                            t.recv(0, nothing,
                                   3);  // waits for what nobody sends, and so does not join
                          } catch (const comm::timed_out& e) {
                            CHECK(e.peer == 0);
                            throw;
                          } catch (const comm::peer_failed&) {
                          }
                          return;
                        }
                        try {
                          comm::all_reduce<comm::ring>(t, std::span(data));
                        } catch (const comm::collective_timed_out& e) {
                          if (t.rank() == 0) {
                            text = e.what();
                          }
                          throw;
                        }
                      },
                      std::chrono::milliseconds(200)),
                  ashlar::error);
  if (!text.empty()) {  // rank 2 may have been the first to give up
    CHECK(text ==
          "ashlar::comm: rank 0 waited in vain in all_reduce(sum, 8 float32, tag 32000); "
          "rank 2 has not joined;");
  }
}

TEST_CASE("comm/checked: every rank finds the mistake, also where another has given up before it") {
  for (int round = 0; round < 100; ++round) {
    const int p = 2 + round % 4;
    const int odd = round % p;
    std::atomic<int> named = 0;
    const auto body = [&named, odd](comm::threads& t) {
      comm::checked<comm::threads> endpoint(t);
      std::vector<float> data(8);
      try {
        t.rank() == odd ? comm::all_reduce(endpoint, std::span(data), comm::max)
                        : comm::all_reduce(endpoint, std::span(data), comm::sum);
      } catch (const comm::collective_mismatch&) {
        ++named;
        throw;
      }
    };
    CHECK_THROWS_AS(comm::run(p, body, std::chrono::seconds(5)), comm::collective_mismatch);
    CHECK(named == p);
  }
}

TEST_CASE("comm/checked: an operation that has no name here is described all the same") {
  CHECK_THROWS_AS(comm::run(
                      2,
                      [](comm::threads& t) {
                        comm::checked<comm::threads> endpoint(t);
                        comm::operation o{
                            comm::collective::all_reduce, 8, ashlar::dtype::float32, "", 0, 0};
                        o.op = t.rank() == 0 ? "sum" : "xor";
                        endpoint.enter(o);
                      },
                      std::chrono::seconds(5)),
                  comm::collective_mismatch);
}

TEST_CASE("comm/collectives: work that has failed has ended, and test names the mistake as wait") {
  std::atomic<int> named = 0;
  const auto body = [&named](comm::threads& t) {
    std::vector<float> data(t.rank() == 0 ? 6 : 8, 1.0F);
    auto work = comm::start_all_reduce<comm::ring>(t, std::span(data));
    try {
      while (!work.test()) {
      }
    } catch (const comm::collective_mismatch&) {
      ++named;
    } catch (const comm::peer_failed&) {  // the other saw it first, and left
    }
    return work.done() && work.test();
  };
  CHECK(comm::run(2, body, std::chrono::seconds(5)) == std::vector<bool>{true, true});
  CHECK(named >= 1);
}

// SPDX-License-Identifier: Apache-2.0
// Layers whose parameters, tokens or experts are divided, beside naive twins in double.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/comm/threads.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/ops.hpp"
#include "ashlar/parallel/experts.hpp"
#include "ashlar/parallel/ring_attention.hpp"
#include "ashlar/parallel/sequence.hpp"
#include "ashlar/parallel/sharding.hpp"
#include "ashlar/parallel/vocabulary.hpp"
#include "ashlar/stack.hpp"

namespace al = ashlar;
namespace nn = ashlar::nn;
namespace comm = ashlar::comm;
namespace parallel = ashlar::parallel;

namespace {

using stack = al::stack<al::on<al::chip::host>, al::differentiate<al::autograd::tape<>>>;
using tensor = stack::tensor<float>;
using integers = stack::tensor<std::int32_t>;
using values = std::vector<float>;
using exact = std::vector<double>;

/// Whether numbers are within 1e-5 of the others' norm: sums of some hundred floats, in any order.
bool near(const values& found, const exact& wanted) {
  if (found.size() != wanted.size()) {
    return false;
  }
  double off = 0, all = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    off += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    all += wanted[i] * wanted[i];
  }
  return off <= 1e-10 * all;
}
exact widened(const values& x) { return {x.begin(), x.end()}; }

values gradient_of(const tensor& x) { return al::to_vector(al::gradient(x)); }

/// Rows and columns of a matrix that a rank has.
tensor columns(const tensor& x, comm::chunk c) {
  return al::clone(
      al::narrow(x, 1, static_cast<std::int64_t>(c.first), static_cast<std::int64_t>(c.size())));
}

}  // namespace

TEST_CASE("parallel/layers: a divided vocabulary has the loss and the gradients of a whole one") {
  struct sizes {
    std::int64_t rows, vocabulary;
    int ranks;
  };
  for (const sizes& s : {sizes{1, 1, 1}, sizes{1, 2, 2}, sizes{7, 5, 3}, sizes{3, 13, 4},
                         sizes{17, 64, 2}, sizes{0, 3, 2}}) {
    const std::int64_t rows = s.rows, vocabulary = s.vocabulary;
    const int ranks = s.ranks;
    CAPTURE(rows);
    CAPTURE(vocabulary);
    CAPTURE(ranks);
    // Far from 0, where exp alone would overflow.
    const tensor logits = al::randn<tensor>({rows, vocabulary}, 3) * 4.0 + 200.0;
    std::vector<std::int32_t> targets;
    for (std::int64_t i = 0; i < rows; ++i) {
      targets.push_back(i % 5 == 3 ? -100 : static_cast<std::int32_t>(i * 7 % vocabulary));
    }
    double loss = 0, counted = 0;
    const values all = al::to_vector(logits);
    exact slope(all.size());
    for (const bool second : {false, true}) {
      for (std::size_t i = 0; i < targets.size(); ++i) {
        if (targets[i] < 0) {
          continue;
        }
        const auto n = static_cast<std::size_t>(vocabulary);
        double sum = 0;
        for (std::size_t v = 0; v < n; ++v) {
          sum += std::exp(static_cast<double>(all[i * n + v]) - 200);
        }
        const auto target = static_cast<std::size_t>(targets[i]);
        counted += second ? 0 : 1;
        loss += second ? 0 : std::log(sum) + 200 - static_cast<double>(all[i * n + target]);
        for (std::size_t v = 0; second && v < n; ++v) {
          slope[i * n + v] =
              (std::exp(static_cast<double>(all[i * n + v]) - 200) / sum - (v == target ? 1 : 0)) /
              counted;
        }
      }
    }
    const tensor whole_slope =
        al::from_values<tensor>({rows, vocabulary}, values(slope.begin(), slope.end()));
    const auto width = static_cast<std::size_t>(vocabulary);
    const double mean = loss / counted;
    comm::run(ranks, [&](comm::threads& group) {
      const auto own = comm::chunk_of(width, ranks, group.rank());
      const tensor part = al::require_grad(columns(logits, own));
      const auto found = parallel::vocabulary_cross_entropy(
          group, part, static_cast<std::int64_t>(width),
          al::from_values<integers>({std::ssize(targets)}, targets));
      if (targets.empty()) {
        CHECK(std::isnan(al::item(found)));
        return;
      }
      al::backward(found);
      CHECK(std::abs(al::item(found) - mean) <= 1e-5 * std::abs(mean) + 1e-5);
      CHECK(near(gradient_of(part), widened(al::to_vector(columns(whole_slope, own)))));
    });
  }
}

TEST_CASE("parallel/layers: rows of a divided table have the bits of a whole one") {
  for (const int ranks : {1, 2, 3, 5}) {
    CAPTURE(ranks);
    const tensor table = al::randn<tensor>({13, 3}, 5);
    const std::vector<std::int32_t> ids{12, 0, 4, 4, 7, 1, 12};
    const auto rows_of = al::from_values<integers>({7}, ids);
    al::require_grad(table);
    const tensor wanted = al::embedding(table, rows_of);
    al::backward(al::sum(wanted * wanted));
    const values expected = al::to_vector(wanted), slope = gradient_of(table);
    comm::run(ranks, [&](comm::threads& group) {
      const auto own = comm::chunk_of(13, group.size(), group.rank());
      values mine = al::to_vector(al::randn<tensor>({13, 3}, 5));
      mine = values(mine.begin() + static_cast<std::ptrdiff_t>(3 * own.first),
                    mine.begin() + static_cast<std::ptrdiff_t>(3 * own.last));
      const auto part = al::require_grad(
          al::from_values<tensor>({static_cast<std::int64_t>(own.size()), 3}, mine));
      const tensor found =
          parallel::vocabulary_embedding(group, part, 13, al::from_values<integers>({7}, ids));
      CHECK(al::to_vector(found) == expected);
      al::backward(al::sum(found * found));
      CHECK(gradient_of(part) == values(slope.begin() + static_cast<std::ptrdiff_t>(3 * own.first),
                                        slope.begin() + static_cast<std::ptrdiff_t>(3 * own.last)));
    });
  }
  comm::run(2, [](comm::threads& group) {
    const tensor part = al::randn<tensor>({2, 3}, 1);
    const auto lookup = [&](std::int64_t vocabulary, std::int32_t id) {
      static_cast<void>(parallel::vocabulary_embedding(group, part, vocabulary,
                                                       al::from_values<integers>({1}, {id})));
    };
    CHECK_THROWS_AS(lookup(4, 4), al::argument_error);
    CHECK_THROWS_AS(lookup(4, -1), al::argument_error);
    CHECK_THROWS_AS(lookup(6, 0), al::shape_error);  // each would have three rows
    CHECK_THROWS_AS(lookup(1, 0), al::argument_error);
  });
}

TEST_CASE("parallel/layers: rows are gathered and summed, and so are their gradients") {
  for (const std::int64_t rows : {0, 1, 5, 8}) {
    CAPTURE(rows);
    comm::run(3, [rows](comm::threads& group) {
      const auto own = comm::chunk_of(static_cast<std::size_t>(rows), 3, group.rank());
      const auto number = [](std::size_t i, int rank) {  // small integers: sums are exact
        return static_cast<float>(static_cast<int>(i % 11) - 5 + rank);
      };
      const auto fill = [&](std::size_t first, std::size_t last, int rank) {
        values v;
        for (std::size_t i = first * 2; i < last * 2; ++i) {
          v.push_back(number(i, rank));
        }
        return v;
      };
      const auto n = static_cast<std::size_t>(rows);
      const auto extent = static_cast<std::int64_t>(own.size());
      const auto part =
          al::require_grad(al::from_values<tensor>({extent, 2}, fill(own.first, own.last, 0)));
      const tensor all = parallel::gather_rows(group, part, rows);
      CHECK(al::to_vector(all) == fill(0, n, 0));
      // Each rank's own gradient for all rows: the sum of three is three times that of rank 1.
      al::backward(al::sum(all * al::from_values<tensor>({rows, 2}, fill(0, n, group.rank()))));
      values thrice = fill(own.first, own.last, 1);
      for (float& x : thrice) {
        x *= 3;
      }
      CHECK(gradient_of(part) == thrice);

      const auto summand =
          al::require_grad(al::from_values<tensor>({rows, 2}, fill(0, n, group.rank())));
      const tensor sum = parallel::reduce_rows(group, summand);
      CHECK(al::to_vector(sum) == thrice);
      al::backward(
          al::sum(sum * al::from_values<tensor>({extent, 2}, fill(own.first, own.last, 2))));
      CHECK(gradient_of(summand) == fill(0, n, 2));
    });
  }
}

namespace {

template <class Stack>
struct network {
  using layer = nn::linear<Stack>;
  BOOST_HANA_DEFINE_STRUCT(network, (layer, up), (layer, down));
};

constexpr parallel::tensor_split network_splits[] = {{"up", parallel::cut::outputs},
                                                     {"down", parallel::cut::inputs}};

network<stack> make_network() {
  using layer = nn::linear<stack>;
  network<stack> m{layer::make(3, 7), layer::make(7, 5)};
  nn::initialize(m, 3, nn::init::normal(0.0, 0.3));
  return m;
}
exact all_of(const network<stack>& m) {
  exact all;
  nn::named_parameters(m, [&](const std::string&, const tensor& x) {
    const values v = al::to_vector(x);
    all.insert(all.end(), v.begin(), v.end());
  });
  return all;
}

}  // namespace

TEST_CASE(
    "parallel/layers: a module is cut by one list, computes as the whole and is whole again") {
  const tensor x = al::randn<tensor>({4, 3}, 7);
  const auto whole = make_network();
  nn::require_grad(whole);
  const tensor y = whole.down(al::tanh(whole.up(x)));
  al::backward(al::sum(y * y));
  const exact wanted = widened(al::to_vector(y)), weights = all_of(whole);
  exact slopes;
  nn::named_parameters(whole, [&](const std::string&, const tensor& p) {
    const values v = gradient_of(p);
    slopes.insert(slopes.end(), v.begin(), v.end());
  });
  for (const int ranks : {1, 2, 3, 7}) {
    CAPTURE(ranks);
    comm::run(ranks, [&](comm::threads& group) {
      auto part = parallel::shard(make_network(), group, network_splits);
      // Loaded over zeros, it is what was cut.
      auto loaded = parallel::shard(make_network(), group, network_splits);
      nn::named_parameters(loaded, [](const std::string&, tensor& p) {
        p = al::zeros<tensor>(al::shape(p.shape()));
      });
      parallel::load_shard(loaded, nn::state_dict(make_network()), group, network_splits);
      CHECK(all_of(loaded) == all_of(part));

      nn::require_grad(part);
      const tensor own = al::randn<tensor>({4, 3}, 7);
      const tensor found = parallel::leave_tensor_parallel(
          group, part.down(al::tanh(part.up(parallel::enter_tensor_parallel(group, own)))));
      CHECK(near(al::to_vector(found), wanted));
      al::backward(al::sum(found * found));

      auto again = make_network();
      nn::named_parameters(again, [](const std::string&, tensor& p) {
        p = al::zeros<tensor>(al::shape(p.shape()));
      });
      parallel::gather_shards(part, again, group, network_splits);
      CHECK(all_of(again) == weights);
      nn::named_parameters(part,
                           [](const std::string&, tensor& p) { p = tensor(al::gradient(p)); });
      parallel::gather_shards(part, again, group, network_splits);
      const exact gathered = all_of(again);
      CHECK(near(values(gathered.begin(), gathered.end()), slopes));
    });
  }
}

TEST_CASE("parallel/layers: what cannot be cut or loaded is refused") {
  comm::run(2, [](comm::threads& group) {
    const auto whole = make_network();
    const parallel::tensor_split twice[] = {{"up", parallel::cut::outputs},
                                            {"up", parallel::cut::inputs}};
    CHECK_THROWS_AS(static_cast<void>(parallel::shard(whole, group, twice)), al::argument_error);
    const parallel::tensor_split heads[] = {{"up", parallel::cut::outputs, 4}};  // of 7
    CHECK_THROWS_AS(static_cast<void>(parallel::shard(whole, group, heads)), al::argument_error);
    const parallel::tensor_split nothing[] = {{"up", parallel::cut::outputs, 0}};
    CHECK_THROWS_AS(static_cast<void>(parallel::shard(whole, group, nothing)), al::argument_error);
    const parallel::tensor_split copies[] = {{"up", parallel::cut::outputs, 1, 3}};  // of 2 ranks
    CHECK_THROWS_AS(static_cast<void>(parallel::shard(whole, group, copies)), al::argument_error);
    auto part = parallel::shard(whole, group, network_splits);
    auto lacks = part;
    lacks.up.weight = {};
    auto again = make_network();
    CHECK_THROWS_AS(parallel::gather_shards(lacks, again, group, network_splits),
                    al::argument_error);
    CHECK_THROWS_AS(
        parallel::gather_shards(lacks, again, group, std::span(network_splits).subspan(1)),
        al::argument_error);
    auto state = nn::state_dict(whole);
    state.erase("up.weight");
    CHECK_THROWS_AS(parallel::load_shard(part, state, group, network_splits), nn::state_error);
    state.emplace("up.weight", whole.down.weight);
    CHECK_THROWS_AS(parallel::load_shard(part, state, group, network_splits), nn::state_error);
  });
  comm::run(8, [](comm::threads& group) {  // 7 outputs
    CHECK_THROWS_AS(static_cast<void>(parallel::shard(make_network(), group, network_splits)),
                    al::argument_error);
  });
}

namespace {

struct attention_case {
  std::int64_t batch, heads, kv_heads, tokens, width;
};
struct attention_result {
  exact y, dq, dk, dv;
};

/// Attention and its gradients for a loss `sum(y * g)`, of (B, H, T, Dh), one query at a time.
attention_result naive(const attention_case& c, bool causal, double scale, const exact& q,
                       const exact& k, const exact& v, const exact& g) {
  attention_result r{exact(q.size()), exact(q.size()), exact(k.size()), exact(v.size())};
  const auto at = [&](std::int64_t heads, std::int64_t b, std::int64_t h, std::int64_t t) {
    return static_cast<std::size_t>(((b * heads + h) * c.tokens + t) * c.width);
  };
  const auto dot = [&](const exact& a, std::size_t i, const exact& b, std::size_t j) {
    double sum = 0;
    for (std::size_t d = 0; d < static_cast<std::size_t>(c.width); ++d) {
      sum += a[i + d] * b[j + d];
    }
    return sum;
  };
  const auto add = [&](exact& a, std::size_t i, double factor, const exact& b, std::size_t j) {
    for (std::size_t d = 0; d < static_cast<std::size_t>(c.width); ++d) {
      a[i + d] += factor * b[j + d];
    }
  };
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        const std::int64_t kv = h / (c.heads / c.kv_heads);
        const std::size_t i = at(c.heads, b, h, t);
        const std::int64_t seen = causal ? t + 1 : c.tokens;
        exact p;
        double sum = 0, inner = 0;
        for (std::int64_t s = 0; s < seen; ++s) {
          p.push_back(std::exp(scale * dot(q, i, k, at(c.kv_heads, b, kv, s))));
          sum += p.back();
        }
        for (std::int64_t s = 0; s < seen; ++s) {
          double& weight = p[static_cast<std::size_t>(s)];
          weight /= sum;
          add(r.y, i, weight, v, at(c.kv_heads, b, kv, s));
          inner += weight * dot(g, i, v, at(c.kv_heads, b, kv, s));
        }
        for (std::int64_t s = 0; s < seen; ++s) {
          const std::size_t j = at(c.kv_heads, b, kv, s);
          const double weight = p[static_cast<std::size_t>(s)];
          const double ds = scale * weight * (dot(g, i, v, j) - inner);
          add(r.dq, i, ds, k, j);
          add(r.dk, j, ds, q, i);
          add(r.dv, j, weight, g, i);
        }
      }
    }
  }
  return r;
}

/// The tokens of `x`, (B, H, T, Dh), at some places.
values at_places(const exact& x, const attention_case& c, std::int64_t heads,
                 const std::vector<std::int32_t>& places) {
  values own;
  for (std::int64_t row = 0; row < c.batch * heads; ++row) {
    for (const std::int32_t place : places) {
      for (std::int64_t d = 0; d < c.width; ++d) {
        own.push_back(static_cast<float>(
            x[static_cast<std::size_t>((row * c.tokens + place) * c.width + d)]));
      }
    }
  }
  return own;
}

}  // namespace

TEST_CASE("parallel/layers: attention around a ring is attention over the whole text") {
  for (const attention_case& c : {attention_case{1, 1, 1, 1, 1}, attention_case{2, 4, 2, 13, 3},
                                  attention_case{1, 3, 3, 8, 5}, attention_case{2, 2, 1, 31, 4}}) {
    const auto drawn = [&](std::int64_t heads, std::uint64_t seed) {
      return widened(al::to_vector(al::randn<tensor>({c.batch, heads, c.tokens, c.width}, seed)));
    };
    const exact q = drawn(c.heads, 1), k = drawn(c.kv_heads, 2), v = drawn(c.kv_heads, 3),
                g = drawn(c.heads, 4);
    for (const bool causal : {true, false}) {
      const attention_result wanted = naive(c, causal, 0.7, q, k, v, g);
      for (const int ranks : {1, 2, 3, 4}) {
        for (const bool zigzag : {true, false}) {
          CAPTURE(c.tokens);
          CAPTURE(causal);
          CAPTURE(ranks);
          CAPTURE(zigzag);
          comm::run(ranks, [&](comm::threads& group) {
            const parallel::context_layout layout{c.tokens, group.size(), zigzag};
            const auto places = layout.positions(group.rank());
            const auto own = [&](const exact& x, std::int64_t heads) {
              return al::from_values<tensor>({c.batch, heads, std::ssize(places), c.width},
                                             at_places(x, c, heads, places));
            };
            const tensor mine = al::require_grad(own(q, c.heads));
            const tensor keys = al::require_grad(own(k, c.kv_heads));
            const tensor kept = al::require_grad(own(v, c.kv_heads));
            const tensor y = parallel::ring_attention(group, layout, mine, keys, kept,
                                                      {.causal = causal, .scale = 0.7});
            al::backward(al::sum(y * own(g, c.heads)));
            const auto check = [&](const values& found, const exact& x, std::int64_t heads) {
              CHECK(near(found, widened(at_places(x, c, heads, places))));
            };
            check(al::to_vector(y), wanted.y, c.heads);
            check(gradient_of(mine), wanted.dq, c.heads);
            check(gradient_of(keys), wanted.dk, c.kv_heads);
            check(gradient_of(kept), wanted.dv, c.kv_heads);
          });
        }
      }
    }
  }
}

TEST_CASE("parallel/layers: a zig-zag gives ranks the same number of visible pairs") {
  for (const int ranks : {1, 2, 5, 8}) {
    const parallel::context_layout layout{std::int64_t{ranks} * 6, ranks};
    std::vector<bool> seen(static_cast<std::size_t>(layout.tokens));
    for (int rank = 0; rank < ranks; ++rank) {
      std::int64_t pairs = 0;
      for (const std::int32_t place : layout.positions(rank)) {
        CHECK(!seen[static_cast<std::size_t>(place)]);
        seen[static_cast<std::size_t>(place)] = true;
        pairs += place + 1;
      }
      CHECK(pairs * ranks == layout.tokens * (layout.tokens + 1) / 2);
    }
  }
  comm::run(2, [](comm::threads& group) {
    const tensor x = al::randn<tensor>({1, 1, 2, 2}, 1);
    const auto attend = [&](const parallel::context_layout& layout) {
      static_cast<void>(parallel::ring_attention(group, layout, x, x, x));
    };
    CHECK_THROWS_AS(attend({4, 3}), al::argument_error);
    CHECK_THROWS_AS(attend({6, 2}), al::shape_error);
  });
}

TEST_CASE("parallel/layers: gradients of gradients cross ranks, or are refused") {
  comm::run(3, [](comm::threads& group) {
    // y = W x with W = 1 + 2 + 3, the loss y^3: 3 x^2 W^3, then 6 x W^3, on whole and divided rows.
    const auto factor = static_cast<double>(group.rank() + 1);
    for (const bool rows : {false, true}) {
      const tensor x = al::require_grad(al::from_values<tensor>({1, 1}, {2}));
      const tensor own = rows ? al::require_grad(al::from_values<tensor>({1, 1}, {2})) : x;
      const tensor y =
          rows ? parallel::reduce_rows(group, tensor(parallel::gather_rows(group, own, 3) * factor))
               : parallel::leave_tensor_parallel(
                     group, tensor(parallel::enter_tensor_parallel(group, x) * factor));
      const tensor loss = al::sum(y * y * y);
      const tensor slope =
          std::get<0>(al::grad(loss, al::ones<tensor>(al::shape{}), {.create_graph = true}, own));
      CHECK(al::item(slope) == 2592.0F);
      al::backward(al::sum(slope));
      CHECK(gradient_of(own) == values{2592.0F});
    }
  });
  comm::run(1, [](comm::threads& group) {
    const tensor x = al::require_grad(al::randn<tensor>({1, 1, 3, 2}, 1));
    const tensor y = al::sum(parallel::ring_attention(group, {3, 1}, x, x, x));
    CHECK_THROWS_AS(al::backward(y, {.create_graph = true}), al::not_recordable);
  });
}

TEST_CASE("parallel/layers: a rank that fails takes the others out of the ring and the exchange") {
  const auto leave = [](const auto& wait) {
    CHECK_THROWS_AS(comm::run(3,
                              [&](comm::threads& group) {
                                if (group.rank() == 1) {
                                  throw al::argument_error("test", "gone");
                                }
                                CHECK_THROWS_AS(wait(group), comm::peer_failed);
                              }),
                    al::argument_error);
  };
  const tensor x = al::randn<tensor>({1, 1, 2, 2}, 1);
  leave([&](comm::threads& group) {
    static_cast<void>(parallel::ring_attention(group, {6, 3}, x, x, x));
  });
  const auto experts = nn::moe<stack>::make(2, 3, 3, 1);
  leave([&](comm::threads& group) {
    static_cast<void>(parallel::expert_parallel(group, parallel::shard_experts(experts, group), x));
  });
}

TEST_CASE("parallel/layers: divided experts make of all ranks' tokens what one mixture makes") {
  const auto make = [](std::int64_t experts) {
    auto m = nn::moe<stack>::make(6, 5, experts, 2);
    nn::initialize(m, 11, nn::init::normal(0.0, 0.5));
    nn::require_grad(m);
    return m;
  };
  for (const int ranks : {1, 2, 3, 4}) {
    for (const std::int64_t experts : {4, 7}) {
      // Ranks with different numbers of tokens; the last of several has none.
      std::vector<std::int64_t> tokens;
      std::int64_t all = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        tokens.push_back(rank > 0 && rank + 1 == ranks ? 0 : 3 + 2 * rank);
        all += tokens.back();
      }
      const values x = al::to_vector(al::randn<tensor>({all, 6}, 17));
      const auto whole = make(experts);
      const tensor input = al::require_grad(al::from_values<tensor>({all, 6}, x));
      const tensor y = whole(input);
      al::backward(al::sum(y * y));
      const exact wanted = widened(al::to_vector(y)), slope = widened(gradient_of(input));
      for (const bool wants : {true, false}) {
        CAPTURE(ranks);
        CAPTURE(experts);
        CAPTURE(wants);
        comm::run(ranks, [&](comm::threads& group) {
          const auto me = static_cast<std::size_t>(group.rank());
          std::int64_t first = 0;
          for (std::size_t r = 0; r < me; ++r) {
            first += tokens[r];
          }
          const auto part = parallel::shard_experts(make(experts), group);
          nn::require_grad(part);
          const auto rows = [&](const auto& of) {
            const auto at = of.begin() + first * 6;
            return std::remove_cvref_t<decltype(of)>(at, at + tokens[me] * 6);
          };
          const tensor own = al::from_values<tensor>({tokens[me], 6}, rows(x));
          if (wants) {
            al::require_grad(own);
          }
          const tensor found = parallel::expert_parallel(group, part, own);
          CHECK(near(al::to_vector(found), rows(wanted)));
          al::backward(al::sum(found * found));
          if (wants) {
            CHECK(near(gradient_of(own), rows(slope)));
          }
          const auto mine =
              comm::chunk_of(static_cast<std::size_t>(experts), group.size(), group.rank());
          for (std::size_t e = 0; e < part.experts.size(); ++e) {
            const auto& here = part.experts[e].w2.weight;
            CHECK(static_cast<bool>(here) == (mine.first <= e && e < mine.last));
            const auto& there = whole.experts[e].w2.weight;
            if (here && al::gradient(there)) {
              CHECK(near(gradient_of(here), widened(gradient_of(there))));
            }
          }
          parallel::sum_gradients(group, std::vector<tensor>{part.gate.weight});
          CHECK(near(gradient_of(part.gate.weight), widened(gradient_of(whole.gate.weight))));
        });
      }
    }
  }
  comm::run(3, [&](comm::threads& group) {
    CHECK_THROWS_AS(static_cast<void>(parallel::shard_experts(make(2), group)), al::argument_error);
  });
}

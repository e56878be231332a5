// SPDX-License-Identifier: Apache-2.0
#include <ATen/ExpandUtils.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "torch/peer.hpp"

using namespace peer;

namespace {

using in = const std::vector<at::Tensor>&;

al::shape reversed(const al::shape& s) {
  al::shape r;
  for (int i = s.rank() - 1; i >= 0; --i) {
    r.push_back(s[i]);
  }
  return r;
}
al::shape shape_of(const auto& x) { return al::shape(x.shape()); }

/// Numbers in 0 .. limit - 1, the same for both.
template <class I>
leaf<I> classes(const al::shape& s, std::int64_t limit) {
  leaf<I> ids = al::empty<leaf<I>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<I>(i * 7 % 11 % limit);
  }
  return ids;
}

at::Tensor attention_of(in x, bool causal, double factor) {
  const auto group = x[0].size(1) / std::max<std::int64_t>(x[1].size(1), 1);
  const at::Tensor k = x[1].repeat_interleave(group, 1);
  const at::Tensor v = x[2].repeat_interleave(group, 1);
  at::Tensor scores = at::matmul(x[0], k.transpose(-2, -1)) * factor;
  if (causal) {
    const auto queries = x[0].size(2);
    const auto keys = k.size(2);
    const at::Tensor hidden =
        at::ones({queries, keys}, at::TensorOptions(at::kBool)).triu(1 + keys - queries);
    scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  }
  return at::matmul(at::softmax(scores, -1), v);
}

}  // namespace

TEST_CASE("torch/layers: views agree") {
  const auto any = alike(1);
  const auto line = alike(1, 1);
  const auto filled = alike(1, 1, false);
  check(
      "slice", line, [](auto x) { return al::slice(x[0], -1, 1, -1, 2); },
      [](in x) { return x[0].slice(-1, 1, -1, 2); });
  check(
      "narrow", line,
      [](auto x) {
        const auto n = x[0].extent(0);
        return al::narrow(x[0], 0, n / 3, n - n / 3);
      },
      [](in x) {
        const auto n = x[0].size(0);
        return x[0].narrow(0, n / 3, n - n / 3);
      });
  check(
      "select", filled, [](auto x) { return al::select(x[0], -1, x[0].extent(-1) / 2); },
      [](in x) { return x[0].select(-1, x[0].size(-1) / 2); });
  check(
      "select last", filled, [](auto x) { return al::select(x[0], 0, -1); },
      [](in x) { return x[0].select(0, -1); });
  check(
      "transpose", line, [](auto x) { return al::transpose(x[0], 0, -1); },
      [](in x) { return x[0].transpose(0, -1); });
  check(
      "permute", alike(1, 3),
      [](auto x) {
        return x[0].rank() == 3 ? al::permute(x[0], {1, 2, 0}) : al::permute(x[0], {2, -1, 0, 1});
      },
      [](in x) {
        return x[0].dim() == 3 ? x[0].permute({1, 2, 0}) : x[0].permute({2, -1, 0, 1});
      });
  check(
      "expand", any,
      [](auto x) {
        al::shape to{3};
        for (const auto n : x[0].shape()) {
          to.push_back(n);
        }
        return al::expand(x[0], to);
      },
      [](in x) {
        std::vector<std::int64_t> to{3};
        to.insert(to.end(), x[0].sizes().begin(), x[0].sizes().end());
        return x[0].expand(to);
      });
  check(
      "squeeze", any, [](auto x) { return al::squeeze(al::exp(al::unsqueeze(x[0], -1)), -1); },
      [](in x) { return at::exp(x[0].unsqueeze(-1)).squeeze(-1); });
  check(
      "reshape", any, [](auto x) { return al::reshape(x[0], {-1}); },
      [](in x) { return x[0].reshape({-1}); });
  check(
      "reshape reversed", any, [](auto x) { return al::reshape(x[0], reversed(shape_of(x[0]))); },
      [](in x) {
        auto to = x[0].sizes().vec();
        std::reverse(to.begin(), to.end());
        return x[0].reshape(to);
      });
  check(
      "view_as", any,
      [](auto x) {
        return al::view_as(al::clone(x[0]), {1, -1, 1});
      },
      [](in x) {
        return x[0].contiguous().view({1, -1, 1});
      });
  check(
      "contiguous", any, [](auto x) { return al::contiguous(x[0]); },
      [](in x) { return x[0].contiguous(); });
  const shape_source rows = [](generator& bits) {
    al::shape s = random_shape(bits, 1);
    shapes all;
    for (int i = 0; i < 3; ++i) {
      s[0] = extent(bits);
      all.push_back(s);
    }
    return all;
  };
  check(
      "cat", rows, [](auto x) { return al::cat(x[0], x[1], x[2], 0); },
      [](in x) {
        return at::cat({x[0], x[1], x[2]}, 0);
      });
  check(
      "cat last", alike(2, 1), [](auto x) { return al::cat(x[0], x[1], -1); },
      [](in x) {
        return at::cat({x[0], x[1]}, -1);
      });
}

TEST_CASE("torch/layers: reductions agree") {
  const auto any = alike(1);
  const auto line = alike(1, 1);
  const auto plane = alike(1, 2);
  const auto filled = alike(1, 2, false);
  check(
      "sum", any, [](auto x) { return al::sum(x[0]); }, [](in x) { return at::sum(x[0]); });
  check(
      "sum first", line, [](auto x) { return al::sum(x[0], 0); },
      [](in x) { return at::sum(x[0], 0); });
  check(
      "sum last", line, [](auto x) { return al::sum(x[0], -1, true); },
      [](in x) { return at::sum(x[0], -1, true); });
  check(
      "sum two", plane,
      [](auto x) {
        return al::sum(x[0], {0, -1});
      },
      [](in x) {
        return at::sum(x[0], at::IntArrayRef{0, -1});
      });
  check(
      "mean", any, [](auto x) { return al::mean(x[0]); }, [](in x) { return at::mean(x[0]); });
  check(
      "mean one", plane, [](auto x) { return al::mean(x[0], 1, true); },
      [](in x) { return at::mean(x[0], 1, true); });
  const settings ties{.make = whole};
  check(
      "max", filled, [](auto x) { return al::max(x[0]); }, [](in x) { return at::amax(x[0]); },
      ties);
  check(
      "max last", filled, [](auto x) { return al::max(x[0], -1); },
      [](in x) { return at::amax(x[0], -1); }, ties);
  check(
      "min first", filled, [](auto x) { return al::min(x[0], 0, true); },
      [](in x) { return at::amin(x[0], 0, true); }, ties);
  check(
      "min two", filled,
      [](auto x) {
        return al::min(x[0], {0, 1});
      },
      [](in x) {
        return at::amin(x[0], {0, 1});
      },
      ties);
  check(
      "sum_squares", any, [](auto x) { return al::sum_squares(x[0]); },
      [](in x) { return at::sum(at::square(x[0])); }, {.twice = true});
  check(
      "sum_to", plane,
      [](auto x) {
        al::shape to = shape_of(x[0]);
        to[0] = 1;
        return al::sum_to(x[0], to);
      },
      [](in x) {
        auto to = x[0].sizes().vec();
        to[0] = 1;
        return at::sum_to(x[0], to);
      });
}

TEST_CASE("torch/layers: the largest, its place, ties and NaN agree") {
  generator bits(3);
  for (int round = 0; round < 40; ++round) {
    const al::shape s = random_shape(bits, 1, false);
    const auto x = random_tensor<plain<float>>(s, bits, whole);
    if (round % 3 == 0) {
      x.data()[bits() % static_cast<std::uint64_t>(x.size())] =
          std::numeric_limits<float>::quiet_NaN();
    }
    const at::Tensor y = copied(x);
    const auto what = "shape " + al::to_string(s.span());
    compare("argmax " + what, al::argmax(x), at::argmax(y), 0);
    compare("argmax first " + what, al::argmax(x, 0), at::argmax(y, 0), 0);
    compare("argmax last " + what, al::argmax(x, -1, true), at::argmax(y, -1, true), 0);
    compare("max " + what, al::max(x), at::max(y), 0);
    compare("max first " + what, al::max(x, 0), at::amax(y, 0), 0);
    compare("min last " + what, al::min(x, -1), at::amin(y, -1), 0);
  }
}

TEST_CASE("torch/layers: softmax and its logarithm agree") {
  const settings twice{.twice = true, .size = 1};
  const auto any = alike(1);
  const auto line = alike(1, 1);
  check(
      "softmax", any, [](auto x) { return al::softmax(x[0]); },
      [](in x) { return at::softmax(x[0], -1); }, twice);
  check(
      "softmax first", line, [](auto x) { return al::softmax(x[0], 0); },
      [](in x) { return at::softmax(x[0], 0); }, twice);
  check(
      "log_softmax", any, [](auto x) { return al::log_softmax(x[0]); },
      [](in x) { return at::log_softmax(x[0], -1); }, twice);
  check(
      "log_softmax first", line, [](auto x) { return al::log_softmax(x[0], 0); },
      [](in x) { return at::log_softmax(x[0], 0); }, twice);
  const float inf = std::numeric_limits<float>::infinity();
  const auto x = al::from_values<plain<float>>(
      {5, 3}, {-inf, 0, 1, -inf, -inf, -inf, inf, 0, 1, NAN, 0, 1, 1e4f, -1e4f, 9999});
  compare("softmax of edges", al::softmax(x), at::softmax(copied(x), -1), 1e-6);
  compare("log_softmax of edges", al::log_softmax(x), at::log_softmax(copied(x), -1), 1e-6);
}

TEST_CASE("torch/layers: matrix products agree") {
  const shape_source batched = [](generator& bits) -> shapes {
    const auto m = extent(bits);
    const auto n = extent(bits);
    const auto k = extent(bits);
    const auto b = extent(bits);
    switch (bits() % 5) {
      case 0:
        return {{m, k}, {k, n}};
      case 1:
        return {{b, m, k}, {k, n}};
      case 2:
        return {{b, m, k}, {b, k, n}};
      case 3:
        return {{2, 1, m, k}, {3, k, n}};
      default:
        return {{m, k}, {2, k, n}};
    }
  };
  const shape_source lines = [](generator& bits) -> shapes {
    const auto k = extent(bits);
    const auto n = extent(bits);
    switch (bits() % 4) {
      case 0:
        return {{k}, {k}};
      case 1:
        return {{k}, {k, n}};
      case 2:
        return {{2, n, k}, {k}};
      default:
        return {{k}, {2, k, n}};
    }
  };
  const auto ours = [](auto x) { return al::matmul(x[0], x[1]); };
  const theirs_function theirs = [](in x) { return at::matmul(x[0], x[1]); };
  check("matmul", batched, ours, theirs, {.twice = true, .rounds = 40});
  check("matmul of lines", lines, ours, theirs, {.rounds = 24});
  const shape_source layer = [](generator& bits) -> shapes {
    al::shape x = random_shape(bits, 1);
    const auto outputs = extent(bits);
    return {x, {outputs, x[x.rank() - 1]}, {outputs}};
  };
  check(
      "linear", layer, [](auto x) { return al::linear(x[0], x[1], x[2]); },
      [](in x) { return at::linear(x[0], x[1], x[2]); }, {.rounds = 32});
  check(
      "linear without bias", layer, [](auto x) { return al::linear(x[0], x[1]); },
      [](in x) { return at::linear(x[0], x[1]); }, {.rounds = 32});
}

TEST_CASE("torch/layers: norms agree") {
  const shape_source layer = [](generator& bits) -> shapes {
    al::shape x = random_shape(bits, 1);
    x[x.rank() - 1] = extent(bits, false) + 1;
    return {x, {x[x.rank() - 1]}, {x[x.rank() - 1]}};
  };
  // Differences from the mean lose digits where a row has few elements.
  const settings wide{.rounds = 32, .size = 1, .relative32 = 1e-4, .relative64 = 1e-11};
  check(
      "layer_norm", layer, [](auto x) { return al::layer_norm(x[0], x[1], x[2], 1e-3); },
      [](in x) {
        return at::layer_norm(x[0], {x[0].size(-1)}, x[1].contiguous(), x[2].contiguous(), 1e-3);
      },
      wide);
  check(
      "rms_norm", layer, [](auto x) { return al::rms_norm(x[0], x[1], 1e-5); },
      [](in x) { return x[0] * at::rsqrt(at::mean(at::square(x[0]), {-1}, true) + 1e-5) * x[1]; },
      wide);
}

TEST_CASE("torch/layers: embedding agrees") {
  const shape_source table = [](generator& bits) -> shapes {
    return {{extent(bits, false), extent(bits)}};
  };
  for (const al::shape& ids : {al::shape{}, {0}, {1}, {7}, {2, 3, 5}}) {
    check(
        "embedding", table,
        [&](auto x) { return al::embedding(x[0], classes<std::int64_t>(ids, x[0].extent(0))); },
        [&](in x) { return at::embedding(x[0], copied(classes<std::int64_t>(ids, x[0].size(0)))); },
        {.twice = false, .rounds = 6});
  }
}

TEST_CASE("torch/layers: rotary positions agree") {
  const shape_source heads = [](generator& bits) -> shapes {
    const al::shape three{extent(bits), extent(bits), 2 * extent(bits)};
    return {bits() % 2 == 0 ? three : al::shape{2, three[0], three[1], three[2]}};
  };
  for (const bool interleaved : {false, true}) {
    check(
        "rope", heads,
        [=](auto x) {
          const auto positions = al::arange<leaf<std::int32_t>>(x[0].extent(-3), 3.0);
          return al::rope(x[0], positions, 10000.0, interleaved);
        },
        [=](in x) { return rotated(x[0], 3, 10000.0, interleaved); });
  }
}

TEST_CASE("torch/layers: attention agrees") {
  const shape_source heads = [](generator& bits) -> shapes {
    const std::int64_t batch = bits() % 4;
    const std::int64_t kv = 1 + bits() % 2;
    const std::int64_t group = 1 + bits() % 3;
    const std::int64_t keys = 1 + extent(bits);
    const std::int64_t queries = bits() % 2 == 0 ? keys : std::int64_t(bits() % (keys + 1u));
    const std::int64_t width = 2 * extent(bits, false);
    return {
        {batch, kv * group, queries, width}, {batch, kv, keys, width}, {batch, kv, keys, width}};
  };
  for (const bool causal : {false, true}) {
    check(
        "attention", heads,
        [=](auto x) { return al::scaled_dot_product_attention(x[0], x[1], x[2], causal, 0.3); },
        [=](in x) { return attention_of(x, causal, 0.3); }, {.rounds = 40, .size = 1});
  }
}

TEST_CASE("torch/layers: cross entropy agrees, ignored rows left out") {
  const shape_source logits = [](generator& bits) -> shapes {
    return {{extent(bits), extent(bits, false)}};
  };
  for (const std::int64_t ignored : {std::int64_t{-100}, std::int64_t{0}, std::int64_t{3}}) {
    const auto targets = [](std::int64_t rows, std::int64_t columns) {
      auto t = classes<std::int64_t>({rows}, columns);
      if (rows > 2) {
        t.data()[1] = -100;
      }
      return t;
    };
    check(
        "cross_entropy", logits,
        [&](auto x) {
          auto t = targets(x[0].extent(0), x[0].extent(1));
          for (std::int64_t i = 0; i < t.size() && ignored != -100; ++i) {
            t.data()[i] = t.data()[i] == -100 ? ignored : t.data()[i];
          }
          return al::cross_entropy(x[0], t, ignored);
        },
        [&](in x) {
          at::Tensor t = copied(targets(x[0].size(0), x[0].size(1)));
          t.masked_fill_(at::eq(t, -100), ignored);
          return at::cross_entropy_loss(x[0], t, {}, at::Reduction::Mean, ignored);
        },
        {.rounds = 24});
  }
}

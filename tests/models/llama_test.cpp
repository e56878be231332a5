// SPDX-License-Identifier: Apache-2.0
#include "ashlar/models/llama.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/nn/hooks.hpp"
#include "ashlar/ops/operators.hpp"
#include "models/twins.hpp"
#include "support/llama.hpp"

namespace al = ashlar;
namespace testing = ashlar::testing;

namespace {

using tokens = std::vector<std::int32_t>;
using twins::matrix;

/// The same model in double precision, one loop per sum.
class twin {
 public:
  explicit twin(const testing::serving_llama& model) : c_(model.config) {
    al::nn::named_parameters(model, [&](const std::string& name, const auto& x) {
      const auto values = al::to_vector(x);
      weight_.emplace(name, matrix(values.begin(), values.end()));
    });
  }

  [[nodiscard]] matrix logits(const tokens& text) const {
    std::vector<matrix> x;
    for (const auto t : text) {
      const auto row = weight_.at("model.embed_tokens.weight").begin() + t * c_.dim;
      x.emplace_back(row, row + c_.dim);
    }
    for (std::int64_t layer = 0; layer < c_.layers; ++layer) {
      const std::string at = "model.layers." + std::to_string(layer) + ".";
      attention(x, at);
      for (matrix& row : x) {
        const matrix y = norm(row, at + "post_attention_layernorm.weight");
        matrix gate = product(at + "mlp.gate_proj.weight", y);
        const matrix up = product(at + "mlp.up_proj.weight", y);
        for (std::size_t i = 0; i < gate.size(); ++i) {
          gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        }
        twins::add(row, product(at + "mlp.down_proj.weight", gate));
      }
    }
    matrix all;
    for (const matrix& row : x) {
      const matrix y = product(c_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight",
                               norm(row, "model.norm.weight"));
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  }

 private:
  [[nodiscard]] matrix product(const std::string& name, const matrix& x) const {
    const matrix& w = weight_.at(name);
    matrix y(w.size() / x.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      for (std::size_t j = 0; j < x.size(); ++j) {
        y[i] += w[i * x.size() + j] * x[j];
      }
    }
    return y;
  }
  [[nodiscard]] matrix norm(matrix x, const std::string& name) const {
    double squares = 0;
    for (const double v : x) {
      squares += v * v;
    }
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + c_.norm_eps);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= scale * weight_.at(name)[i];
    }
    return x;
  }
  void turn(matrix& heads, std::size_t position) const {
    const auto size = static_cast<std::size_t>(c_.head_dim);
    for (std::size_t h = 0; h < heads.size(); h += size) {
      for (std::size_t i = 0; i < size / 2; ++i) {
        const double angle =
            static_cast<double>(position) *
            std::pow(c_.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(size));
        double& a = heads[h + (c_.rope_interleaved ? 2 * i : i)];
        double& b = heads[h + (c_.rope_interleaved ? 2 * i + 1 : i + size / 2)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }
  void attention(std::vector<matrix>& x, const std::string& at) const {
    const auto size = static_cast<std::size_t>(c_.head_dim);
    const auto group = static_cast<std::size_t>(c_.heads / c_.kv_heads);
    std::vector<matrix> keys, values;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const matrix y = norm(x[t], at + "input_layernorm.weight");
      matrix q = product(at + "self_attn.q_proj.weight", y);
      keys.push_back(product(at + "self_attn.k_proj.weight", y));
      values.push_back(product(at + "self_attn.v_proj.weight", y));
      turn(q, t);
      turn(keys.back(), t);
      matrix mixed(q.size());
      for (std::size_t h = 0; h < q.size() / size; ++h) {
        const std::size_t own = h / group * size;
        matrix share;
        for (std::size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < size; ++i) {
            score += q[h * size + i] * keys[s][own + i];
          }
          share.push_back(score / std::sqrt(static_cast<double>(size)));
        }
        const double most = *std::max_element(share.begin(), share.end());
        double sum = 0;
        for (double& s : share) {
          s = std::exp(s - most);
          sum += s;
        }
        for (std::size_t s = 0; s <= t; ++s) {
          for (std::size_t i = 0; i < size; ++i) {
            mixed[h * size + i] += share[s] / sum * values[s][own + i];
          }
        }
      }
      twins::add(x[t], product(at + "self_attn.o_proj.weight", mixed));
    }
  }

  testing::llama_config c_;
  std::map<std::string, matrix> weight_;
};

}  // namespace

TEST_CASE("models/llama: logits agree with a naive model in double precision") {
  // Sums of up to 200 products in float, through three layers: measured 2e-6; a wrong pair, head,
  // scale or mask is off by more than 1e-2.
  constexpr double tolerance = 2e-5;
  auto c = testing::odd_config();
  for (const bool interleaved : {false, true}) {
    for (const bool tied : {false, true}) {
      CAPTURE(interleaved);
      CAPTURE(tied);
      c.rope_interleaved = interleaved;
      c.tied_embeddings = tied;
      c.rope_theta = tied ? 500 : 10000;
      c.norm_eps = tied ? 1e-2 : 1e-5;
      const auto model = testing::make_serving(c, 1);
      const twin naive(model);
      for (const int n : {1, 2, 29}) {
        CAPTURE(n);
        const tokens text = testing::random_tokens(n, c.vocab, 2);
        CHECK(twins::relative_difference(testing::whole_logits(model, text), naive.logits(text)) <
              tolerance);
      }
    }
  }
}

TEST_CASE("models/llama: every query head may have its own keys, or all share one") {
  auto c = testing::odd_config();
  for (const std::int64_t kv_heads : {1, 4}) {
    CAPTURE(kv_heads);
    c.kv_heads = kv_heads;
    const auto model = testing::make_serving(c, 3);
    const tokens text = testing::random_tokens(13, c.vocab, 4);
    CHECK(twins::relative_difference(testing::whole_logits(model, text), twin(model).logits(text)) <
          2e-5);
  }
}

TEST_CASE("models/llama: weights have the names and shapes of Hugging Face's files") {
  const auto c = testing::odd_config();
  const auto model = testing::make_serving(c, 1);
  std::map<std::string, al::shape> found;
  al::nn::named_parameters(model, [&](const std::string& name, const auto& x) {
    found.emplace(name, al::shape(x.shape()));
  });
  CHECK(found.size() == 3 + 9 * 3);
  CHECK(found.at("model.embed_tokens.weight") == al::shape{307, 72});
  CHECK(found.at("lm_head.weight") == al::shape{307, 72});
  CHECK(found.at("model.norm.weight") == al::shape{72});
  CHECK(found.at("model.layers.0.self_attn.q_proj.weight") == al::shape{80, 72});
  CHECK(found.at("model.layers.1.self_attn.k_proj.weight") == al::shape{40, 72});
  CHECK(found.at("model.layers.1.self_attn.v_proj.weight") == al::shape{40, 72});
  CHECK(found.at("model.layers.2.self_attn.o_proj.weight") == al::shape{72, 80});
  CHECK(found.at("model.layers.2.mlp.gate_proj.weight") == al::shape{101, 72});
  CHECK(found.at("model.layers.2.mlp.down_proj.weight") == al::shape{72, 101});
  CHECK(found.at("model.layers.2.input_layernorm.weight") == al::shape{72});
}

TEST_CASE("models/llama: a seed gives the same weights on every stack, another seed others") {
  const auto c = testing::odd_config();
  const auto first = testing::weights_of(testing::serving_llama::make(c, 7));
  CHECK(first == testing::weights_of(testing::serving_llama::make(c, 7)));
  CHECK(first == testing::weights_of(testing::training_llama::make(c, 7)));
  CHECK(first != testing::weights_of(testing::serving_llama::make(c, 8)));
  // GPT-2's deviations: 0.02, and 0.02 / sqrt(6) for what writes to the residual stream.
  const auto model = testing::serving_llama::make(c, 7);
  const auto deviation = [](const auto& x) {
    double squares = 0;
    for (const float v : al::to_vector(x)) {
      squares += static_cast<double>(v) * static_cast<double>(v);
    }
    return std::sqrt(squares / static_cast<double>(x.size()));
  };
  // The estimate's own deviation is 1 / sqrt(2 n) < 1 % for these sizes; four of them.
  const auto& layer = model.model.layers[1];
  CHECK(deviation(layer.mlp.up_proj.weight) == doctest::Approx(0.02).epsilon(0.04));
  CHECK(deviation(layer.mlp.down_proj.weight) ==
        doctest::Approx(0.02 / std::sqrt(6.0)).epsilon(0.04));
  CHECK(deviation(layer.self_attn.o_proj.weight) ==
        doctest::Approx(0.02 / std::sqrt(6.0)).epsilon(0.04));
}

TEST_CASE("models/llama: laying weights out for decoding keeps names, shapes and elements") {
  for (const auto& c : {testing::odd_config(), testing::even_config()}) {
    const auto before = testing::make_serving(c, 1);
    auto after = before;
    after.lay_out_for_decoding();
    after.lay_out_for_decoding();  // once more changes nothing
    auto expected = testing::weights_of(before);
    auto found = testing::weights_of(after);
    if (c.tied_embeddings) {  // the output layer has become a matrix of its own
      CHECK(al::to_vector(after.lm_head.weight) == al::to_vector(before.model.embed_tokens.weight));
      CHECK_FALSE(before.lm_head.weight);
      found.resize(expected.size());
    }
    CHECK(found == expected);
  }
}

TEST_CASE("models/llama: wrong tokens are typed errors, and the model goes on") {
  const auto c = testing::odd_config();
  auto model = testing::make_serving(c, 1);
  using integers = testing::serving_llama::integers;
  const auto message = [&](const integers& text) -> std::string {
    try {
      static_cast<void>(model(text));
    } catch (const al::error& e) {
      return e.what();
    }
    return "(accepted)";
  };
  const auto contains = [](const std::string& text, const char* part) {
    CAPTURE(text);
    return text.find(part) != std::string::npos;
  };
  const auto row = [](const tokens& text) {
    return al::from_values<integers>({1, std::ssize(text)}, text);
  };
  const tokens good = testing::random_tokens(128, c.vocab, 2);
  const auto before = testing::whole_logits(model, good);

  CHECK_THROWS_AS(static_cast<void>(model(al::zeros<integers>({1, 129}))), al::shape_error);
  CHECK(contains(message(al::zeros<integers>({1, 129})), "128"));
  CHECK_THROWS_AS(static_cast<void>(model(al::zeros<integers>({5}))), al::shape_error);
  CHECK(contains(message(row({1, 307, 2})), "307"));
  CHECK(contains(message(row({1, -3, 2})), "-3"));
  CHECK_THROWS_AS(static_cast<void>(model(row({1, 307, 2}))), al::argument_error);

  CHECK(testing::whole_logits(model, good) == before);
  CHECK(testing::whole_logits(model, tokens{}).empty());

  // The paged form.
  auto cache = model.make_cache(2, 16);
  const std::vector<al::kv::block_id> blocks{1, 0};
  al::kv::step step{.block_tokens = 16,
                    .tokens = {good[0], good[1]},
                    .positions = {0, 1},
                    .slots = {16, 17},
                    .sequences = {{0, 2, 2, blocks}},
                    .logit_rows = {0, 1}};
  const auto served = model.forward(step, cache);
  const std::vector<float> logits(served.begin(), served.end());
  CHECK(std::equal(logits.begin(), logits.end(), before.begin()));
  step.tokens[1] = 307;
  CHECK_THROWS_AS(static_cast<void>(model.forward(step, cache)), al::argument_error);
  step.tokens[1] = good[1];
  step.slots[1] = 32;
  CHECK_THROWS_AS(static_cast<void>(model.forward(step, cache)), al::argument_error);
  step.slots[1] = 17;
  step.positions[1] = 32;  // beyond its blocks
  CHECK_THROWS_AS(static_cast<void>(model.forward(step, cache)), al::argument_error);
  step.positions[1] = 1;
  const auto again = model.forward(step, cache);
  CHECK(std::equal(logits.begin(), logits.end(), again.begin(), again.end()));
}

TEST_CASE("models/llama: a model that is built already takes hooks around its call") {
  using model = testing::serving_llama;
  using integers = model::integers;
  using logits = model::parameter;
  const model built = testing::make_serving(testing::odd_config(), 3);
  al::nn::with_hooks<model, logits(integers)> watched = built;
  int seen = 0;
  watched.register_forward_pre_hook([&](const model& m, const integers& text) {
    CHECK(m.model.norm.weight.data() == built.model.norm.weight.data());  // shared, not copied
    seen += static_cast<int>(text.size());
  });
  watched.register_forward_hook([&](const model&, const integers&, logits& y) { y = y * 2.0; });
  const auto text = al::from_values<integers>({1, 3}, {1, 2, 3});
  const auto twice = al::to_vector(watched(text));
  const auto once = al::to_vector(built(text));
  CHECK(seen == 3);
  REQUIRE(twice.size() == once.size());
  for (std::size_t i = 0; i < once.size(); ++i) {
    CHECK(twice[i] == 2 * once[i]);
  }
}

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ashlar/chip/host/host.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/compile.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/ops/creation.hpp"

namespace models_check {

namespace al = ashlar;
namespace graph = ashlar::graph;
using host = al::chip::host;

template <class Integers>
Integers tokens(std::int64_t batch, std::int64_t length, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < batch * length; ++i) {
    ids.push_back(static_cast<std::int32_t>((i * i + 3 * i + length) % vocabulary));
  }
  return al::from_values<Integers>({batch, length}, ids);
}

/// A language model is one graph for all lengths and batches, with the bits of its own call on
/// every backend.
template <class Model>
void check_language_model(const Model& model, std::int64_t context) {
  using integers = typename Model::integers;
  using logits = typename Model::logits_type;
  const auto f = [&](const auto& x) { return model(x); };
  const auto ids = [&](std::int64_t b, std::int64_t t) {
    return tokens<integers>(b, t, model.vocabulary());
  };

  const graph::graph g = graph::capture(f, ids(2, 16));
  verify(g);
  auto interpreted = graph::eager{}.compile(g);
  auto arranged = graph::planned<host>{}.compile(g);
  graph::replayed<host> recorded(g);
  const auto x = ids(2, 16);
  const auto expected = al::to_vector(f(x));
  for (int again = 0; again < 2; ++again) {
    CHECK(al::to_vector(logits(interpreted(x)[0])) == expected);
    CHECK(al::to_vector(logits(arranged(x)[0])) == expected);
    CHECK(al::to_vector(logits(recorded(x)[0])) == expected);
  }
  CHECK(arranged.plan().layout.ratio() < 1.1);

  graph::compile_options options;
  options.sizes = {graph::dim("B", 2, 8).of(0, 0), graph::dim("T", 2, context).of(0, 1)};
  auto compiled = graph::compile(f, graph::eager{}, options);
  for (const std::int64_t b : {2, 3}) {
    for (const std::int64_t t :
         {std::int64_t{16}, std::int64_t{2}, std::int64_t{3}, std::int64_t{31}, context}) {
      CAPTURE(b);
      CAPTURE(t);
      CHECK(al::to_vector(compiled(ids(b, t))) == al::to_vector(f(ids(b, t))));
    }
  }
  CHECK(compiled.statistics().compiled == 1);
  for (const graph::guard& each : compiled.specialised()) {
    MESSAGE(each.holds << ": " << each.because);
  }
  CHECK(compiled.specialised().empty());
}

}  // namespace models_check

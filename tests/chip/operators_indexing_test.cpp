// SPDX-License-Identifier: Apache-2.0
// `check` compares what a program computes with the host's kernels in double precision, and records
// it; `check_on_every_chip` runs it again everywhere and compares the bits (support/replay.hpp).
#include <cstdint>

#include "ashlar/ops/tile/indexing.hpp"
#include "support/replay.hpp"

namespace {

namespace al = ashlar;
namespace ops = ashlar::ops;
using replay::check;
using tile_test::exact;
template <class T>
using plain = twins::plain<T>;

plain<std::int32_t> picks(const al::shape& s, std::int64_t below) {
  const auto ids = al::empty<plain<std::int32_t>>(s);
  for (std::int64_t i = 0; i < ids.size(); ++i) {
    ids.data()[i] = static_cast<std::int32_t>(i * 7 % below);
  }
  return ids;
}

}  // namespace

TEST_CASE("chip/operators: elements by number are the same on every chip") {
  for (const std::int64_t columns : {1, 67}) {
    const auto x = twins::numbers<plain<float>>({2, 3, 5}, 1);
    const auto index = picks({2, 3, columns}, 5);
    const auto source = twins::numbers<plain<float>>({2, 3, columns}, 2);
    check<ops::gather>(
        exact, [](const auto& v, const auto& i) { return al::gather(v, 2, i); }, x, index);
    check<ops::scatter>(
        exact, [](const auto& v, const auto& i, const auto& s) { return al::scatter(v, 2, i, s); },
        x, index, source);
    check<ops::scatter>(
        {static_cast<double>(columns) + 1, 2 * static_cast<double>(columns) + 2},
        [](const auto& v, const auto& i, const auto& s) { return al::scatter_add(v, 2, i, s); }, x,
        index, source);
  }
  const auto x = twins::numbers<plain<float>>({3, 67}, 1);
  for (const bool down : {false, true}) {
    check<ops::argsort>(
        exact,
        [&](const auto& v) {
          return al::call<ops::argsort>(v, std::int64_t{1}, down, std::int64_t{9});
        },
        x);
    for (const std::int64_t axis : {0, 1}) {
      check<ops::cumsum>(
          {68, 2 * 68}, [&](const auto& v) { return al::cumsum(v, axis, down); }, x);
    }
  }
  check<ops::unfold_backward>(
      {3, 6},
      [](const auto& g) {
        return al::call<ops::unfold_backward>(g, al::shape{2, 11}, std::int64_t{1}, std::int64_t{3},
                                              std::int64_t{2}, std::int64_t{2});
      },
      twins::numbers<plain<float>>({2, 4, 3}, 1));
  replay::check_on_every_chip();
  replay::check_seen<ops::gather, ops::scatter, ops::argsort, ops::cumsum, ops::unfold_backward>();
}

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/comm/collectives.hpp"
#include "ashlar/comm/network.hpp"
#include "ashlar/comm/reduce.hpp"
#include "ashlar/comm/schedule.hpp"
#include "ashlar/comm/simulate.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"

namespace ashlar::comm {

/// How long one message took.
struct sample {
  double bytes;
  double seconds;
};

/// What a step of a collective costs: `alpha + beta bytes`, and `gamma bytes` of what is reduced.
struct step_cost {
  double alpha = 0;  ///< [s]
  double beta = 0;   ///< [s/byte]
  double gamma = 0;  ///< [s/byte]

  /// A network of such steps, for `by_cost` and `simulate`: no message meets another.
  [[nodiscard]] network on(int ranks) const {
    return {presets::fully_connected(ranks, alpha, 1 / std::max(beta, 1e-18)), 0, gamma, false};
  }
  friend bool operator==(const step_cost&, const step_cost&) = default;
};

/// What `calibrate` measures.
struct calibration {
  std::vector<std::size_t> sizes = {0,     256,   1024,   4096,
                                    16384, 65536, 262144, 1048576};  ///< of messages [bytes]
  int repeats = 20;  ///< of which the fastest counts
};

/// The line that has the least sum of squared errors, relative to what was measured.
///
/// Returns: neither number negative: where the best line has a negative one, the best without it.
/// Throws:  `argument_error` where there are not two sizes, or a time is not positive.
/// Source:  weighted linear regression; weights are 1 / seconds^2.
inline step_cost fit(std::span<const sample> samples) {
  double w = 0;
  double wx = 0;
  double wxx = 0;
  double wy = 0;
  double wxy = 0;
  const auto [low, high] = std::ranges::minmax_element(samples, {}, &sample::bytes);
  const auto weight_of = [](const sample& s) { return 1 / (s.seconds * s.seconds); };
  for (const sample& s : samples) {
    if (!(s.seconds > 0)) {
      throw argument_error("ashlar::comm::fit", "a message took " + std::to_string(s.seconds) +
                                                    " s; measure a positive time");
    }
    const double weight = weight_of(s);
    w += weight;
    wx += weight * s.bytes;
    wxx += weight * s.bytes * s.bytes;
    wy += weight * s.seconds;
    wxy += weight * s.bytes * s.seconds;
  }
  if (samples.empty() || low->bytes == high->bytes) {
    throw argument_error("ashlar::comm::fit", "measure messages of two sizes or more");
  }
  // From the centre, so that nothing cancels where sizes are close together.
  double squares = 0;
  double products = 0;
  for (const sample& s : samples) {
    const double from_centre = s.bytes - wx / w;
    squares += weight_of(s) * from_centre * from_centre;
    products += weight_of(s) * from_centre * (s.seconds - wy / w);
  }
  const double beta = products / squares;
  const double alpha = (wy - beta * wx) / w;
  if (beta < 0) {
    return {wy / w, 0, 0};
  }
  if (alpha < 0) {
    return {0, wxy / wxx, 0};
  }
  return {alpha, beta, 0};
}

namespace detail {
/// Every rank sends to the next one and receives from the one before, as in most rounds.
inline schedule shift(int ranks, int rank, std::size_t count) {
  return {1, 0, [=](int, round_steps& out) {
            out.push_back(send_to(wrap(rank + 1, ranks), {0, count}));
            out.push_back(receive_from(wrap(rank - 1, ranks), {count, 2 * count}));
          }};
}

template <class F>
double fastest_of(int repeats, const F& f) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < std::max(1, repeats); ++i) {
    const auto began = std::chrono::steady_clock::now();
    f();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  }
  return std::max(best, 1e-9);  // a clock may stand still
}
}  // namespace detail

/// Measures what steps cost between the ranks of a transport: all exchange with their neighbours at
/// once, and reduce floats. Every rank calls it, with the same `how`.
///
/// Returns: the same bits on every rank: each size counts as its slowest rank's fastest time. On
///          one rank `alpha` and `beta` are 0.
/// Throws:  as `fit`; what the transport throws.
/// Cost:    `repeats` messages of every size, and of the largest as many reductions.
template <Transport Tr>
step_cost calibrate(Tr& t, const calibration& how = {}) {
  const std::size_t most =
      how.sizes.empty() ? 0 : *std::max_element(how.sizes.begin(), how.sizes.end());
  std::vector<std::byte> room(2 * most);
  std::vector<double> seconds;
  for (const std::size_t bytes : how.sizes) {
    memory_of m;
    m.data = room.data();
    barrier(t);
    seconds.push_back(detail::fastest_of(how.repeats, [&] {
      execute(t, detail::shift(t.size(), t.rank(), bytes), m,
              detail::joined<std::uint8_t>(collective::send_receive, 0, 0));
    }));
  }
  std::vector<float> reduced(std::max<std::size_t>(most / sizeof(float), 1024), 1.0F);
  std::vector<float> other(reduced.size(), 1.0F);
  seconds.push_back(detail::fastest_of(how.repeats, [&] {
    reducer_of<float, sum_op>(reinterpret_cast<std::byte*>(reduced.data()),
                              reinterpret_cast<const std::byte*>(reduced.data()),
                              reinterpret_cast<const std::byte*>(other.data()), reduced.size());
  }));
  all_reduce(t, std::span(seconds), max);
  step_cost found;
  if (t.size() > 1) {
    std::vector<sample> samples;
    for (std::size_t i = 0; i < how.sizes.size(); ++i) {
      samples.push_back({static_cast<double>(how.sizes[i]), seconds[i]});
    }
    found = fit(samples);
  }
  found.gamma = seconds.back() / static_cast<double>(reduced.size() * sizeof(float));
  return found;
}

/// The same on a simulated network, whose clock is exact.
inline step_cost calibrate(const network& net, const calibration& how = {}) {
  const int ranks = net.wires.ranks();
  std::vector<sample> samples;
  for (const std::size_t bytes : how.sizes) {
    const outcome o = simulate(
        net, [&](int rank) { return detail::shift(ranks, rank, bytes); }, 1);
    // Without latency a message of no bytes takes no time, relative to which no error is.
    samples.push_back({static_cast<double>(bytes), std::max(o.seconds, 1e-18)});
  }
  step_cost found = ranks > 1 ? fit(samples) : step_cost{};
  found.gamma = net.reduce_cost;
  return found;
}

}  // namespace ashlar::comm

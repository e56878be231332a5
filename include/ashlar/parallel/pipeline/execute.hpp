// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/comm/transport.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/parallel/detail/transfer.hpp"
#include "ashlar/parallel/pipeline/action.hpp"
#include "ashlar/parallel/pipeline/schedule.hpp"
#include "ashlar/parallel/pipeline/validate.hpp"

namespace ashlar::parallel::pipeline {

namespace detail {

/// Numbers of messages between two ranks: those that may be under way at once have different ones.
class message_tags {
 public:
  explicit message_tags(const outline& o) : micro_batches_(o.micro_batches) {
    std::map<std::pair<int, int>, int> between;
    int most = 0;
    for (int stage = 0; stage < o.stages; ++stage) {
      boundary_.push_back(0);
      if (o.crosses(stage)) {
        const int a = o.rank_of[static_cast<std::size_t>(stage)];
        const int b = o.rank_of[static_cast<std::size_t>(stage) + 1];
        boundary_.back() = between[{std::min(a, b), std::max(a, b)}]++;
        most = std::max(most, boundary_.back());
      }
    }
    constexpr long long program = 32000;  // comm::tags are above
    if (2LL * (most + 1) * micro_batches_ > program) {
      throw argument_error(
          "ashlar::parallel::pipeline::execute",
          std::to_string(micro_batches_) + " micro-batches over " + std::to_string(most + 1) +
              " boundaries between two ranks; at most 16000 messages have numbers");
    }
  }
  /// Of what goes over the boundary behind `stage`.
  [[nodiscard]] int operator()(int stage, int micro_batch, bool forward) const {
    return 2 * (boundary_[static_cast<std::size_t>(stage)] * micro_batches_ + micro_batch) +
           (forward ? 0 : 1);
  }

 private:
  int micro_batches_;
  std::vector<int> boundary_;
};

}  // namespace detail

/// Runs this rank's part of a schedule over tensors; gradients add up in the leaves.
///
/// `forward(stage, micro_batch, input)` is a stage's forward pass: it returns the stage's output,
/// the last stage a loss of one element; stage 0 gets an empty `input`. `boundary` is the shape of
/// what passes between stages. All of a stage's micro-batches go back in the order of its list, so
/// its gradients have the bits of one rank that accumulates them in that order; parameters belong
/// to one stage (an output layer that is the embedding does not).
///
/// A weight gradient of its own (`W`) goes back through its stage a second time, to the leaves, on
/// the graph that the input gradient (`I`) left.
/// Returns:  the losses by micro-batch where this rank has the last stage.
/// Requires: every rank calls this with the same schedule; `unshard` and its like are not in it.
/// Throws:   as `validate`, on every rank before anything is sent; `argument_error` where the
///           schedule is for another number of ranks; what the transport throws.
template <Recorded X, comm::Transport Endpoint, class Forward>
std::vector<X> execute(const schedule& s, Endpoint& endpoint, const shape& boundary,
                       const Forward& forward) {
  if (s.ranks.size() != static_cast<std::size_t>(endpoint.size())) {
    throw argument_error("ashlar::parallel::pipeline::execute",
                         "a schedule of " + std::to_string(s.ranks.size()) + " ranks on " +
                             std::to_string(endpoint.size()));
  }
  const outline o = validate(s);
  const schedule all = o.explicit_transfers ? s : with_transfers(s);
  const detail::message_tags tag(o);
  struct passing {
    X input, output, output_gradient, input_gradient;
  };
  std::map<std::pair<int, int>, passing> open;
  using wire = parallel::detail::wire_type<typename X::value_type>;
  std::vector<wire> buffer;
  const auto peer = [&](int stage) { return o.rank_of[static_cast<std::size_t>(stage)]; };
  // A schedule may send long before its receiver takes it: nobody waits for that but at the end.
  struct under_way {
    std::vector<wire> elements;
    typename Endpoint::request message;
  };
  std::deque<under_way> sent;
  const auto send = [&](const X& x, int to, int number) {
    std::vector<wire> elements(static_cast<std::size_t>(x.size()));
    parallel::detail::read(x, std::span<wire>(elements));
    auto message = endpoint.isend(to, std::as_bytes(std::span<const wire>(elements)), number);
    sent.push_back({std::move(elements), std::move(message)});
    while (!sent.empty() && endpoint.test(sent.front().message)) {
      sent.pop_front();
    }
  };
  const auto receive = [&](int from, int number) {
    const no_grad off;
    X x = zeros<X>(boundary);
    buffer.resize(static_cast<std::size_t>(x.size()));
    endpoint.recv(from, std::as_writable_bytes(std::span<wire>(buffer)), number);
    parallel::detail::write(std::span<const wire>(buffer), x);
    return x;
  };
  std::vector<X> losses;
  for (const action& a : all.ranks[static_cast<std::size_t>(endpoint.rank())]) {
    const int m = a.micro_batch;
    const bool last = a.stage + 1 == o.stages;
    passing& here = open[{a.stage, m}];
    switch (a.what) {
      case work::forward:
        if (a.stage > 0) {
          if (!o.crosses(a.stage - 1)) {
            here.input = detach(open[{a.stage - 1, m}].output);
          }
          require_grad(here.input);
        }
        here.output = forward(a.stage, m, here.input);
        if (last) {
          losses.resize(static_cast<std::size_t>(o.micro_batches));
          losses[static_cast<std::size_t>(m)] = detach(here.output);
        }
        break;
      case work::input_gradient:
      case work::backward: {
        if (!last && !o.crosses(a.stage)) {
          here.output_gradient = std::exchange(open[{a.stage + 1, m}].input_gradient, {});
        }
        if (last) {
          here.output_gradient = ones<X>(shape(here.output.shape()));
        }
        if (a.what == work::backward) {
          ashlar::backward(here.output, here.output_gradient);
          here.input_gradient = a.stage > 0 ? gradient(here.input) : X{};
        } else if (a.stage > 0) {
          here.input_gradient = std::get<0>(
              grad(here.output, here.output_gradient, {.retain_graph = true}, here.input));
        }
        break;
      }
      case work::weight_gradient:
        ashlar::backward(here.output, here.output_gradient);
        break;
      case work::send_f:
        send(here.output, peer(a.stage + 1), tag(a.stage, m, true));
        break;
      case work::recv_f:
        here.input = receive(peer(a.stage - 1), tag(a.stage - 1, m, true));
        break;
      case work::send_b:
        send(std::exchange(here.input_gradient, {}), peer(a.stage - 1), tag(a.stage - 1, m, false));
        break;
      case work::recv_b:
        here.output_gradient = receive(peer(a.stage + 1), tag(a.stage, m, false));
        break;
      default:
        throw argument_error("ashlar::parallel::pipeline::execute",
                             text_of(a) + " needs somebody who holds parameters in parts");
    }
    if (a.what == work::backward || a.what == work::weight_gradient) {  // nobody reads them again
      here.output = here.input = here.output_gradient = {};
    }
  }
  for (under_way& u : sent) {
    endpoint.wait(u.message);
  }
  return losses;
}

}  // namespace ashlar::parallel::pipeline

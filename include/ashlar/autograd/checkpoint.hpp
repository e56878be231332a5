// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <any>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/autograd/leaf.hpp"

/// Memory for time: what a part of the forward saves is computed again when it is needed.
namespace ashlar {

namespace autograd::detail {

/// A part of the forward, and how to run it again.
struct recomputed {
  std::function<void()> again;
  std::size_t saved = 0;               ///< tensors that the first run wanted to save
  std::vector<tensor_handle> tensors;  ///< those of the run before the gradient; empty: none yet
  std::size_t used = 0;

  tensor_handle take(std::size_t i) {
    const std::scoped_lock guard(lock_);
    if (tensors.empty()) {
      run();
    }
    const tensor_handle x = tensors[i];
    if (++used == saved) {
      tensors.clear();
      used = 0;
    }
    return x;
  }

 private:
  std::mutex lock_;

  void run() {
    const grad_mode on(true);
    const saved_tensor_hooks collect(
        [this](const tensor_handle& x) {
          tensors.push_back(x);
          return std::any();
        },
        [](const std::any&) { return tensor_handle{}; });
    again();
    if (tensors.size() != saved) {
      throw not_recordable("checkpoint", "the function saved " + std::to_string(saved) +
                                             " tensors and " + std::to_string(tensors.size()) +
                                             " when it ran again; it must do the same twice");
    }
  }
};

}  // namespace autograd::detail

/// Runs `f(inputs...)` and saves none of the tensors that its gradient needs: the pass runs `f`
/// again. Gradients have the same bits.
///
/// `state` is what `f` changes beside its result, in most cases its random generators: it is copied
/// before the first run and put back for the second one, after which it is as it was.
/// Requires: `f`, copyable, does the same both times. What it refers to outlives the graph.
/// Throws: `not_recordable` in the backward pass where the second run saved another number of
/// tensors; `modified_in_place` where an input was changed in between.
/// Source: Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016).
template <class State, class F, class... In>
auto checkpoint_with(State& state, F f, const In&... inputs) {
  const auto part = std::make_shared<autograd::detail::recomputed>();
  std::vector<autograd::detail::saved_tensor<tensor_handle>> versions;
  const auto note = [&]<class X>(const X& x) {
    if constexpr (Tensor<X>) {
      versions.emplace_back(x);
    }
  };
  (note(inputs), ...);
  part->again = [f, versions = std::move(versions), before = State(state), &state,
                 inputs...]() mutable {
    for (std::size_t i = 0; i < versions.size(); ++i) {
      static_cast<void>(versions[i].checked("checkpoint", "input " + std::to_string(i)));
    }
    struct restore {
      State& at;
      State after;
      ~restore() { at = after; }
    } const back{state, state};
    state = before;
    static_cast<void>(f(inputs...));
  };
  const saved_tensor_hooks packing(
      [part](const tensor_handle&) { return std::any(part->saved++); },
      [part](const std::any& i) { return part->take(std::any_cast<std::size_t>(i)); });
  return f(inputs...);
}
/// The same for a function that changes nothing.
template <class F, class... In>
auto checkpoint(F f, const In&... inputs) {
  struct nothing {};  // whose copies write nothing
  static nothing none;
  return checkpoint_with(none, std::move(f), inputs...);
}

}  // namespace ashlar

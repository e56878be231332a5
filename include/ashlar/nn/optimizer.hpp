// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/state_dict.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/optimizer.hpp"

/// Optimizers: they hold a module's parameters and what they remember of each.
namespace ashlar::nn {

/// How one parameter is treated; factors on the optimizer's own numbers.
struct parameter_group {
  double lr = 1.0;
  double weight_decay = 1.0;
};

/// Decay for weights, none for what has one dimension or none: biases, weights of norms.
struct decay_matrices {
  constexpr parameter_group operator()(std::string_view, const tensor_spec& s) const {
    return {.lr = 1.0, .weight_decay = s.rank >= 2 ? 1.0 : 0.0};
  }
};

/// Maps a parameter's name and spec to its group. Model: `decay_matrices`.
template <class R>
concept GroupRule = requires(const R rule, std::string_view name, const tensor_spec& s) {
  { rule(name, s) } -> std::convertible_to<parameter_group>;
};

namespace detail {

inline void require_option(std::string_view optimizer, std::string_view option, double value,
                           bool holds, std::string_view rule) {
  if (!holds) {
    throw argument_error(
        "ashlar::nn::" + std::string(optimizer),
        std::string(option) + " is " + std::to_string(value) + "; it must be " + std::string(rule));
  }
}

/// The parameters of a module that want a gradient, with tensors of the same shape beside each.
template <class Parameter>
class optimized {
 public:
  /// 16-bit parameters are remembered in float; none of it is for the tape.
  using moment = tensor<compute_type<typename Parameter::value_type>,
                        exclude<typename Parameter::keys, keys::autograd>>;
  struct entry {
    std::string name;
    Parameter value;
    parameter_group group;
    std::int64_t steps = 0;
    std::vector<moment> moments;
  };

  template <class M, GroupRule Rule>
  optimized(const M& module, const Rule& rule, std::vector<std::string_view> moment_names)
      : moment_names_(std::move(moment_names)) {
    for (auto& [name, x] : parameter_list(module)) {
      if (requires_grad(x)) {
        entry e{std::move(name), x, {}, 0, {}};
        e.group = rule(std::string_view(e.name), x.spec());
        for (std::size_t i = 0; i < moment_names_.size(); ++i) {
          [[maybe_unused]] const auto there = beside(x);
          e.moments.push_back(zeros<moment>(shape(x.shape())));
        }
        entries_.push_back(std::move(e));
      }
    }
    if (entries_.empty()) {
      throw argument_error("ashlar::nn::optimizer",
                           "no parameter of the module wants a gradient; call "
                           "nn::require_grad(module) first");
    }
  }

  /// `f(entry, gradient)` for each parameter that has a gradient; it counts as a step.
  template <class F>
  void step(const F& f) {
    const no_grad off;
    for (entry& e : entries_) {
      if (const Parameter& g = gradient(e.value)) {
        f(e, g, ++e.steps);
      }
    }
  }

  [[nodiscard]] state_map state() const {
    state_map all;
    for (const entry& e : entries_) {
      all.emplace(e.name + ".step", counter_of(e));
      for (std::size_t i = 0; i < moment_names_.size(); ++i) {
        all.emplace(inside(e.name, moment_names_[i]), e.moments[i]);
      }
    }
    return all;
  }

  void load_state(const state_map& source) {
    std::vector<counter> counters;
    for (const entry& e : entries_) {
      counters.push_back(counter_of(e));
    }
    detail::load_state(
        [&](const auto& f) {
          for (std::size_t e = 0; e < entries_.size(); ++e) {
            f(entries_[e].name + ".step", counters[e]);
            for (std::size_t i = 0; i < moment_names_.size(); ++i) {
              f(inside(entries_[e].name, moment_names_[i]), entries_[e].moments[i]);
            }
          }
        },
        source, {});
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      entries_[e].steps = item(counters[e]);
    }
  }

 private:
  using counter = tensor<std::int64_t, typename moment::keys>;

  static counter counter_of(const entry& e) { return from_values<counter>({}, {e.steps}); }

  std::vector<std::string_view> moment_names_;
  std::vector<entry> entries_;
};

}  // namespace detail

/// AdamW: Adam with decay apart from the gradient.
///
/// A parameter without a gradient is left out of a step and its own step count does not move, as
/// in PyTorch. The step is `ops::adamw_step`.
/// Requires: the module's tensors stay the same ones.
/// Source:   Decoupled Weight Decay Regularization (Loshchilov, Hutter, 2019).
template <class Parameter>
class adamw {
  static_assert(Recorded<Parameter>,
                "ashlar::nn::adamw: the module's tensors must be recorded; compose the stack with "
                "differentiate<autograd::tape<>>");

 public:
  /// `rule(name, spec)` puts each parameter into a group; by default only matrices decay.
  /// Throws: `argument_error` for an option out of range, or where no parameter wants a gradient.
  template <class M, GroupRule Rule = decay_matrices>
  explicit adamw(const M& module, const adamw_options& options = {}, const Rule& rule = {})
      : options_(options), parameters_(module, rule, {"exp_avg", "exp_avg_sq"}) {
    const auto require = [](std::string_view name, double x, bool holds, std::string_view text) {
      detail::require_option("adamw", name, x, holds, text);
    };
    require("beta1", options.beta1, options.beta1 >= 0 && options.beta1 < 1, "in [0, 1)");
    require("beta2", options.beta2, options.beta2 >= 0 && options.beta2 < 1, "in [0, 1)");
    require("eps", options.eps, options.eps >= 0, "at least 0");
    require("weight_decay", options.weight_decay, options.weight_decay >= 0, "at least 0");
  }

  /// One step with learning rate `lr`. `grad_scale` multiplies every gradient first.
  void step(double lr, double grad_scale = 1.0) {
    parameters_.step([&](auto& p, const Parameter& g, std::int64_t number) {
      adamw_options o = options_;
      o.lr = lr * p.group.lr;
      o.weight_decay *= p.group.weight_decay;
      adamw_step(p.value, g, p.moments[0], p.moments[1], o, number, grad_scale);
    });
  }
  void step() { step(options_.lr); }

  /// Per parameter: `NAME.step` (int64), `NAME.exp_avg` and `NAME.exp_avg_sq`. Handles.
  [[nodiscard]] state_map state() const { return parameters_.state(); }
  /// Throws: `state_error`; the optimizer is unchanged then.
  void load_state(const state_map& source) { parameters_.load_state(source); }

 private:
  adamw_options options_;
  detail::optimized<Parameter> parameters_;
};

template <class M, class... Rest>
adamw(const M&, const Rest&...) -> adamw<parameter_type_of<M>>;
template <class M>
adamw(const M&, adamw_options) -> adamw<parameter_type_of<M>>;

/// Stochastic gradient descent, with momentum where that is not 0. The step is `ops::sgd_step`.
///
/// Decay is added to the gradient, as in PyTorch. Requires: as `adamw`.
template <class Parameter>
class sgd {
  static_assert(Recorded<Parameter>,
                "ashlar::nn::sgd: the module's tensors must be recorded; compose the stack with "
                "differentiate<autograd::tape<>>");

 public:
  /// Throws: as `adamw`.
  template <class M, GroupRule Rule = decay_matrices>
  explicit sgd(const M& module, const sgd_options& options = {}, const Rule& rule = {})
      : options_(options), parameters_(module, rule, names(options)) {
    detail::require_option("sgd", "momentum", options.momentum, options.momentum >= 0,
                           "at least 0");
    detail::require_option("sgd", "weight_decay", options.weight_decay, options.weight_decay >= 0,
                           "at least 0");
  }

  /// One step with learning rate `lr`. `grad_scale` multiplies every gradient first.
  void step(double lr, double grad_scale = 1.0) {
    parameters_.step([&](auto& p, const Parameter& g, std::int64_t) {
      sgd_options o = options_;
      o.lr = lr * p.group.lr;
      o.weight_decay *= p.group.weight_decay;
      if (p.moments.empty()) {
        sgd_step(p.value, g, p.value, o, grad_scale);
      } else {
        sgd_step(p.value, g, p.moments[0], o, grad_scale);
      }
    });
  }
  void step() { step(options_.lr); }

  /// Per parameter: `NAME.step` (int64), with momentum also `NAME.momentum_buffer`. Handles.
  [[nodiscard]] state_map state() const { return parameters_.state(); }
  /// Throws: `state_error`; the optimizer is unchanged then.
  void load_state(const state_map& source) { parameters_.load_state(source); }

 private:
  static std::vector<std::string_view> names(const sgd_options& options) {
    return options.momentum != 0.0 ? std::vector<std::string_view>{"momentum_buffer"}
                                   : std::vector<std::string_view>{};
  }

  sgd_options options_;
  detail::optimized<Parameter> parameters_;
};

template <class M, class... Rest>
sgd(const M&, const Rest&...) -> sgd<parameter_type_of<M>>;
template <class M>
sgd(const M&, sgd_options) -> sgd<parameter_type_of<M>>;

}  // namespace ashlar::nn

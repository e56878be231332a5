// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "ashlar/core/error.hpp"
#include "ashlar/nn/clip.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/reduction.hpp"

namespace ashlar::nn {

struct grad_scaler_options {
  double scale = 65536.0;        ///< to begin with
  double growth = 2.0;           ///< factor after `interval` steps in a row that were taken
  double backoff = 0.5;          ///< factor after a step that was left out
  std::int64_t interval = 2000;  ///< [steps]
  bool enabled = true;           ///< else losses and gradients stay as they are
};

/// Keeps small gradients of 16-bit formats above zero: the loss is multiplied by a large factor,
/// gradients are divided by it before the step, and a step whose gradients are not finite is left
/// out.
///
/// Per step: `backward(scaler.scale(loss))`, then `scaler.step(optimizer, parameters)`, then
/// `scaler.update()`. To clip in between, call `unscale` first. Several optimizers may share one
/// scaler; `update` comes after all of them.
/// Source: Mixed Precision Training (Micikevicius et al., 2018); the rules of PyTorch's GradScaler.
class grad_scaler {
 public:
  /// Throws: `argument_error` for an option out of range.
  explicit grad_scaler(const grad_scaler_options& options = {})
      : options_(options), factor_(static_cast<float>(options.scale)) {
    require("scale", options.scale, factor_ > 0 && std::isfinite(factor_), "positive and finite");
    require("growth", options.growth, options.growth > 1, "above 1");
    require("backoff", options.backoff, options.backoff > 0 && options.backoff < 1, "in (0, 1)");
    require("interval", static_cast<double>(options.interval), options.interval > 0, "positive");
  }

  /// What losses are multiplied by now.
  [[nodiscard]] double factor() const { return options_.enabled ? double{factor_} : 1.0; }
  /// Steps in a row that were taken since the factor last changed.
  [[nodiscard]] std::int64_t streak() const { return streak_; }
  /// Goes on where another scaler was.
  /// Throws: `argument_error` for a factor that is not positive and finite, or a streak out of
  /// range.
  void restore(double factor, std::int64_t streak) {
    const auto restored = static_cast<float>(factor);
    require("factor", factor, restored > 0 && std::isfinite(restored), "positive and finite");
    require("streak", static_cast<double>(streak), streak >= 0 && streak < options_.interval,
            "from 0 and below the interval");
    factor_ = restored;
    streak_ = streak;
  }

  template <Recorded X>
  [[nodiscard]] X scale(const X& loss) const {
    return options_.enabled ? call<ops::scale>(loss, factor(), 0.0) : loss;
  }

  /// Divides the gradients of the optimizer's parameters by the factor, and looks whether they are
  /// finite.
  ///
  /// Throws: `argument_error` where that has been done since the last `update`.
  /// Cost:   waits for the chip once per parameter.
  template <class Optimizer, class Parameters>
  void unscale(const Optimizer& optimizer, const Parameters& parameters) {
    if (!options_.enabled) {
      return;
    }
    seen& mine = seen_[&optimizer];
    if (mine.unscaled) {
      throw argument_error("ashlar::nn::grad_scaler::unscale",
                           "these gradients are unscaled already; call update first");
    }
    mine.unscaled = true;
    const no_grad off;
    const double inverse = static_cast<float>(1.0 / factor());
    double doubtful = 0.0;  // 0 times what is finite is 0, else NaN
    detail::for_each_gradient(parameters, [&](auto& g) {
      doubtful +=
          static_cast<double>(item(call<ops::sum>(call<ops::scale>(g, 0.0, 0.0), shape{}, false)));
      op_function<ops::scale>{}.in_place(g, inverse, 0.0);
    });
    mine.finite = doubtful == 0.0;
  }

  /// Calls `optimizer.step(args...)` where all gradients are finite, after `unscale` where that was
  /// not called.
  ///
  /// Returns: whether the step was taken.
  /// Throws:  `argument_error` where this optimizer has had its step since the last `update`.
  template <class Optimizer, class Parameters, class... A>
  bool step(Optimizer& optimizer, const Parameters& parameters, const A&... args) {
    if (options_.enabled) {
      if (seen_[&optimizer].stepped) {
        throw argument_error("ashlar::nn::grad_scaler::step",
                             "this optimizer has had its step; call update first");
      }
      if (!seen_[&optimizer].unscaled) {
        unscale(optimizer, parameters);
      }
      seen& mine = seen_[&optimizer];
      mine.stepped = true;
      if (!mine.finite) {
        return false;
      }
    }
    optimizer.step(args...);
    return true;
  }

  /// Adapts the factor to what the steps since the last call met.
  ///
  /// Throws: `argument_error` where there was none.
  void update() {
    if (!options_.enabled) {
      return;
    }
    if (seen_.empty()) {
      throw argument_error("ashlar::nn::grad_scaler::update",
                           "no gradients were looked at; call step first");
    }
    bool finite = true;
    for (const auto& [optimizer, one] : std::exchange(seen_, {})) {
      finite = finite && one.finite;
    }
    if (!finite) {
      factor_ *= static_cast<float>(options_.backoff);
      streak_ = 0;
    } else if (++streak_ == options_.interval) {
      const float more = factor_ * static_cast<float>(options_.growth);
      factor_ = std::isfinite(more) ? more : factor_;
      streak_ = 0;
    }
  }

 private:
  struct seen {
    bool unscaled = false, finite = true, stepped = false;
  };
  static void require(const char* option, double value, bool holds, const char* rule) {
    if (!holds) {
      throw argument_error(
          "ashlar::nn::grad_scaler",
          std::string(option) + " is " + std::to_string(value) + "; it must be " + rule);
    }
  }

  grad_scaler_options options_;
  float factor_;
  std::int64_t streak_ = 0;
  std::map<const void*, seen> seen_;
};

}  // namespace ashlar::nn

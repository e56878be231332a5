// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ashlar/chip/blocks.hpp"
#include "ashlar/chip/description.hpp"
#include "ashlar/core/error.hpp"

/// Block sizes by measurement: the fastest of a list, remembered for each class of shapes.
namespace ashlar::chip {

/// Measures what a launch costs, in a unit of its own: seconds, or a simulator's cycles.
template <class M>
concept Measure = requires(M& measure, void (*launch)()) {
  { measure(launch) } -> std::convertible_to<double>;
};

/// Seconds on the wall clock: the least of some repetitions after a launch that is not counted.
///
/// Requires: a launch waits for its queue.
struct wall_clock {
  int repetitions = 5;

  template <class F>
  double operator()(const F& launch) {
    launch();
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < std::max(repetitions, 1); ++i) {
      const auto begin = std::chrono::steady_clock::now();
      launch();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      best = std::min(best, took.count());
    }
    return best;
  }
};

/// Keeps winners. Model: `io::tuning_file`.
template <class S>
concept TuningStore =
    requires(S& store, const typename S::key& key, const typename S::winner& winner) {
      typename S::key;
      { store.find(key) } -> std::same_as<std::optional<typename S::winner>>;
      store.record(key, winner);
      requires std::constructible_from<typename S::key, typename S::key>;
      { key.chip } -> std::convertible_to<std::string_view>;
      { key.kernel } -> std::convertible_to<std::string_view>;
      { key.shape } -> std::convertible_to<std::string_view>;
      { winner.choice } -> std::convertible_to<std::string_view>;
      { winner.cost } -> std::convertible_to<double>;
    };

/// The class of a shape: each extent rounded up to a power of two, `512x1024x64`.
///
/// Throws: `argument_error` for a negative extent.
inline std::string shape_class(std::span<const std::int64_t> extents) {
  std::string text;
  for (const std::int64_t n : extents) {
    if (n < 0) {
      throw argument_error("ashlar::chip::shape_class", "an extent is negative");
    }
    constexpr auto most = std::uint64_t{1} << 63;
    const auto u = static_cast<std::uint64_t>(n);
    text.append(text.empty() ? "" : "x")
        .append(std::to_string(n == 0     ? 0
                               : u > most ? most
                                          : std::bit_ceil(u)));
  }
  return text.empty() ? "scalar" : text;
}

/// How a choice is called in a file.
inline std::string choice_name(std::int64_t block) { return std::to_string(block); }
inline std::string choice_name(const matmul_blocks& b) {
  return std::to_string(b.m) + "x" + std::to_string(b.n) + "x" + std::to_string(b.k);
}

/// The name under which a chip's winners are kept: its own, and a digest of the description, so
/// that a chip that is described anew is measured anew.
inline std::string tuning_name(const chip_description& d) {
  std::uint64_t digest = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&](auto number) {
    auto bits = static_cast<std::uint64_t>(number);
    for (int i = 0; i < 8; ++i, bits >>= 8) {
      digest = (digest ^ (bits & 0xffu)) * 0x100000001b3u;
    }
  };
  for (const int n : d.matrix_unit) {
    add(n);
  }
  for (const int n : d.matrix_cycles) {
    add(n);
  }
  add(d.vector_bytes);
  add(d.scratchpad_bytes);
  add(d.scratchpad_banks);
  add(d.alignment);
  add(d.dma_engines);
  add(d.register_bytes);
  add(d.cache_bytes);
  add(d.loads_per_cycle);
  add(d.matrix_latency);
  add(d.memory_bytes_per_cycle);
  add(d.memory_latency);
  add(d.memory_burst_bytes);
  add(d.memory_outstanding);
  add(d.control_cycles);
  add(d.bank_bytes);
  add(d.copy_uses_compute ? 1 : 0);
  std::string text(d.name);
  text += '#';
  for (int i = 60; i >= 0; i -= 4) {
    text += "0123456789abcdef"[digest >> i & 15u];
  }
  return text;
}

/// Finds the fastest of several ways to launch a kernel, once for each class of shapes.
///
/// Choices are template arguments, since block sizes are: `run<8, 16>(kernel, shape, launch)` calls
/// `launch(std::integral_constant<int, 8>{})` or the other. A launch that is measured runs several
/// times, so it must write the same whenever it runs. Not for several threads at once.
template <class Store, class M = wall_clock>
class autotuner {
  static_assert(
      TuningStore<Store>,
      "ashlar::chip::autotuner<Store, M>: Store must model TuningStore (`find`, `record`); "
      "see io::tuning_file");
  static_assert(Measure<M>,
                "ashlar::chip::autotuner<Store, M>: M must model Measure (called with a "
                "launch it returns what that costs)");

 public:
  /// `machine` tells chips apart that have one description: a processor's model, say.
  ///
  /// Requires: `store` outlives this.
  autotuner(Store& store, const chip_description& chip, M measure = {},
            std::string_view machine = {})
      : store_(&store), chip_(tuning_name(chip)), measure_(std::move(measure)) {
    chip_.append(machine.empty() ? "" : "@").append(machine);
  }

  /// Which of `Choices` is the fastest: the one remembered, if it is on the list, else by
  /// measurement.
  ///
  /// Effects: measures at most once for each kernel and class; the store then has the winner. A
  ///          choice whose launch throws an `ashlar::error`, or whose cost is not a finite number
  ///          from 0 on, is out; of equal ones the first wins.
  /// Throws:  what the last choice threw where none is left, or `argument_error`; what `Store`
  /// does.
  template <auto... Choices, class F>
  std::size_t find(std::string_view kernel, std::span<const std::int64_t> shape, const F& launch) {
    static_assert(sizeof...(Choices) > 0,
                  "ashlar::chip::autotuner::find: there is nothing to choose from");
    const typename Store::key key{chip_, std::string(kernel), shape_class(shape)};
    const std::array<std::string, sizeof...(Choices)> names{choice_name(Choices)...};
    if (const auto known = store_->find(key)) {
      const auto at = std::find(names.begin(), names.end(), known->choice);
      if (at != names.end()) {
        return static_cast<std::size_t>(at - names.begin());
      }
    }
    std::size_t best = names.size();
    double least = std::numeric_limits<double>::infinity();
    std::exception_ptr failure;
    std::size_t i = 0;
    const auto measure = [&](auto choice) {
      try {
        const double cost = measure_([&] { launch(choice); });
        if (std::isfinite(cost) && cost >= 0 && cost < least) {
          best = i;
          least = cost;
        }
      } catch (const error&) {
        failure = std::current_exception();
      }
      ++i;
    };
    (measure(std::integral_constant<decltype(Choices), Choices>{}), ...);
    if (best == names.size()) {
      if (failure != nullptr) {
        std::rethrow_exception(failure);
      }
      throw argument_error("ashlar::chip::autotuner", "no choice has a finite cost");
    }
    store_->record(key, typename Store::winner{names[best], least});
    return best;
  }

  /// Launches the fastest of `Choices`.
  template <auto... Choices, class F>
  void run(std::string_view kernel, std::span<const std::int64_t> shape, const F& launch) {
    const std::size_t best = find<Choices...>(kernel, shape, launch);
    std::size_t i = 0;
    ((i++ == best ? static_cast<void>(launch(std::integral_constant<decltype(Choices), Choices>{}))
                  : static_cast<void>(0)),
     ...);
  }
  template <auto... Choices, class F>
  void run(std::string_view kernel, std::initializer_list<std::int64_t> shape, const F& launch) {
    run<Choices...>(kernel, std::span<const std::int64_t>(shape.begin(), shape.size()), launch);
  }
  template <auto... Choices, class F>
  std::size_t find(std::string_view kernel, std::initializer_list<std::int64_t> shape,
                   const F& launch) {
    return find<Choices...>(kernel, std::span<const std::int64_t>(shape.begin(), shape.size()),
                            launch);
  }

 private:
  Store* store_;
  std::string chip_;
  M measure_;
};

}  // namespace ashlar::chip

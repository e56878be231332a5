// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "ashlar/conformance/values.hpp"
#include "ashlar/ops/fwd.hpp"

/// What is written about an operator so that the kit can check it.
///
/// Everything here is data or a function of plain numbers: no element type, no chip. To add an
/// operator, specialise `samples` beside those of its family in `ashlar/conformance/samples/`:
///
///     template <>
///     struct samples<ops::softmax> {
///       template <class T>
///       using arguments = types<T>;  // of its tensors; attributes as the operator takes them:
///       static std::tuple<std::int64_t> attributes(const settings& s) { return {s.integer[0]}; }
///       static void list(sample_list& all);                   // `all.add(...)` for each case
///       static std::vector<numbers> twin(const question& q);  // the results, in double
///     };
///
/// The twin is written from the operator's documentation and shares no code with any kernel: it
/// gives shapes, too. Optional members:
/// - `template <class T> static constexpr bool takes`: whether the operator allows an element type,
///   where the kernel's signature does not say so (composites, plain operators);
/// - `using parts = ops::operators<...>`: what a composite calls;
/// - `static constexpr std::array writes{0, 1}`: the arguments that a plain operator (one with
///   `using result = void`) writes to: they are its results;
/// - `template <class T> using second = variant<Op, types<...>>`: the same operator with other
///   element types, for samples that say `.second = true`: promotion, the way back of a cast.
/// Include the file in `ashlar/conformance/samples.hpp`, which does not compile while an operator
/// of `ops::all` has no samples. The host's and the accelerator's tests then run them.
namespace ashlar::conformance {

template <class... T>
struct types {};

/// An operator called with tensors of these element types.
template <class Op, class Types>
struct variant {};

/// The attributes of any operator; `samples<Op>::attributes` picks its own.
struct settings {
  shape list{};
  std::array<std::int64_t, 5> integer{};
  std::array<double, 4> number{};
  std::array<bool, 2> flag{};
};

/// One argument: its shape, what stands in it and how it lies.
struct given {
  shape extents;
  values what = values::any;
  std::int64_t limit = 0;  ///< of indices
  layout how = layout::dense;
};

/// What a result may differ by from its twin, beside its own rounding:
/// `terms` x (unit roundoff of the type that sums are kept in) x `magnitude`.
struct tolerance {
  double terms = 0;      ///< of the longest chain; a function counts as two places
  double magnitude = 0;  ///< at most the sum of the sizes of the terms
};

struct sample {
  std::vector<given> in{};
  settings with{};
  tolerance allowed{};
  bool refused = false;   ///< the call must throw
  bool gradient = false;  ///< smooth around these inputs: gradients are checked, too
  bool second = false;    ///< of `samples<Op>::second`
  /// Changes the numbers where arguments depend on each other.
  void (*prepare)(std::vector<numbers>& in, const settings& with) = nullptr;
};

/// The samples of one operator in one element type, made anew wherever they are wanted.
struct sample_list {
  dtype type;  ///< of the arguments that have no type of their own
  std::vector<sample> all{};

  [[nodiscard]] bool floating() const { return is_floating(type); }

  /// The sample three times: dense; with gaps; arguments turned and expanded in turns.
  void add(sample s) {
    bool has_room = false;
    for (const given& g : s.in) {
      has_room = has_room || element_count(g.extents.span()) > 1;
    }
    all.push_back(s);
    if (s.refused || !has_room) {
      return;
    }
    for (given& g : s.in) {
      g.how = layout::gaps;
    }
    all.push_back(s);
    for (std::size_t i = 0; i < s.in.size(); ++i) {
      const bool is_data = s.in[i].what != values::index && s.in[i].what != values::ignored;
      s.in[i].how = i % 2 == 0 || !is_data ? layout::turned : layout::expanded;
    }
    s.gradient = false;
    all.push_back(s);
  }
  /// Dense and with gaps: for operators that write to their arguments.
  void add_written(sample s) {
    all.push_back(s);
    for (given& g : s.in) {
      g.how = layout::gaps;
    }
    all.push_back(s);
  }
  /// Once, as it is: for what one layout shows.
  void add_once(const sample& s) { all.push_back(s); }
};

/// A twin is asked for results.
struct question {
  dtype type;  ///< in which the call happens
  const std::vector<numbers>& in;
  const settings& with;
};

/// The samples of an operator.
template <class Op>
struct samples {};

template <class Op>
concept HasSamples = requires(sample_list& all, const question& q) {
  samples<Op>::list(all);
  { samples<Op>::twin(q) } -> std::same_as<std::vector<numbers>>;
};

/// What the checker needs to know about an operator.
struct described {
  void (*list)(sample_list&) = nullptr;
  std::vector<numbers> (*twin)(const question&) = nullptr;
};
template <HasSamples Op>
[[nodiscard]] described describe() {
  return {&samples<Op>::list, &samples<Op>::twin};
}

/// Mixin: no attributes.
struct plain_samples {
  static std::tuple<> attributes(const settings&) { return {}; }
};

}  // namespace ashlar::conformance

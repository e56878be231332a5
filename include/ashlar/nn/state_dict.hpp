// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <map>
#include <set>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/nn/module.hpp"
#include "ashlar/ops/copy.hpp"

namespace ashlar::nn {

/// Tensors by name. Handles: the elements stay where they are.
using state_map = std::map<std::string, tensor_handle, std::less<>>;

/// A state that does not fit what it is loaded into.
struct state_error final : error {
  enum class problem { missing, unexpected, mismatch };

  problem what_is_wrong;
  std::string name;           ///< the first one
  tensor_spec wanted, found;  ///< where both exist

  state_error(problem p, std::string_view parameter, const tensor_spec& expected = {},
              const tensor_spec& given = {},
              std::source_location at = std::source_location::current())
      : error(at), what_is_wrong(p), name(parameter), wanted(expected), found(given) {}

 private:
  static std::string describe(const tensor_spec& s) {
    return std::string(name_of(s.type)) + to_string(s.shape());
  }
  [[nodiscard]] std::string message() const override {
    const std::string start = "ashlar::nn: loading a state: '" + name;
    switch (what_is_wrong) {
      case problem::missing:
        return start + "' is missing; it must be there as " + describe(wanted);
      case problem::unexpected:
        return start + "' is unknown; leave it out, or allow_unexpected";
      default:
        return start + "' is " + describe(found) + "; it must be " + describe(wanted);
    }
  }
};

/// Every tensor of a module by its name, buffers too.
template <class M>
[[nodiscard]] state_map state_dict(const M& module, const std::string& prefix = {}) {
  state_map state;
  named_tensors(
      module, [&](const std::string& name, const auto& x) { state.emplace(name, x); }, prefix);
  return state;
}

struct load_options {
  bool allow_missing = false;     ///< what `source` lacks keeps its elements
  bool allow_unexpected = false;  ///< what the module lacks is passed over
};

namespace detail {

/// Loads what `visit_all(f)` shows as `f(name, tensor)`: checks everything, then copies.
template <class VisitAll>
void load_state(const VisitAll& visit_all, const state_map& source, load_options options) {
  using problem = state_error::problem;
  std::set<std::string, std::less<>> known;
  visit_all([&](const std::string& name, const auto& x) {
    known.insert(name);
    const auto at = source.find(name);
    if (at == source.end() || !at->second) {
      if (!options.allow_missing) {
        throw state_error(problem::missing, name, x.spec());
      }
    } else if (!same_shape(at->second.spec(), x.spec()) ||
               at->second.spec().type != x.spec().type) {
      throw state_error(problem::mismatch, name, x.spec(), at->second.spec());
    }
  });
  for (const auto& [name, x] : source) {
    if (!options.allow_unexpected && !known.contains(name)) {
      throw state_error(problem::unexpected, name);
    }
  }
  const no_grad off;
  visit_all([&](const std::string& name, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    const auto at = source.find(name);
    // A state may hold the very tensors that it is loaded into.
    if (at != source.end() && at->second && at->second.bytes() != x.bytes()) {
      X to = x;
      ashlar::copy.in_place(to, X(at->second));
    }
  });
}

}  // namespace detail

/// Copies elements into the tensors of a module, which stay the same tensors.
///
/// Requires: the tensors of `source` lie on the module's chip.
/// Throws:   `state_error` for the first name that is missing or has another shape or element type,
///           then for the first that the module lacks; the module is unchanged then.
template <class M>
void load_state_dict(M& module, const state_map& source, load_options options = {}) {
  detail::load_state([&](const auto& f) { named_tensors(module, f); }, source, options);
}

}  // namespace ashlar::nn

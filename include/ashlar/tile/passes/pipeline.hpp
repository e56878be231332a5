// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

#include "ashlar/tile/passes/branches.hpp"
#include "ashlar/tile/passes/canonicalise.hpp"
#include "ashlar/tile/passes/combine.hpp"
#include "ashlar/tile/passes/common.hpp"
#include "ashlar/tile/passes/dead.hpp"
#include "ashlar/tile/passes/invariant.hpp"
#include "ashlar/tile/passes/rewriter.hpp"
#include "ashlar/tile/passes/unroll.hpp"

namespace ashlar::tile::passes {

/// What the default pipeline does beyond what always pays.
struct options {
  int branch_instructions = 16;    ///< see `branches_to_selects`
  unroll_limits unroll{};          ///< see `unroll`
  bool fuse_multiply_add = false;  ///< changes bits
};

/// A pass of the default pipeline.
struct pipeline_step {
  std::string_view name;
  program (*run)(const program&, const options&);
  /// Whether it may change the program: what does not is left out, since each evaluation costs a
  /// compiler time.
  bool (*applies)(const program&, const options&) = [](const program&, const options&) {
    return true;
  };
};

namespace detail {

constexpr bool has(opcode op, const program& p) {
  for (int i = 0; i < p.size; ++i) {
    if (p.at(i).op == op) {
      return true;
    }
  }
  return false;
}
/// A loop whose rounds may be counted.
constexpr bool has_counted_loop(const program& p) {
  for (int i = 0; i < p.size; ++i) {
    if (p.at(i).op == opcode::loop && p.at(p.operand(i, 0)).op == opcode::constant &&
        p.at(p.operand(i, 1)).op == opcode::constant &&
        p.at(p.operand(i, 2)).op == opcode::constant) {
      return true;
    }
  }
  return false;
}

constexpr bool has_rounds(const program& p) {
  return has(opcode::loop, p) || has(opcode::repeat, p);
}

struct default_pipeline {
  static constexpr std::array<pipeline_step, 11> steps{{
      {"canonicalise", [](const program& p, const options&) { return canonicalise(p); }},
      {"branches_to_selects",
       [](const program& p, const options& o) {
         return branches_to_selects(p, o.branch_instructions);
       },
       [](const program& p, const options&) { return has(opcode::branch, p); }},
      {"remove_dead", [](const program& p, const options&) { return remove_dead(p); }},
      {"unroll", [](const program& p, const options& o) { return unroll(p, o.unroll); },
       [](const program& p, const options&) { return has_counted_loop(p); }},
      {"canonicalise", [](const program& p, const options&) { return canonicalise(p); }},
      {"select_to_min_max", [](const program& p, const options&) { return select_to_min_max(p); },
       [](const program& p, const options&) { return has(opcode::select, p); }},
      {"merge_common", [](const program& p, const options&) { return merge_common(p); }},
      {"hoist_invariants", [](const program& p, const options&) { return hoist_invariants(p); },
       [](const program& p, const options&) { return has_rounds(p); }},
      {"merge_common", [](const program& p, const options&) { return merge_common(p); },
       [](const program& p, const options&) { return has_rounds(p); }},
      {"fuse_multiply_add",
       [](const program& p, const options& o) {
         return o.fuse_multiply_add ? fuse_multiply_add(p) : p;
       },
       [](const program&, const options& o) { return o.fuse_multiply_add; }},
      {"remove_dead", [](const program& p, const options&) { return remove_dead(p); }},
  }};
};

}  // namespace detail

inline constexpr int step_count = static_cast<int>(detail::default_pipeline::steps.size());

constexpr const pipeline_step& step(int k) {
  return detail::default_pipeline::steps[static_cast<std::size_t>(k)];
}

/// The default pipeline, for programs that are made at run time.
///
/// Throws: in debug builds, `pass_error` where a pass makes a program that breaks a rule.
constexpr program optimise(const program& p, const options& o = {}) {
  program now = p;
  for (int k = 0; k < step_count; ++k) {
    if (step(k).applies(now, o)) {
      now = checked([&](const program& q) { return step(k).run(q, o); }, step(k).name)(now);
    }
  }
  return now;
}

/// The default pipeline over a constant program, each step an evaluation of its own.
///
/// Compilers limit the work of one constant expression; so a long kernel still passes. Each result
/// is verified.
/// Example: `pipeline<program_of<kernel>>::result`.
template <const program& P, options O = options{}>
class pipeline {
  template <int K>
  struct stage {
    static constexpr const program& value = P;
  };
  template <int K>
    requires(K > 0 && step(K - 1).applies(stage<K - 1>::value, O))
  struct stage<K> {
    static constexpr program value = step(K - 1).run(stage<K - 1>::value, O);
    static_assert(static_cast<bool>(verify(value)),
                  "ashlar::tile::passes::pipeline: a pass made a program that breaks a rule of the "
                  "tile IR");
  };
  template <int K>
    requires(K > 0 && !step(K - 1).applies(stage<K - 1>::value, O))
  struct stage<K> : stage<K - 1> {};

 public:
  /// The program after the first `K` steps.
  template <int K>
  static constexpr const program& after = stage<K>::value;

  static constexpr const program& result = after<step_count>;
};

}  // namespace ashlar::tile::passes

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/fused.hpp"
#include "ashlar/graph/fusion.hpp"
#include "ashlar/graph/graph.hpp"

/// The backend that makes tile programs of a graph while the library runs.
namespace ashlar::graph {

namespace detail {
/// A chip, or that of a stack.
template <class T>
struct target_chip {
  using type = T;
};
template <class T>
  requires requires { typename T::chip; }
struct target_chip<T> {
  using type = typename T::chip;
};
}  // namespace detail

/// A graph whose calls are kernels of chip `C` where they can be. Called as `interpreted` is.
template <class C>
class tiled : public interpreted {
 public:
  explicit tiled(graph g) : interpreted(std::move(g)) {}

  /// The calls that run by their own kernels, in order; views compute nothing and are not among
  /// them.
  [[nodiscard]] std::vector<std::string> unfused() const {
    std::vector<std::string> names;
    for (const node& n : source().nodes) {
      if (n.kind == node_kind::call && !n.op->view && !kernel_of(n)) {
        names.emplace_back(n.op->name);
      }
    }
    return names;
  }
  /// The fused kernels, in order.
  [[nodiscard]] std::vector<const fused_kernel<C>*> kernels() const {
    std::vector<const fused_kernel<C>*> all;
    for (const node& n : source().nodes) {
      if (const auto* kernel = kernel_of(n)) {
        all.push_back(kernel);
      }
    }
    return all;
  }

 private:
  static const fused_kernel<C>* kernel_of(const node& n) {
    return n.kind != node_kind::call ? nullptr : fused_kernel<C>::from(*n.op);
  }
};

/// Fuses what can be one kernel and makes those kernels at run time: on the host by strips, which
/// need no compiler, on other chips by their code generators.
///
/// `Target`: a chip, or a stack for its chip. What cannot be fused runs by its own kernel.
template <class Target>
struct tiles {
  using chip = typename detail::target_chip<Target>::type;

  fusion_options options{};

  /// Cost: a few microseconds for each call, and what the chip's compiler takes for each kernel.
  [[nodiscard]] tiled<chip> compile(const graph& g) const {
    graph fused = fuse<chip>(g, options);
    for (const node& n : fused.nodes) {
      if (n.kind == node_kind::call) {
        if (const auto* kernel = fused_kernel<chip>::from(*n.op)) {
          std::vector<tensor_spec> in;
          for (const value_id v : n.in) {
            in.push_back(fused.spec(v));
          }
          static_cast<void>(kernel->program(in));
        }
      }
    }
    return tiled<chip>(std::move(fused));
  }
};

}  // namespace ashlar::graph

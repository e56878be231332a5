// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/conformance.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/planned.hpp"
#include "ashlar/graph/tiles.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "conformance/halves.hpp"

/// The samples of every operator as graphs: what backends make of them has the calls' bits.
namespace compiled_samples {

namespace al = ashlar;
namespace kit = ashlar::conformance;
namespace graph = ashlar::graph;
using host = al::chip::host;
using keys = al::make_key_set<al::keys::backend<host>>;
/// Those of the kit's run beside: what that has compiled serves here, too.
using taped_keys = al::make_key_set<al::keys::autograd, al::keys::backend<host>>;
using captured_keys = al::set_union<keys, al::key_set<al::keys::capture>>;
using handles = std::vector<al::tensor_handle>;
using form = kit::detail::calls::form;

/// Calls `f(type_identity<T>)` for the element types that samples have.
template <class F>
void with_type(al::dtype type, const F& f) {
  switch (type) {
    case al::dtype::float32:
      return f(std::type_identity<float>());
    case al::dtype::int32:
      return f(std::type_identity<std::int32_t>());
    case al::dtype::int64:
      return f(std::type_identity<std::int64_t>());
    case al::dtype::boolean:
      return f(std::type_identity<bool>());
    default:
      throw al::argument_error("compiled_samples", "an element type without captures");
  }
}
/// `neg` of what is float, so that the operator has neighbours to be one kernel with.
template <class Keys>
al::tensor_handle turned(const al::tensor_handle& x) {
  return x.spec().type != al::dtype::float32
             ? x
             : al::tensor_handle(al::neg(al::tensor<float, Keys>(x)));
}

struct tally {
  std::size_t samples = 0, kernels = 0;
};

/// One operator in one element type, as calls and as graphs.
class samples_of : kit::detail::caller {
 public:
  samples_of(const kit::detail::device& on, const kit::detail::calls& call, form captured,
             const kit::options& o)
      : caller(on, call, o), captured_(captured) {}

  void run(const kit::sample& s, tally& all) const {
    const std::vector<kit::array> in = inputs(s);
    for (const bool wrapped : {false, true}) {
      const outcome want = called(in, s, wrapped);
      const graph::graph g = written_down(in, s, wrapped);
      verify(g);
      check("eager", graph::eager{}, g, in, want);
      if (wrapped) {
        const graph::tiles<host> blocks;
        all.kernels += blocks.compile(g).kernels().size();
        check("blocks", blocks, g, in, want);
        check("strips",
              graph::tiles<host>{.options = {.reorder_sums = false, .host_blocks = false}}, g, in,
              want);
      } else {
        check("planned", graph::planned<host>{}, g, in, want);
      }
    }
    ++all.samples;
  }

 private:
  struct outcome {
    std::vector<kit::array> results, arguments;
  };

  /// `op(neg(x)...)` and its negative, or `op(x...)`.
  template <class Keys>
  handles call_with(form f, const handles& in, const kit::sample& s, bool wrapped) const {
    handles x;
    for (const al::tensor_handle& one : in) {
      // What is written to has to be the argument itself.
      x.push_back(wrapped && call_.written[0] < 0 ? turned<Keys>(one) : one);
    }
    handles y(4);
    f(x.data(), s.with, y.data());
    y.resize(call_.written[0] < 0 ? call_.results : 0);
    for (al::tensor_handle& one : y) {
      one = wrapped ? turned<Keys>(one) : one;
    }
    return y;
  }
  outcome look_at(const handles& results, const std::vector<kit::array>& in,
                  const handles& x) const {
    outcome o;
    for (const al::tensor_handle& y : results) {
      o.results.push_back(result(y));
    }
    for (std::size_t k = 0; k < in.size(); ++k) {
      o.arguments.push_back(downloaded(in[k], x[k]));
    }
    return o;
  }
  outcome called(const std::vector<kit::array>& in, const kit::sample& s, bool wrapped) const {
    const handles x = uploaded(in);
    return look_at(call_with<keys>(call_.functional, x, s, wrapped), in, x);
  }
  graph::graph written_down(const std::vector<kit::array>& in, const kit::sample& s,
                            bool wrapped) const {
    graph::graph g;
    graph::recorder to(g);
    handles x;
    for (const kit::array& a : in) {
      al::tensor_spec spec = a.spec;
      spec.offset = 0;
      const std::int32_t place =
          g.add({.kind = graph::node_kind::placeholder, .name = "x" + std::to_string(x.size())},
                std::span(&spec, 1));
      with_type(spec.type, [&]<class T>(std::type_identity<T>) {
        x.push_back(to.stand_in<al::tensor<T, captured_keys>>(
            g.nodes[static_cast<std::size_t>(place)].out[0]));
      });
    }
    for (const al::tensor_handle& y : call_with<captured_keys>(captured_, x, s, wrapped)) {
      with_type(y.spec().type, [&]<class T>(std::type_identity<T>) {
        g.outputs.push_back(to.value_of(al::tensor<T, captured_keys>(y)));
      });
    }
    return g;
  }
  template <class Backend>
  void check(const std::string& name, const Backend& backend, const graph::graph& g,
             const std::vector<kit::array>& in, const outcome& want) const {
    auto run = backend.compile(g);
    const handles x = uploaded(in);
    const outcome got = look_at(run(std::span<const al::tensor_handle>(x)), in, x);
    for (std::size_t r = 0; r < want.results.size(); ++r) {
      if (!al::same_shape(got.results[r].spec, want.results[r].spec)) {
        throw kit::detail::failure{name + ": another shape than the call's"};
      }
      kit::detail::same_bits(name, got.results[r], want.results[r]);
    }
    for (std::size_t k = 0; k < in.size(); ++k) {
      if (got.arguments[k].bytes != want.arguments[k].bytes) {
        throw kit::detail::failure{name + ": argument " + std::to_string(k) +
                                   " is not what calls make it"};
      }
    }
  }

  form captured_;
};

inline void check_samples(const std::string& op, const kit::described& described,
                          const kit::detail::calls& call, form captured, tally& all) {
  const kit::options o{.print = false};
  const kit::detail::device on = kit::detail::device_of<keys>();
  const samples_of these(on, call, captured, o);
  kit::sample_list list{al::dtype::float32, {}};
  described.list(list);
  for (std::size_t i = 0; i < list.all.size(); ++i) {
    const kit::sample& s = list.all[i];
    if (s.refused || s.second) {
      continue;
    }
    std::string what;
    try {
      these.run(s, all);
    } catch (const kit::detail::failure& f) {
      what = f.what;
    } catch (const std::exception& e) {
      what = e.what();
    }
    CHECK_MESSAGE(what.empty(), op, " sample ", i, ": ", what);
  }
}

template <class Op>
void check_one(tally& all) {
  using namespace kit::detail;
  using arguments = typename kit::samples<Op>::template arguments<float>;
  if constexpr (takes_type<Op, float>()) {
    if constexpr (supports<Op, host>(arguments{})) {
      [&]<class... A>(kit::types<A...>) {
        constexpr form captured = &forms<Op, captured_keys, captured_keys, A...>::functional;
        check_samples(std::string(name_of_operator<Op>()),
                      kit::compiled<>::of(index_in<Op>(al::ops::all{})),
                      calls_of<Op, keys, taped_keys>(arguments{}), captured, all);
      }(arguments{});
    }
  }
}

/// Checks one half of the operators.
template <std::size_t Half>
void check() {
  tally all;
  [&]<class... Op>(al::ops::operators<Op...>) {
    (check_one<Op>(all), ...);
  }(kit::part<al::ops::all, Half, 2>{});
  MESSAGE(all.samples << " samples, " << all.kernels << " kernels");
  CHECK(all.samples > 500);
  CHECK(all.kernels > 100);
}

}  // namespace compiled_samples

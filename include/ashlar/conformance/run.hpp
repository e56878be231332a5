// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/conformance/caller.hpp"
#include "ashlar/conformance/calls.hpp"
#include "ashlar/conformance/check.hpp"
#include "ashlar/conformance/report.hpp"
#include "ashlar/conformance/samples.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/ops/fwd.hpp"

/// Runs the samples of operators on a stack.
namespace ashlar::conformance {

/// The element types that `run` looks at where it is given none. Each is compiled for each
/// operator.
using default_types = types<float, bfloat16, std::int32_t>;

/// The part of the kit that no stack and no element type changes. Where several files run the kit,
/// `extern template struct ashlar::conformance::compiled<>;` in each and `template struct
/// ashlar::conformance::compiled<>;` in one of them compile it once.
template <class Kit = void>
struct compiled {
  /// Samples and twin of the operator number `index` of `ops::all`.
  static described of(std::size_t index) {
    return []<class... Op>(ops::operators<Op...>, std::size_t i) {
      const std::array<described, sizeof...(Op)> all{describe<Op>()...};
      return all[i];
    }(ops::all{}, index);
  }
  static void check(const detail::device& on, const described& op, const detail::calls& call,
                    const detail::calls* second, const options& o, cell& c) {
    detail::check_operator(on, op, call, second, o, c);
  }
  static void finish(const report& r, const options& o) {
    if (o.print) {
      std::fputs(r.text().c_str(), stdout);
    }
    write(o.json, o.json.empty() ? std::string() : r.json());
    write(o.html, o.html.empty() ? std::string() : r.html());
  }
  /// `o`, changed by what a program is given. Throws: `argument_error` for an option that there is
  /// not.
  static options parse(int argc, char** argv, options o = {});

 private:
  static void write(const std::string& path, const std::string& text) {
    if (path.empty()) {
      return;
    }
    std::FILE* const file = std::fopen(path.c_str(), "w");
    const bool ok = file != nullptr && std::fputs(text.c_str(), file) >= 0;
    if (file == nullptr || (std::fclose(file) != 0) || !ok) {
      throw argument_error("ashlar::conformance", "cannot write " + path);
    }
  }
};

namespace detail {

template <class List, std::size_t I, class Indices>
struct slice_of_list;
template <class... Op, std::size_t First, std::size_t... I>
struct slice_of_list<ops::operators<Op...>, First, std::index_sequence<I...>> {
  using type = ops::operators<std::tuple_element_t<First + I, std::tuple<Op...>>...>;
};

template <class Op, class... All>
consteval std::size_t index_in(ops::operators<All...>) {
  std::size_t i = 0;
  const bool found = ((std::is_same_v<Op, All> || (++i, false)) || ...);
  return found ? i : sizeof...(All);
}
template <class... All>
consteval std::size_t count_of(ops::operators<All...>) {
  return sizeof...(All);
}

/// `cast` of `cast<float>`: each stands in the list once.
template <class Op>
constexpr std::string_view name_of_operator() {
  constexpr std::string_view whole = ashlar::detail::short_name<Op>();
  return whole.substr(0, whole.find('<'));
}

template <class List, std::size_t I, std::size_t N>
struct part_of {
  static constexpr std::size_t first = count_of(List{}) * I / N;
  static constexpr std::size_t last = count_of(List{}) * (I + 1) / N;
  using type = typename slice_of_list<List, first, std::make_index_sequence<last - first>>::type;
};

template <class Op, class Keys, class Types>
struct second_calls {
  static const calls* get() { return nullptr; }
};
template <class Op, class Keys, class Other, class... A>
struct second_calls<Op, Keys, variant<Other, types<A...>>> {
  static const calls* get() {
    if constexpr (supports<Other, chip_of<Keys>>(types<A...>{})) {
      static const calls c = calls_of<Other, Keys, Keys>(types<A...>{});
      return &c;
    } else {
      return nullptr;
    }
  }
};

template <class Op, class T, class = void>
struct second_of {
  using type = void;
};
template <class Op, class T>  // not `requires`: g++ 12 finds no alias template there
struct second_of<Op, T, std::void_t<typename samples<Op>::template second<T>>> {
  using type = typename samples<Op>::template second<T>;
};

/// A chip, or that of a stack.
template <class T>
struct chip_in {
  using type = T;
};
template <class Stack>
  requires requires { typename Stack::chip::memory; }
struct chip_in<Stack> {
  using type = typename Stack::chip;
};

template <class Stack>
struct keys_of {
  using chip = typename chip_in<Stack>::type;
  using plain = key_set<keys::backend<chip>>;
  /// Gradients need every operator that derivatives call.
  static constexpr bool records = [] {
    if constexpr (requires { typename Stack::keys; }) {
      return contains<typename Stack::keys, keys::autograd> &&
             dispatch::coverage<chip>().count(found::missing) == 0;
    }
    return false;
  }();
  template <class T>
  using full = std::conditional_t<records && Floating<T>,
                                  make_key_set<keys::autograd, keys::backend<chip>>, plain>;
};

template <class Stack, class Op, class T>
void run_one(const options& o, report& r) {
  if ((!o.op.empty() && o.op != name_of_operator<Op>()) ||
      (!o.dtype.empty() && o.dtype != name_of(dtype_of<T>))) {
    return;
  }
  cell c{.op = name_of_operator<Op>(), .type = dtype_of<T>};
  c.what = "no kernel takes this element type";
  using k = keys_of<Stack>;
  using arguments = typename samples<Op>::template arguments<T>;
  if constexpr (takes_type<Op, T>()) {
    if constexpr (supports<Op, typename k::chip>(arguments{})) {
      constexpr std::size_t index = index_in<Op>(ops::all{});
      const device on = device_of<typename k::plain>();
      const calls call = calls_of<Op, typename k::plain, typename k::template full<T>>(arguments{});
      const calls* const second =
          second_calls<Op, typename k::plain, typename second_of<Op, T>::type>::get();
      if constexpr (index < count_of(ops::all{})) {
        compiled<>::check(on, compiled<>::of(index), call, second, o, c);
      } else {
        compiled<>::check(on, describe<Op>(), call, second, o, c);
      }
    }
  }
  r.cells.push_back(std::move(c));
}

template <class Stack, class Op, class... T>
void run_types(types<T...>, const options& o, report& r) {
  (run_one<Stack, Op, T>(o, r), ...);
}
template <class Stack, class Types, class... Op>
void run_operators(ops::operators<Op...>, const options& o, report& r) {
  (run_types<Stack, Op>(Types{}, o, r), ...);
}

}  // namespace detail

template <class Kit>
options compiled<Kit>::parse(int argc, char** argv, options o) {
  if (argc > 0) {
    o.program = argv[0];
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) {
        throw argument_error("ashlar::conformance", std::string(name) + " wants a value");
      }
      return argv[++i];
    };
    if (name == "--op") {
      o.op = value();
    } else if (name == "--dtype") {
      o.dtype = value();
    } else if (name == "--sample") {
      const std::string number = value();
      const char* const end = number.data() + number.size();
      if (std::from_chars(number.data(), end, o.sample).ptr != end || o.sample < 0) {
        throw argument_error("ashlar::conformance", "--sample wants a number, not " + number);
      }
    } else if (name == "--json") {
      o.json = value();
    } else if (name == "--html") {
      o.html = value();
    } else {
      throw argument_error("ashlar::conformance",
                           "no option " + std::string(name) +
                               "; there are --op, --dtype, --sample, --json and --html");
    }
  }
  return o;
}

/// Part `I` of `N` of a list of operators: for programs that are compiled in pieces.
template <class List, std::size_t I, std::size_t N>
using part = typename detail::part_of<List, I, N>::type;

/// Checks the operators of `List` in the element types of `Types` on a stack, or on a chip.
///
/// Each sample is run in every form that the operator has: functional (twice), `out=` (dense, with
/// gaps, empty, of a wrong shape, over an argument), in place, on the meta chip, and backward where
/// the stack records and the operator differentiates. Results are compared with a twin in double
/// precision that knows no chip. Memory around and between the elements must stay as it was, and is
/// NaN, so that what is read there shows.
///
/// Effects: prints the table, and writes files, as the options say.
/// Returns: the table.
/// Cost: compiles each form of each operator in each type: give fewer types, or split `List` over
///       files.
template <class Stack, class Types = default_types, class List = ops::all>
report run(const options& o = {}) {
  report r{.chip = std::string(detail::keys_of<Stack>::chip::description.name),
           .program = o.program};
  detail::run_operators<Stack, Types>(List{}, o, r);
  compiled<>::finish(r, o);
  return r;
}

/// `run` as a program: `--op softmax --dtype float32 --sample 17 --json FILE --html FILE`.
/// Returns: what `main` returns: 0 where nothing failed, 2 where there is nothing of these names.
template <class Stack, class Types = default_types, class List = ops::all>
int program(int argc, char** argv, options o = {}) {
  try {
    o = compiled<>::parse(argc, argv, std::move(o));
  } catch (const argument_error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
  const report r = run<Stack, Types, List>(o);
  if (r.is_empty()) {
    std::fprintf(stderr, "no operator, element type and sample of these names\n");
    return 2;
  }
  return r.ok() ? 0 : 1;
}

}  // namespace ashlar::conformance

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/dispatch.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/tile_form.hpp"
#include "ashlar/graph/traced.hpp"

/// Graphs that are constants: a function is captured in a constant expression.
namespace ashlar::graph {

/// A number, a truth or a list of extents, as part of a constant.
struct fixed_attribute {
  attribute::kind what = attribute::kind::integer;
  std::int64_t integer = 0;
  double real = 0;
  shape extents{};

  constexpr fixed_attribute() = default;
  template <class T>
    requires(!std::same_as<T, fixed_attribute>)
  constexpr explicit fixed_attribute(const T& value) {
    if constexpr (std::same_as<T, shape>) {
      what = attribute::kind::extents;
      extents = value;
    } else if constexpr (std::floating_point<T>) {
      what = attribute::kind::real;
      real = value;
    } else {
      static_assert(std::integral<T> || std::is_enum_v<T>,
                    "ashlar::graph::fixed: an attribute of the operator's own type cannot be part "
                    "of a constant; capture the function at run time");
      what = std::same_as<T, bool> ? attribute::kind::boolean : attribute::kind::integer;
      integer = static_cast<std::int64_t>(value);
    }
  }
  template <class T>
  [[nodiscard]] constexpr T as() const {
    if constexpr (std::same_as<T, shape>) {
      return extents;
    } else if constexpr (std::floating_point<T>) {
      return static_cast<T>(real);
    } else {
      return static_cast<T>(integer);
    }
  }
  friend constexpr bool operator==(const fixed_attribute&, const fixed_attribute&) = default;
};

/// A list with room for `N`. Throws: `argument_error` where that is not enough; in a constant
/// expression, compilation ends there.
template <class T, std::size_t N>
struct fixed_list {
  std::array<T, N> room{};
  std::size_t count = 0;

  constexpr void push_back(const T& x) {
    if (count == N) {
      throw argument_error("ashlar::graph::fixed", "the graph has no room for more than " +
                                                       std::to_string(N) + "; split the function");
    }
    room[count++] = x;
  }
  [[nodiscard]] constexpr std::size_t size() const { return count; }
  [[nodiscard]] constexpr bool empty() const { return count == 0; }
  [[nodiscard]] constexpr const T* begin() const { return room.data(); }
  [[nodiscard]] constexpr const T* end() const { return room.data() + count; }
  [[nodiscard]] constexpr const T& operator[](std::size_t i) const { return room[i]; }
  [[nodiscard]] constexpr T& operator[](std::size_t i) { return room[i]; }
};

/// What a node of a constant graph does.
struct fixed_operation {
  std::string_view name{};
  tile_part part{};
  traced (*write)(std::span<const traced> in,
                  const fixed_list<fixed_attribute, 4>& attributes) = nullptr;

  constexpr traced emit(std::span<const traced> in,
                        const fixed_list<fixed_attribute, 4>& attributes) const {
    return write(in, attributes);
  }
  /// As the reference that a `node` has.
  constexpr const fixed_operation* operator->() const { return this; }
};

struct fixed_node {
  node_kind kind = node_kind::call;
  fixed_operation op{};
  fixed_list<value_id, 4> in{};
  fixed_list<fixed_attribute, 4> attributes{};
  fixed_list<value_id, 1> out{};
};

/// A graph as a constant: placeholders and calls of one result each.
struct fixed_graph {
  static constexpr std::size_t most_nodes = 48;

  fixed_list<fixed_node, most_nodes> nodes{};
  fixed_list<value, most_nodes> values{};
  fixed_list<value_id, 8> outputs{};

  [[nodiscard]] constexpr const tensor_spec& spec(value_id v) const {
    return values[static_cast<std::size_t>(v)].spec;
  }
  constexpr value_id add(fixed_node n, const tensor_spec& s) {
    const auto v = static_cast<value_id>(values.size());
    n.out.push_back(v);
    values.push_back({s, static_cast<std::int32_t>(nodes.size()), 0});
    nodes.push_back(n);
    return v;
  }
};

struct fixed_calls;

/// What stands for a tensor while a constant graph is captured.
template <Scalar T>
struct fixed_tensor {
  using value_type = T;
  using answers = fixed_calls;

  fixed_graph* to = nullptr;
  value_id value = no_value;

  [[nodiscard]] constexpr const tensor_spec& spec() const { return to->spec(value); }
  [[nodiscard]] constexpr std::span<const std::int64_t> shape() const { return spec().shape(); }
  [[nodiscard]] constexpr std::int64_t extent(int axis) const { return spec()[axis]; }
  [[nodiscard]] constexpr std::int64_t size() const { return spec().size; }
  [[nodiscard]] constexpr int rank() const { return spec().rank; }
};

}  // namespace ashlar::graph

namespace ashlar::detail {
template <class T>
struct argument_traits<graph::fixed_tensor<T>> {
  static constexpr bool is_tensor = true;
  using keys = key_set<>;
};
}  // namespace ashlar::detail

namespace ashlar::graph {

/// Writes down calls of `fixed_tensor`s.
struct fixed_calls {
  /// Throws: what the operator's `meta` throws; `argument_error` for what cannot be part of one
  /// tile program: in a constant expression, compilation ends there.
  template <class Op, class... A>
  static constexpr auto call(const A&... args) {
    static_assert(Structured<Op> && tile_form<Op>::exists,
                  "ashlar::graph::fixed: Op has no tile form; use operators that are elementwise, "
                  "reduce the last axis or normalise it, or specialise tile_form<Op>");
    static_assert(ashlar::detail::FitsMeta<Op, A...>,
                  "ashlar::graph::fixed: these are not the arguments of Op; give the tensors that "
                  "Op::arguments names, then the attributes that Op::meta takes");
    constexpr dtype type = ashlar::detail::call_type<Op, A...>(key_set<>{});
    constexpr dtype element =
        ashlar::detail::functional_result<Op, key_set<>, key_set<>, tensor_spec, A...>::element;
    constexpr std::size_t tensors = (std::size_t{0} + ... + std::size_t{Tensor<A>});
    fixed_graph* to = nullptr;
    fixed_node n;
    std::vector<tensor_spec> in;
    const auto add = [&]<class X>(const X& a) {
      if constexpr (Tensor<X>) {
        to = a.to;
        n.in.push_back(a.value);
        in.push_back(a.spec());
      } else {
        n.attributes.push_back(fixed_attribute(a));
      }
    };
    (add(args), ...);
    tensor_spec s = Op::meta(ashlar::detail::spec_of(args)...);
    s.type = element;
    n.op.name = Op::name;
    n.op.part = tile_form<Op>::part(std::span<const tensor_spec>(in), n.attributes);
    if (n.op.part.what == tile_part::kind::none) {
      throw argument_error("ashlar::graph::fixed",
                           "only the last axis is reduced or normalised in a constant graph");
    }
    n.op.write = &detail::emit_call<Op, type, detail::fixed_arguments<Op, tensors>, element,
                                    sizeof...(A) - tensors, fixed_list<fixed_attribute, 4>>;
    return fixed_tensor<scalar_of<element>>{to, to->add(n, s)};
  }
};

/// An argument of a function that is captured as a constant: `fixed_argument<float>{64, 128}`.
template <Scalar T>
struct fixed_argument : shape {
  using shape::shape;
};

/// Captures `f` in a constant expression: `constexpr auto g = capture_fixed(f,
/// fixed_argument<float>{64, 128});`.
///
/// `f` is a function object with a constexpr call that takes `auto`; it returns a tensor or a tuple
/// of them. Cost: constant evaluation, within the default limits of g++ and clang.
template <class F, class... T>
[[nodiscard]] constexpr fixed_graph capture_fixed(const F& f,
                                                  const fixed_argument<T>&... arguments) {
  fixed_graph g;
  const auto place = [&]<class X>(const fixed_argument<X>& a) {
    fixed_node n;
    n.kind = node_kind::placeholder;
    return fixed_tensor<X>{&g, g.add(n, contiguous_spec(dtype_of<X>, a.span()))};
  };
  const std::tuple all{place(arguments)...};  // braces: from left to right
  const auto result = std::apply(f, all);
  if constexpr (Tensor<decltype(result)>) {
    g.outputs.push_back(result.value);
  } else {
    std::apply([&](const auto&... r) { (g.outputs.push_back(r.value), ...); }, result);
  }
  return g;
}

/// Text as a constant: clang has no strings there with the library of g++ 12.
class fixed_text {
 public:
  constexpr fixed_text& operator+=(char c) {
    all_.push_back(c);
    return *this;
  }
  constexpr fixed_text& operator+=(std::string_view text) {
    for (const char c : text) {
      all_.push_back(c);
    }
    return *this;
  }
  [[nodiscard]] constexpr std::string_view view() const { return {all_.begin(), all_.size()}; }
  friend constexpr bool operator==(const fixed_text& a, std::string_view b) {
    return a.view() == b;
  }

 private:
  fixed_list<char, 4096> all_{};
};

namespace detail {

constexpr void append_number(fixed_text& text, std::int64_t n) {
  if (n < 0) {
    text += '-';
  }
  std::uint64_t rest = n < 0 ? ~static_cast<std::uint64_t>(n) + 1 : static_cast<std::uint64_t>(n);
  std::uint64_t unit = 1;
  while (rest / unit >= 10) {
    unit *= 10;
  }
  for (; unit != 0; rest %= unit, unit /= 10) {
    text += static_cast<char>('0' + rest / unit);
  }
}
constexpr double power_of_ten(int exponent) {
  double p = 1;
  for (int i = 0; i < exponent; ++i) {
    p *= 10;
  }
  return p;
}
/// The fewest decimal digits that are `x` again.
constexpr void append_number(fixed_text& text, double x) {
  if (x != x) {
    text += "nan";
    return;
  }
  if (x < 0) {
    text += '-';
    x = -x;
  }
  if (x > std::numeric_limits<double>::max()) {
    text += "inf";
    return;
  }
  if (x < 9007199254740992.0 && static_cast<double>(static_cast<std::int64_t>(x)) == x) {
    append_number(text, static_cast<std::int64_t>(x));
    text += ".0";
    return;
  }
  int exponent = 0;  // of the first digit
  for (double y = x; y >= 10; y /= 10) {
    ++exponent;
  }
  for (double y = x; y < 1; y *= 10) {
    --exponent;
  }
  std::int64_t mantissa = 0;
  for (int digits = 1; digits <= 17; ++digits) {
    const int shift = digits - 1 - exponent;  // x * 10^shift is a whole number of so many digits
    const double whole = shift >= 0 ? x * power_of_ten(shift) : x / power_of_ten(-shift);
    mantissa = static_cast<std::int64_t>(whole + 0.5);
    const auto m = static_cast<double>(mantissa);
    if ((shift >= 0 ? m / power_of_ten(shift) : m * power_of_ten(-shift)) == x) {
      break;
    }
  }
  fixed_text all;
  append_number(all, mantissa);
  const std::string_view digits = all.view();
  const bool plain = exponent >= -4 && exponent < static_cast<int>(digits.size());
  if (plain && exponent < 0) {
    text += "0.";
    for (int i = -1; i > exponent; --i) {
      text += '0';
    }
    text += digits;
    return;
  }
  const std::size_t before = plain ? static_cast<std::size_t>(exponent) + 1 : 1;
  text += digits.substr(0, before);
  if (digits.size() > before) {
    text += '.';
    text += digits.substr(before);
  }
  if (!plain) {
    text += 'e';
    append_number(text, std::int64_t{exponent});
  }
}
constexpr void append_shape(fixed_text& text, std::span<const std::int64_t> extents) {
  text += '[';
  for (std::size_t i = 0; i < extents.size(); ++i) {
    text += i == 0 ? "" : ", ";
    append_number(text, extents[i]);
  }
  text += ']';
}

}  // namespace detail

/// A constant graph as text, one node a line; usable in `static_assert`.
///
/// ```
/// %0 = placeholder : float32[64, 128]
/// %1 = softmax %0, -1 : float32[64, 128]
/// return %1
/// ```
[[nodiscard]] constexpr fixed_text to_text(const fixed_graph& g) {
  fixed_text text;
  const auto name = [&](value_id v) {
    text += '%';
    detail::append_number(text, std::int64_t{v});
  };
  for (const fixed_node& n : g.nodes) {
    name(n.out[0]);
    text += " = ";
    text += n.kind == node_kind::placeholder ? std::string_view("placeholder") : n.op.name;
    bool first = true;
    const auto separate = [&] {
      text += first ? " " : ", ";
      first = false;
    };
    for (const value_id v : n.in) {
      separate();
      name(v);
    }
    for (const fixed_attribute& a : n.attributes) {
      separate();
      if (a.what == attribute::kind::boolean) {
        text += a.integer != 0 ? "true" : "false";
      } else if (a.what == attribute::kind::integer) {
        detail::append_number(text, a.integer);
      } else if (a.what == attribute::kind::real) {
        detail::append_number(text, a.real);
      } else {
        detail::append_shape(text, a.extents.span());
      }
    }
    text += " : ";
    text += name_of(g.spec(n.out[0]).type);
    detail::append_shape(text, g.spec(n.out[0]).shape());
    text += '\n';
  }
  text += "return";
  for (std::size_t i = 0; i < g.outputs.size(); ++i) {
    text += i == 0 ? " " : ", ";
    name(g.outputs[i]);
  }
  text += '\n';
  return text;
}

}  // namespace ashlar::graph

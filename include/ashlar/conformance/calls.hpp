// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/chip/meta.hpp"
#include "ashlar/conformance/sample.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/coverage.hpp"

/// The only typed part of the kit: each operator's forms on a stack behind pointers to functions,
/// so that what checks them is compiled once.
namespace ashlar::conformance::detail {

/// What happens on a chip, with the chip forgotten.
struct device {
  std::string_view name;
  std::size_t alignment;  ///< of a tensor's first element [bytes]
  /// A tensor with that geometry in memory of its own that holds all of the array's bytes.
  tensor_handle (*upload)(const array&);
  /// All bytes of the memory that a tensor of `upload` lies in, or overwrites them.
  void (*download)(const tensor_handle&, std::span<std::byte>);
  void (*overwrite)(const tensor_handle&, std::span<const std::byte>);
  /// What the elements of any tensor reach, from the first one on.
  void (*read)(const tensor_handle&, std::span<std::byte>);
  /// Another tensor in the memory of one from `upload`; its offset counts from the first byte.
  tensor_handle (*alias)(const tensor_handle&, const tensor_spec&);
};

/// The forms of one operator with some element types; null where there is none.
struct calls {
  using form = void (*)(const tensor_handle* in, const settings&, tensor_handle* out);

  std::array<dtype, 8> in{};   ///< element types of the arguments
  std::array<dtype, 4> out{};  ///< of the results
  std::size_t arguments = 0;
  std::size_t results = 0;
  std::array<int, 4> written{-1, -1, -1, -1};  ///< arguments that are results
  bool is_view = false;
  form functional = nullptr;
  form out_form = nullptr;  ///< `out` is given, or empty
  form in_place = nullptr;  ///< `in[0]` is changed
  /// Geometry alone: `in` to `out`.
  void (*meta)(const tensor_spec* in, const settings&, tensor_spec* out) = nullptr;
  /// `in` and the results' gradients behind them, to the gradients of `in`. Empty handles stand
  /// for results from which no pass begins.
  form gradient = nullptr;
};

template <class Keys>
tensor_handle upload(const array& a) {
  using bytes = tensor<std::uint8_t, Keys>;
  const auto n = static_cast<std::int64_t>(a.bytes.size());
  const auto room = allocate_tensor<bytes>(contiguous_spec(dtype::uint8, shape{n}.span()));
  chip_of<Keys>::memory::copy_in(room.bytes(), a.bytes.data(), a.bytes.size());
  return tensor_handle(
      ref<tensor_body>(body_of<Keys>::alias(a.spec, *room.body(), size_of(a.spec.type))));
}
template <class Keys>
void download(const tensor_handle& x, std::span<std::byte> to) {
  context<chip_of<Keys>>::current().queue.wait();
  chip_of<Keys>::memory::copy_out(to.data(), x.body()->root().data, to.size());
}
template <class Keys>
void overwrite(const tensor_handle& x, std::span<const std::byte> from) {
  chip_of<Keys>::memory::copy_in(x.body()->root().data, from.data(), from.size());
}
template <class Keys>
void read_back(const tensor_handle& x, std::span<std::byte> to) {
  context<chip_of<Keys>>::current().queue.wait();
  if (!to.empty()) {
    chip_of<Keys>::memory::copy_out(to.data(), x.bytes(), to.size());
  }
}
template <class Keys>
tensor_handle alias(const tensor_handle& x, const tensor_spec& s) {
  return tensor_handle(ref<tensor_body>(body_of<Keys>::alias(s, *x.body(), size_of(s.type))));
}

template <class Keys>
[[nodiscard]] device device_of() {
  constexpr chip_description d = chip_of<Keys>::description;
  return {d.name,           std::max<std::size_t>(64, d.alignment),
          &upload<Keys>,    &download<Keys>,
          &overwrite<Keys>, &read_back<Keys>,
          &alias<Keys>};
}

template <class Op, class T>
consteval bool takes_type() {
  if constexpr (requires { samples<Op>::template takes<T>; }) {
    return samples<Op>::template takes<T>;
  }
  return true;
}

template <class Op>
using attributes_of = decltype(samples<Op>::attributes(std::declval<const settings&>()));

template <class Op, class Chip, class... A>
consteval bool supports(types<A...>);

/// Whether a chip can call all parts of `Op` with tensors of `T`. The attributes are there for
/// compilers that look for `parts` where they are not asked for, once nothing is left to depend on.
template <class Op, class Chip, class T, class... Attributes>
consteval bool supports_parts() {
  return []<class... Part>(ops::operators<Part...>) {
    return (supports<Part, Chip>(typename samples<Part>::template arguments<T>{}) && ...);
  }(typename samples<Op>::parts{});
}

/// Whether a chip can call `Op` with tensors of `A`.
template <class Op, class Chip, class... A>
consteval bool supports(types<A...>) {
  using set = key_set<keys::backend<Chip>>;
  return []<class... S>(std::type_identity<std::tuple<S...>>) {
    if constexpr (!ashlar::detail::FitsMeta<Op, tensor<A, set>..., S...>) {
      return false;
    } else if constexpr (!std::is_void_v<typename unanswered<Op, set>::key>) {
      return false;
    } else {
      constexpr found how = rule<Op, keys::backend<Chip>>();
      if constexpr (how == found::composite ||
                    (Composite<Op> &&
                     !ashlar::detail::kernel_takes<Op, set, tensor<A, set>..., S...>())) {
        return supports_parts<Op, Chip, std::tuple_element_t<0, std::tuple<A...>>, S...>();
      } else if constexpr (how == found::fallback) {
        if constexpr (requires { typename Chip::falls_back_to; }) {
          return supports<Op, typename Chip::falls_back_to>(types<A...>{});
        }
        return true;
      } else if constexpr (Structured<Op>) {
        return ashlar::detail::takes<Op, set, tensor<A, set>..., S...>();
      } else {
        return true;
      }
    }
  }(std::type_identity<attributes_of<Op>>{});
}

template <class Result>
void put(const Result& from, tensor_handle* to) {
  if constexpr (Tensor<Result>) {
    *to = from;
  } else {
    std::apply(
        [to](const auto&... each) {
          std::size_t i = 0;
          ((to[i++] = each), ...);
        },
        from);
  }
}

/// Handles get their types back.
template <class T, class K>
void give(const tensor_handle* from, tensor<T, K>& to) {
  to = tensor<T, K>(*from);
}
template <class... X>
void give(const tensor_handle* from, std::tuple<X...>& to) {
  std::apply([&](X&... each) { ((each = X(*from++)), ...); }, to);
}

/// The forms of `Op` on tensors of `A...`: with the keys `Full`, where a result is made; with the
/// chip's key alone, where one is given.
template <class Op, class Keys, class Full, class... A>
struct forms {
  using attributes = attributes_of<Op>;
  using indices = std::index_sequence_for<A...>;
  using places = std::make_index_sequence<std::tuple_size_v<attributes>>;

  /// Calls `f(tensors..., attributes...)`.
  template <class X, class F>
  static decltype(auto) apply(const tensor_handle* in, const settings& with, const F& f) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) -> decltype(auto) {
      const std::tuple<tensor<A, X>...> x{tensor<A, X>(in[I])...};
      const attributes s = samples<Op>::attributes(with);
      return std::apply(
          [&](const auto&... a) -> decltype(auto) {
            return std::apply([&](const auto&... t) -> decltype(auto) { return f(t..., a...); }, x);
          },
          s);
    }(indices{});
  }
  template <class X, class... S>
  static consteval auto result_of(std::type_identity<std::tuple<S...>>) {
    if constexpr (Structured<Op>) {
      return std::type_identity<call_result<Op, tensor<A, X>..., S...>>{};
    } else {
      return std::type_identity<std::tuple<>>{};
    }
  }
  using result_type = typename decltype(result_of<Keys>(std::type_identity<attributes>{}))::type;

  static void functional(const tensor_handle* in, const settings& with, tensor_handle* out) {
    if constexpr (Structured<Op>) {
      put(apply<Full>(in, with, op_function<Op>{}), out);
    } else {
      apply<Keys>(in, with, op_function<Op>{});
    }
  }
  static void to_output(const tensor_handle* in, const settings& with, tensor_handle* out) {
    result_type to;
    give(out, to);
    apply<Keys>(in, with, [&to](const auto&... x) { op_function<Op>{}.out(to, x...); });
    put(to, out);
  }
  static void over_first(const tensor_handle* in, const settings& with, tensor_handle* out) {
    apply<Keys>(in, with, [out](const auto& self, const auto&... rest) {
      auto changed = self;
      op_function<Op>{}.in_place(changed, rest...);
      *out = changed;
    });
  }
  static void geometry(const tensor_spec* in, const settings& with, tensor_spec* out) {
    using ghosts = key_set<keys::backend<chip::meta>>;
    std::array<tensor_handle, sizeof...(A)> bodies;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      bodies[i] = tensor_handle(ref<tensor_body>(body_of<ghosts>::make(in[i])));
    }
    std::array<tensor_handle, 4> results;
    put(apply<ghosts>(bodies.data(), with, op_function<Op>{}), results.data());
    for (std::size_t i = 0; i < results.size() && results[i]; ++i) {
      out[i] = results[i].spec();
    }
  }
  /// With the tape; each floating argument is a leaf.
  static void gradient(const tensor_handle* in, const settings& with, tensor_handle* out) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      const std::tuple<tensor<A, Full>...> x{tensor<A, Full>(in[I])...};
      (want(std::get<I>(x)), ...);
      const std::array<tensor_handle, sizeof...(A)> leaves{std::get<I>(x)...};
      std::array<tensor_handle, 4> results;
      functional(leaves.data(), with, results.data());
      typename decltype(result_of<Full>(std::type_identity<attributes>{}))::type y;
      give(results.data(), y);
      if constexpr (Tensor<decltype(y)>) {
        send_back(in + sizeof...(A), y);
      } else {
        std::apply([&](const auto&... each) { send_back(in + sizeof...(A), each...); }, y);
      }
      (take(std::get<I>(x), out[I]), ...);
    }(indices{});
  }

 private:
  template <class X>
  static void want(const X& x) {
    if constexpr (FloatingTensor<X>) {
      require_grad(x);
    }
  }
  /// One pass from the results that have a seed.
  template <class... Y>
  static void send_back(const tensor_handle* seed, const Y&... y) {
    std::array<autograd::start, sizeof...(Y)> from;
    std::size_t count = 0;
    const auto begin = [&](const auto& root) {
      using type = std::remove_cvref_t<decltype(root)>;
      if constexpr (FloatingTensor<type>) {
        if (*seed) {
          from[count++] = autograd::detail::start_at("backward", root, type(*seed));
        }
      }
      ++seed;
    };
    (begin(y), ...);
    autograd::detail::run_pass<Full>({from.data(), count}, {}, {});
  }
  template <class X>
  static void take(const X& x, tensor_handle& to) {
    if constexpr (FloatingTensor<X>) {
      to = ashlar::gradient(x);
    }
  }
};

template <class Result>
struct element_types;
template <class T, class K>
struct element_types<tensor<T, K>> {
  static constexpr std::array all{dtype_of<T>};
};
template <class... T, class... K>
struct element_types<std::tuple<tensor<T, K>...>> {
  static constexpr std::array<dtype, sizeof...(T)> all{dtype_of<T>...};
};

/// `Full`: the keys of the chip, and of the tape where gradients are checked.
template <class Op, class Keys, class Full, class... A>
[[nodiscard]] calls calls_of(types<A...>) {
  using chip = chip_of<Keys>;
  using f = forms<Op, Keys, Full, A...>;
  calls c{.in = {dtype_of<A>...}, .arguments = sizeof...(A), .is_view = View<Op>};
  c.functional = &f::functional;
  if constexpr (!Structured<Op>) {
    std::copy(samples<Op>::writes.begin(), samples<Op>::writes.end(), c.written.begin());
    c.results = samples<Op>::writes.size();
    for (std::size_t i = 0; i < c.results; ++i) {
      c.out[i] = c.in[static_cast<std::size_t>(c.written[i])];
    }
  } else {
    using result = typename f::result_type;
    constexpr auto& out = element_types<result>::all;
    std::copy(out.begin(), out.end(), c.out.begin());
    c.results = out.size();
    constexpr bool has_kernel = !View<Op> && !Composite<Op>;
    using R = scalar_of<out[0]>;
    using first = std::tuple_element_t<0, std::tuple<A...>>;
    c.meta = &f::geometry;
    if constexpr (has_kernel || supports<ops::clone, chip>(types<R>{})) {
      c.out_form = &f::to_output;
    }
    if constexpr (Tensor<result> && !View<Op> && std::is_same_v<R, first>) {
      if constexpr (Elementwise<Op> || (supports<ops::copy, chip>(types<R, R>{}) &&
                                        supports<ops::clone, chip>(types<R>{}))) {
        c.in_place = &f::over_first;
      }
    }
    if constexpr (contains<Full, keys::autograd> && Floating<R>) {
      if constexpr (Differentiable<Op> || Composite<Op> ||
                    autograd::detail::decomposes<Op, Full>()) {
        c.gradient = &f::gradient;
      }
    }
  }
  return c;
}

}  // namespace ashlar::conformance::detail

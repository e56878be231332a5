// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <boost/hana/accessors.hpp>
#include <boost/hana/concept/struct.hpp>
#include <boost/hana/define_struct.hpp>
#include <boost/hana/first.hpp>
#include <boost/hana/for_each.hpp>
#include <boost/hana/second.hpp>
#include <boost/hana/unpack.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ashlar/autograd/backward.hpp"
#include "ashlar/dispatch/keys.hpp"

/// Modules are plain structs; Boost.Hana knows their members by name.
///
/// A member that is a tensor, a module or a list of modules is walked into; any other member is an
/// option. An empty tensor handle is a parameter that this module does without.
namespace ashlar::nn {

/// A struct that Hana reflects: `BOOST_HANA_DEFINE_STRUCT` in a template, or
/// `BOOST_HANA_ADAPT_STRUCT`.
template <class M>
concept Module = boost::hana::Struct<std::remove_cv_t<M>>::value ||
                 requires { typename std::remove_cv_t<M>::wrapped_module; };

/// A tensor of a module's state that is not trained, as running statistics: it is in the state dict
/// and not among the parameters.
template <Tensor X>
struct buffer {
  X value;
};

namespace detail {

template <class M>
inline constexpr bool is_buffer = false;
template <class X>
inline constexpr bool is_buffer<buffer<X>> = true;

/// The struct whose members count: a wrapper names the module that it derives from.
template <class M>
struct reflected {
  using type = M;
};
template <class M>
  requires requires { typename M::wrapped_module; }
struct reflected<M> {
  using type = typename M::wrapped_module;
};
template <class M>
using accessors_of =
    decltype(boost::hana::accessors<typename reflected<std::remove_cv_t<M>>::type>());

template <class M>
inline constexpr bool is_list = false;
template <class M, class A>
inline constexpr bool is_list<std::vector<M, A>> = true;

template <class M>
consteval bool holds_parameters() {
  if constexpr (is_list<M>) {
    return holds_parameters<typename M::value_type>();
  } else {
    return Tensor<M> || Module<M> || is_buffer<M>;
  }
}

/// The name of a member inside the module `prefix`.
inline std::string inside(const std::string& prefix, std::string_view name) {
  std::string path;
  path.reserve(prefix.size() + 1 + name.size());
  if (!prefix.empty()) {
    path.append(prefix).push_back('.');
  }
  return path.append(name);
}

/// `visit(name, part)` for the members of a module or the items of a list.
template <class M, class Visit>
void for_each_part(M& module, const Visit& visit) {
  if constexpr (is_list<std::remove_const_t<M>>) {
    for (std::size_t i = 0; i < module.size(); ++i) {
      visit(std::string_view(std::to_string(i)), module[i]);
    }
  } else {
    boost::hana::for_each(accessors_of<M>{}, [&](auto member) {
      visit(std::string_view(boost::hana::first(member).c_str()),
            boost::hana::second(member)(module));
    });
  }
}

/// All types of the floating tensors in `T`: void for none, `mixed` for several.
struct mixed {};
template <class A, class B>
using joined =
    std::conditional_t<std::is_void_v<A>, B,
                       std::conditional_t<std::is_void_v<B> || std::is_same_v<A, B>, A, mixed>>;

template <class... T>
struct join_all {
  using type = void;
};
template <class First, class... Rest>
struct join_all<First, Rest...> {
  using type = joined<First, typename join_all<Rest...>::type>;
};

template <class T>
struct parameter_type {
  using type = typename decltype([] {
    if constexpr (Tensor<T>) {
      return std::type_identity<std::conditional_t<FloatingTensor<T>, T, void>>{};
    } else if constexpr (is_list<T>) {
      return std::type_identity<typename parameter_type<typename T::value_type>::type>{};
    } else if constexpr (Module<T>) {
      return boost::hana::unpack(accessors_of<T>{}, [](auto... member) {
        return join_all<typename parameter_type<std::remove_cvref_t<decltype(boost::hana::second(
            member)(std::declval<T&>()))>>::type...>{};
      });
    } else {
      return std::type_identity<void>{};
    }
  }())::type;
};

template <class P>
inline constexpr bool is_one_type = !std::is_void_v<P> && !std::is_same_v<P, mixed>;

template <bool Buffers, class M, class Visit>
void walk(M& module, const Visit& visit, const std::string& prefix) {
  using type = std::remove_const_t<M>;
  if constexpr (is_buffer<type>) {
    if constexpr (Buffers) {
      walk<Buffers>(module.value, visit, prefix);
    }
  } else if constexpr (Tensor<type>) {
    if (module) {
      visit(prefix, module);
    }
  } else if constexpr (holds_parameters<type>()) {
    for_each_part(module, [&](std::string_view name, auto& part) {
      if constexpr (holds_parameters<std::remove_cvref_t<decltype(part)>>()) {
        walk<Buffers>(part, visit, inside(prefix, name));
      }
    });
  }
}

}  // namespace detail

/// Calls `visit(name, tensor)` for every tensor of a module but its buffers: depth first, in the
/// order of declaration, with names like `layers.0.attention.wq.weight`.
///
/// A tensor that stands in two places is visited twice. Empty handles are left out.
template <class M, class Visit>
  requires(detail::holds_parameters<std::remove_const_t<M>>())
void named_parameters(M& module, Visit&& visit, const std::string& prefix = {}) {
  detail::walk<false>(module, visit, prefix);
}

/// The same for every tensor of a module's state, buffers too.
template <class M, class Visit>
  requires(detail::holds_parameters<std::remove_const_t<M>>())
void named_tensors(M& module, Visit&& visit, const std::string& prefix = {}) {
  detail::walk<true>(module, visit, prefix);
}

/// Sets the mode of every part that has one, a member `training`: batch norms and dropouts.
template <class M>
void train(M& module, bool on = true) {
  if constexpr (requires { module.training = on; }) {
    module.training = on;
  }
  if constexpr (detail::is_list<M> || Module<M>) {
    detail::for_each_part(module, [&](std::string_view, auto& part) {
      using type = std::remove_cvref_t<decltype(part)>;
      if constexpr (detail::is_list<type> || Module<type>) {
        train(part, on);
      }
    });
  }
}
template <class M>
void eval(M& module) {
  train(module, false);
}

/// The one type of a module's floating tensors. Where they have several, use `named_parameters`.
template <class M>
struct parameter_type {
  using type = typename detail::parameter_type<std::remove_const_t<M>>::type;
  static_assert(detail::is_one_type<type>,
                "ashlar::nn::parameter_type: a module's floating tensors must be of one type, and "
                "there must be one; use named_parameters for others");
};
template <class M>
using parameter_type_of = typename parameter_type<M>::type;

/// A parameter and its place in the state dict.
template <class Parameter>
struct named {
  std::string name;
  Parameter value;
};

/// The floating tensors of a module in the order of `named_parameters`, each once, under its first
/// name.
template <class M>
[[nodiscard]] std::vector<named<parameter_type_of<M>>> parameter_list(const M& module) {
  std::vector<named<parameter_type_of<M>>> list;
  std::unordered_set<const tensor_body*> seen;
  named_parameters(module, [&](const std::string& name, const auto& x) {
    if constexpr (FloatingTensor<std::remove_cvref_t<decltype(x)>>) {
      if (seen.insert(x.body()).second) {
        list.push_back({name, x});
      }
    }
  });
  return list;
}

/// The same without names.
template <class M>
[[nodiscard]] std::vector<parameter_type_of<M>> parameters(const M& module) {
  std::vector<parameter_type_of<M>> list;
  for (auto& p : parameter_list(module)) {
    list.push_back(std::move(p.value));
  }
  return list;
}

/// The number of elements in a module's floating tensors, each tensor once.
template <class M>
[[nodiscard]] std::int64_t parameter_count(const M& module) {
  std::int64_t count = 0;
  std::unordered_set<const tensor_body*> seen;
  named_parameters(module, [&](const std::string&, const auto& x) {
    if constexpr (FloatingTensor<std::remove_cvref_t<decltype(x)>>) {
      count += seen.insert(x.body()).second ? x.size() : 0;
    }
  });
  return count;
}

/// Calls on a module's floating tensors are recorded from now on.
template <class M>
void require_grad(const M& module) {
  named_parameters(module, [](const std::string&, const auto& x) {
    if constexpr (Recorded<std::remove_cvref_t<decltype(x)>>) {
      ashlar::require_grad(x);
    }
  });
}

/// Drops the gradients, so that the next backward pass starts new ones.
template <class M>
void zero_grad(const M& module) {
  named_parameters(module, [](const std::string&, const auto& x) {
    if constexpr (Recorded<std::remove_cvref_t<decltype(x)>>) {
      if (requires_grad(x)) {
        gradient(x) = {};
      }
    }
  });
}

/// Makes `to`, a module on another stack, the twin of `from`: lists grow, options are copied,
/// tensors share their elements.
///
/// Requires: both are the same template, over stacks with the same chip and element type.
template <class To, class From>
void share(To& to, const From& from) {
  if constexpr (Tensor<To>) {
    static_assert(Tensor<From>, "ashlar::nn::share: the modules must have the same members");
    static_assert(std::is_same_v<typename To::value_type, typename From::value_type> &&
                      std::is_same_v<chip_of<typename To::keys>, chip_of<typename From::keys>>,
                  "ashlar::nn::share: the stacks must have the same chip and element type; cast "
                  "or move the parameters first");
    to = from ? To(static_cast<const tensor_handle&>(from)) : To{};
  } else if constexpr (detail::is_buffer<To>) {
    share(to.value, from.value);
  } else if constexpr (detail::is_list<To> && detail::holds_parameters<To>()) {
    to.resize(from.size());
    for (std::size_t i = 0; i < to.size(); ++i) {
      share(to[i], from[i]);
    }
  } else if constexpr (Module<To>) {
    boost::hana::unpack(detail::accessors_of<To>{}, [&](auto... mine) {
      boost::hana::unpack(detail::accessors_of<From>{}, [&](auto... theirs) {
        static_assert(sizeof...(mine) == sizeof...(theirs),
                      "ashlar::nn::share: the modules must have the same members");
        (share(boost::hana::second(mine)(to), boost::hana::second(theirs)(from)), ...);
      });
    });
  } else {
    to = from;
  }
}

/// The module `M<Stack>` that shares its elements with `from`.
template <class To, class From>
[[nodiscard]] To shared(const From& from) {
  To to{};
  share(to, from);
  return to;
}

}  // namespace ashlar::nn

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/codegen/execute.hpp"
#include "ashlar/chip/host/parallel.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/kernel.hpp"

/// The host's code generator: a tile kernel becomes native code where it is called.
namespace ashlar::chip {

/// Programs along the three axes of a launch.
struct grid {
  std::int64_t x = 1;
  std::int64_t y = 1;
  std::int64_t z = 1;
};

namespace host_codegen {

/// The program that a kernel's code is made from.
template <tile::Kernel K>
struct source {
  static constexpr const tile::program& code = tile::program_of<K>;
};

namespace detail {

template <class P>
concept ViewParameter = requires { P::rank; } && P::declaration.is_view();

template <ViewParameter P, Scalar T>
bound_argument bind(const view<T>& given, std::string_view kernel, int number) {
  static_assert(std::same_as<std::remove_const_t<T>, typename P::value_type>,
                "ashlar::chip::launch: a view has another element type than the kernel's parameter");
  if (given.rank() != P::rank) {
    throw argument_error("ashlar::chip::launch of " + std::string(kernel),
                         "parameter " + std::to_string(number) + " is a view of " +
                             std::to_string(P::rank) + " axes, not of " +
                             std::to_string(given.rank()));
  }
  bound_argument b;
  b.data = reinterpret_cast<std::byte*>(const_cast<std::remove_const_t<T>*>(given.data));
  for (int a = 0; a < P::rank; ++a) {
    b.extent[static_cast<std::size_t>(a)] = given.extent(a);
    b.stride[static_cast<std::size_t>(a)] = given.stride(a);
  }
  return b;
}
template <ViewParameter P, Scalar T>
  requires(std::is_const_v<T>)
bound_argument bind(const view<T>& given, std::string_view kernel, int number) {
  static_assert(!P::declaration.written,
                "ashlar::chip::launch: the kernel writes a parameter that is given as constant");
  return bind<P>(view<std::remove_const_t<T>>{const_cast<std::remove_const_t<T>*>(given.data),
                                              given.spec},
                 kernel, number);
}
template <class P, class T>
  requires(!ViewParameter<P> && std::is_arithmetic_v<T>)
bound_argument bind(T given, std::string_view, int) {
  bound_argument b;
  b.bits = tile::constant_bits(static_cast<typename P::value_type>(given));
  return b;
}

}  // namespace detail

/// Runs `Source` for every place of the grid, in parallel; `cost` is the work of one program in
/// elements.
template <class Source>
void run(const grid& g, const bound_argument* arguments, std::int64_t cost) {
  if (g.x < 0 || g.y < 0 || g.z < 0) {
    throw argument_error("ashlar::chip::launch", "a grid has no negative extents");
  }
  if (g.x == 0 || g.y == 0 || g.z == 0) {
    return;
  }
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (g.y > most / g.x || g.z > most / (g.x * g.y)) {
    throw argument_error("ashlar::chip::launch", "the grid has more places than can be counted");
  }
  constexpr std::int64_t enough = 32768;  // elements for which a second thread pays
  const std::array<std::int64_t, 3> extents{g.x, g.y, g.z};
  parallel_for(g.x * g.y * g.z, std::max<std::int64_t>(enough / std::max<std::int64_t>(cost, 1), 1),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t n = begin; n < end; ++n) {
                   execute<Source>(arguments, {n % g.x, n / g.x % g.y, n / g.x / g.y}, extents);
                 }
               });
}

}  // namespace host_codegen

/// Runs a tile kernel on the host for every place of a grid.
///
/// Shapes:  one argument for each parameter of the kernel: `view` for `in` and `out`, a number for
///          `arg`.
/// Effects: programs run in parallel; what two of them write to one place is unordered, except
///          through atomics.
/// Throws:  `argument_error` for a view of another rank or a negative grid; `kernel_error`.
/// Cost:    the kernel is compiled where this is instantiated.
template <tile::Kernel K, class... A>
void launch(const grid& g, const A&... arguments) {
  using parameters = typename tile::detail::call_of<decltype(&K::operator())>::parameters;
  static_assert(std::tuple_size_v<parameters> == sizeof...(A),
                "ashlar::chip::launch: one argument for each parameter of the kernel");
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    const std::array<host_codegen::bound_argument, sizeof...(A) + 1> bound{
        host_codegen::detail::bind<std::tuple_element_t<I, parameters>>(
            arguments, tile::program_of<K>.name(), static_cast<int>(I))...};
    host_codegen::run<host_codegen::source<K>>(g, bound.data(), 4096);
  }(std::index_sequence_for<A...>{});
}

}  // namespace ashlar::chip

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <span>
#include <type_traits>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/host/strips.hpp"
#include "ashlar/tile/argument.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/verify.hpp"

/// Programs that are made at run time, on any chip, by one form of call.
namespace ashlar::chip {

/// A chip that compiles programs apart from running them: `codegen::compile(program)` gives what
/// `executable` keeps and calls with a grid and arguments.
template <class C>
concept CompilesTiles =
    RunsTiles<C> && requires(const tile::program& program, const tile::grid& grid,
                             std::span<const tile::argument> arguments) {
      C::codegen::compile(program)(grid, arguments);
    };

namespace detail {

/// A program that its chip translates when it is launched.
template <class C>
class launched_program {
 public:
  explicit launched_program(const tile::program& p) : program_(p) { tile::expect_valid(p); }
  [[nodiscard]] const tile::program& program() const { return program_; }
  void operator()(context<C>& on, const tile::grid& grid,
                  std::span<const tile::argument> arguments) const {
    C::codegen::run(on, program_, grid, arguments);
  }

 private:
  tile::program program_;
};

template <class C>
auto made_for(const tile::program& p) {
  if constexpr (CompilesTiles<C>) {
    return C::codegen::compile(p);
  } else if constexpr (RunsTiles<C>) {
    return launched_program<C>(p);
  } else {
    return strip_program(p);
  }
}

}  // namespace detail

/// A tile program, made at run time, as chip `C` runs it.
///
/// On `chip::host` it is a `strip_program`, which needs no compiler; elsewhere what the chip's
/// `codegen` makes of it: when it is constructed if the chip models `CompilesTiles`, else when it
/// is launched for the first time. Copies may run in several threads.
template <class C>
class executable {
  static_assert(std::same_as<C, host> || RunsTiles<C>,
                "ashlar::chip::executable<C>: C must be chip::host or model ashlar::RunsTiles "
                "(`codegen::run(context, program, grid, arguments)`)");

 public:
  /// Throws: `program_error` where `verify` finds something; what the chip cannot do, as it says.
  explicit executable(const tile::program& p) : code_(detail::made_for<C>(p)) {}

  [[nodiscard]] const tile::program& program() const { return code_.program(); }

  /// Enqueues the programs of the grid. Addresses in `arguments` are the chip's own.
  ///
  /// Throws: `launch_error` where arguments or grid do not fit; `execution_error`.
  void operator()(context<C>& on, const tile::grid& grid,
                  std::span<const tile::argument> arguments) const {
    if constexpr (requires { code_(on, grid, arguments); }) {
      code_(on, grid, arguments);
    } else {
      code_(grid, arguments);
    }
  }
  void operator()(const tile::grid& grid, std::span<const tile::argument> arguments) const {
    (*this)(context<C>::current(), grid, arguments);
  }
  /// The same with one argument for each parameter: a `view`, or a number.
  template <class... A>
    requires(std::constructible_from<tile::argument, const A&> && ...)
  void operator()(const tile::grid& grid, const A&... arguments) const {
    const std::array<tile::argument, sizeof...(A)> given{tile::argument(arguments)...};
    (*this)(grid, std::span<const tile::argument>(given));
  }

 private:
  decltype(detail::made_for<C>(tile::program{})) code_;
};

/// Whether `executable<C>` can be made here: a chip whose compiler is found at run time says so by
/// `codegen::available()`.
template <class C>
bool can_compile() {
  if constexpr (requires {
                  { C::codegen::available() } -> std::same_as<bool>;
                }) {
    return C::codegen::available();
  } else {
    return true;
  }
}

}  // namespace ashlar::chip

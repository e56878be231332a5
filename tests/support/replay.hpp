// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "ashlar/chip/codegen.hpp"
#include "ashlar/chip/host/codegen.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/ops/host_fallback.hpp"
#include "ashlar/tile/kernel.hpp"
#include "support/tile_chip.hpp"

/// A chip that keeps what operators launch on it, so that the same programs can run on every chip
/// with the same memory.
namespace replay {

namespace al = ashlar;
namespace tile = ashlar::tile;

/// The machine whose block sizes the recorded programs have.
inline constexpr al::chip::npu_description machine{.name = "replay"};

using host_code = void (*)(const tile::grid&, std::span<const tile::argument>);

/// Runs a program on the interpreter and keeps the launch with the memory that it began with.
void record(const tile::program& code, const tile::grid& size,
            std::span<const tile::argument> arguments, host_code native);

/// What is recorded from now on belongs to this operator: where two chips' functions differ in the
/// last places, results may differ by twice this.
void begin(std::string_view op, const tile_test::tolerance& allowed);

/// Runs everything that was recorded on the host's code generator, the accelerator's simulator,
/// LLVM for x86-64 and LLVM for RISC-V in an emulator, and forgets it. Checks that
/// - the host and the accelerator give the bits of the interpreter with the host's functions,
/// - x86-64 gives the bits of the interpreter with the C library's functions, and so does RISC-V
///   where a program has no such function; its C library is another one.
void check_on_every_chip();

/// The operators that launched something after `begin` had named them.
const std::vector<std::string>& seen();

/// Whether the host's code generator takes part: kernels of 32-bit floats and integers; of products
/// and attention those of up to 64 channels, as the wider ones are the same source and take a
/// compiler a quarter of a minute each.
template <tile::Kernel K>
consteval bool on_host() {
  const tile::program& p = tile::program_of<K>;
  for (int i = 0; i < p.size; ++i) {
    if (p.at(i).op == tile::opcode::dot) {
      const tile::tile_type& sum = p.type_of(i);
      for (int axis = 0; axis < sum.rank; ++axis) {
        if (sum.extent(axis) > 64) {
          return false;
        }
      }
    }
  }
  for (int k = 0; k < p.parameter_count; ++k) {
    const al::dtype e = p.parameter_at(k).element;
    if (al::is_floating(e) && e != al::dtype::float32) {
      return false;
    }
  }
  return true;
}

struct recorder {
  static constexpr al::chip_description description = machine.general();
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  struct codegen {
    static void run(al::context<recorder>&, const tile::program& code, const tile::grid& size,
                    std::span<const tile::argument> arguments) {
      record(code, size, arguments, nullptr);
    }
    template <tile::Kernel K>
    static void run(al::context<recorder>&, const tile::grid& size,
                    std::span<const tile::argument> arguments) {
      if constexpr (on_host<K>()) {
        record(tile::program_of<K>, size, arguments,
               al::chip::host_codegen::run<al::chip::host_codegen::source<K>>);
      } else {
        record(tile::program_of<K>, size, arguments, nullptr);
      }
    }
  };
};

template <class T>
using recorded = al::tensor<T, al::make_key_set<al::keys::backend<recorder>>>;

/// In double precision where it is a floating type.
template <class T>
auto wide(const twins::plain<T>& x) {
  if constexpr (al::Floating<T>) {
    return al::cast<double>(x);
  } else {
    return x;
  }
}

/// Compares a result with one in double precision.
template <class T, class W>
void check_near(const recorded<T>& got, const twins::plain<W>& want,
                const tile_test::tolerance& allowed) {
  REQUIRE(al::same_shape(got.spec(), want.spec()));
  if constexpr (al::Floating<T>) {
    const double absolute =
        allowed.terms * tile_test::roundoff<al::compute_type<T>> * allowed.magnitude;
    twins::check_elements(
        twins::plain<double>(al::cast<double>(al::detail::carried<twins::plain<T>>(got))),
        [&](std::int64_t i) { return twins::at(want, i); }, tile_test::roundoff<T>, absolute);
  } else {
    twins::check_elements(got, [&](std::int64_t i) { return twins::at(want, i); });
  }
}
template <class... T, class... W>
void check_near(const std::tuple<T...>& got, const std::tuple<W...>& want,
                const tile_test::tolerance& allowed) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (check_near(std::get<I>(got), std::get<I>(want), allowed), ...);
  }(std::index_sequence_for<T...>{});
}

/// Records `f` of dense and of scattered arguments, and compares its results with `want`.
template <class Op, class W, class F, class... X>
void check_against(const W& want, const tile_test::tolerance& allowed, const F& f, const X&... x) {
  begin(Op::name, allowed);
  const auto moved = []<class T>(const twins::plain<T>& t) {
    return al::detail::carried<recorded<T>>(t);
  };
  check_near(f(moved(x)...), want, allowed);
  check_near(f(moved(twins::scattered(x))...), want, allowed);
}

/// The same with what the host's own kernels make of the arguments in double precision.
///
/// `allowed` is that of one result: a sum of so many terms is off by at most (number of terms) x
/// (unit roundoff) x (sum of the sizes of the terms).
template <class Op, class F, class... X>
void check(const tile_test::tolerance& allowed, const F& f, const X&... x) {
  check_against<Op>(f(wide(x)...), allowed, f, x...);
}

/// Whether each of these operators launched something, so that a chip could be wrong.
template <class... Op>
void check_seen() {
  const auto once = [](std::string_view name) {
    const bool there = std::find(seen().begin(), seen().end(), name) != seen().end();
    CHECK_MESSAGE(there, name, " is recorded");
  };
  (once(Op::name), ...);
}

}  // namespace replay

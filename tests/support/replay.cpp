// SPDX-License-Identifier: Apache-2.0
#include "support/replay.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <utility>

#include "ashlar/chip/npu/codegen/run.hpp"
#include "ashlar/tile/interpret.hpp"
#include "ashlar/tile/rules.hpp"
#include "chip/llvm_emulator.hpp"
#include "chip/llvm_native.hpp"
#include "chip/npu_codegen_support.hpp"

namespace replay {

namespace {

namespace chip = ashlar::chip;
using bytes = std::vector<std::byte>;

/// A launch with the memory that it began with. Views that share memory share it here, too.
struct launch {
  std::string op{};
  tile_test::tolerance allowed{};
  tile::program code{};
  tile::grid size{};
  std::vector<tile::argument> given{};
  std::vector<bytes> memory{};
  struct place {
    std::size_t buffer;
    std::size_t offset;
    std::size_t reach;  ///< bytes from there on
  };
  std::vector<place> places{};
  host_code native = nullptr;

  [[nodiscard]] std::vector<tile::argument> arguments(std::vector<bytes>& in) const {
    std::vector<tile::argument> all = given;
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (all[k].rank >= 0) {
        all[k].data = in[places[k].buffer].data() + places[k].offset;
      }
    }
    return all;
  }
  template <class Math>
  [[nodiscard]] std::vector<bytes> interpreted() const {
    std::vector<bytes> all = memory;
    tile::interpret<Math>(code, size, arguments(all));
    return all;
  }
  /// With memory of its own for each view.
  [[nodiscard]] llvm_test::launch apart() const {
    llvm_test::launch l;
    l.name = op;
    l.code = code;
    l.size = size;
    l.given = given;
    for (std::size_t k = 0; k < given.size(); ++k) {
      l.memory.emplace_back();
      if (given[k].rank >= 0) {
        const std::byte* const from = memory[places[k].buffer].data() + places[k].offset;
        l.memory.back().assign(from, from + places[k].reach);
        l.memory.back().resize(places[k].reach + 8);  // never empty
      }
    }
    return l;
  }
};

std::vector<launch> launches;
std::vector<std::string> names;  // of what launched something
std::string op_now{};
tile_test::tolerance allowed_now{};

bool has_library_function(const tile::program& p) {
  for (int i = 0; i < p.size; ++i) {
    switch (p.at(i).op) {
      case tile::opcode::exp:
      case tile::opcode::log:
      case tile::opcode::tanh:
      case tile::opcode::erf:
      case tile::opcode::sigmoid:
        return true;
      default:
        break;
    }
  }
  return false;
}

/// Whether all elements are within what two results of the operator may differ by.
bool within(const launch& l, const llvm_test::launch& apart, const std::vector<bytes>& a,
            const std::vector<bytes>& b) {
  bool near = true;
  for (std::size_t k = 0; k < a.size(); ++k) {
    tile::eval::with_scalar(apart.given[k].element, [&]<class T>(std::type_identity<T>) {
      for (std::size_t i = 0; i < a[k].size() / sizeof(T); ++i) {
        const T x = tile::detail::element_at<T>(a[k].data(), static_cast<std::int64_t>(i));
        const T y = tile::detail::element_at<T>(b[k].data(), static_cast<std::int64_t>(i));
        if constexpr (al::Floating<T>) {
          using C = al::compute_type<T>;
          const double u = static_cast<C>(x);
          const double v = static_cast<C>(y);
          const double absolute =
              2 * l.allowed.terms * tile_test::roundoff<C> * l.allowed.magnitude;
          near = near && (u == v || (std::isnan(u) && std::isnan(v)) ||
                          std::abs(u - v) <= absolute + 2 * tile_test::roundoff<T> * std::abs(v));
        } else {
          near = near && x == y;
        }
      }
    });
  }
  return near;
}

double distance(const launch& l, const std::vector<bytes>& a, const std::vector<bytes>& b) {
  double most = 0;
  for (std::size_t k = 0; k < l.given.size(); ++k) {
    if (l.given[k].rank < 0) {
      continue;
    }
    tile::eval::with_scalar(l.given[k].element, [&]<class T>(std::type_identity<T>) {
      const launch::place& p = l.places[k];
      for (std::size_t i = 0; i < p.reach / sizeof(T); ++i) {
        const auto n = static_cast<std::int64_t>(i);
        most = std::max(most, llvm_test::distance(
                                  tile::detail::element_at<T>(a[p.buffer].data() + p.offset, n),
                                  tile::detail::element_at<T>(b[p.buffer].data() + p.offset, n)));
      }
    });
  }
  return most;
}

void check_on_host_and_accelerator() {
  chip::thread_limit one(1);
  chip::npu_codegen::program_cache cache(machine);
  for (const launch& l : launches) {
    CAPTURE(l.op);
    CAPTURE(l.code.name());
    const std::vector<bytes> expected = l.interpreted<npu_codegen_test::machine_math>();
    try {
      std::vector<bytes> there = l.memory;
      chip::npu_codegen::run(cache, l.code, l.size, l.arguments(there));
      CHECK_MESSAGE(distance(l, there, expected) == 0, "on the accelerator");
    } catch (const al::error& e) {
      CHECK_MESSAGE(false, "on the accelerator: ", std::string(e.what()));
    }
    if (l.native != nullptr) {
      std::vector<bytes> here = l.memory;
      l.native(l.size, l.arguments(here));
      CHECK_MESSAGE(distance(l, here, expected) == 0, "on the host");
    }
  }
}

}  // namespace

void record(const tile::program& code, const tile::grid& size,
            std::span<const tile::argument> arguments, host_code native) {
  if (std::find(names.begin(), names.end(), op_now) == names.end()) {
    names.push_back(op_now);
  }
  launch l{.op = op_now,
           .allowed = allowed_now,
           .code = code,
           .size = size,
           .given = {arguments.begin(), arguments.end()},
           .native = native};
  // Views whose bytes overlap lie in one buffer.
  struct range {
    std::int64_t first, last;
  };
  std::vector<range> ranges(arguments.size());
  std::vector<std::size_t> order;
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    const auto [first, last] = tile::reach_of(arguments[k]);
    ranges[k] = {first, last};
    if (arguments[k].rank >= 0) {
      order.push_back(k);
      for (const std::int64_t stride : arguments[k].strides) {
        REQUIRE(stride >= 0);  // the first byte is element 0
      }
    }
  }
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return ranges[a].first < ranges[b].first; });
  l.places.resize(arguments.size());
  std::int64_t begin = 0;
  std::int64_t end = 0;
  for (const std::size_t k : order) {
    const range& r = ranges[k];
    if (l.memory.empty() || r.first >= end) {
      l.memory.emplace_back();
      begin = r.first;
      end = r.first;
    }
    end = std::max(end, r.last);
    l.memory.back().resize(static_cast<std::size_t>(end - begin) + 8);
    if (end > begin) {
      std::memcpy(l.memory.back().data(), reinterpret_cast<const std::byte*>(begin),
                  static_cast<std::size_t>(end - begin));
    }
    l.places[k] = {l.memory.size() - 1, static_cast<std::size_t>(r.first - begin),
                   static_cast<std::size_t>(r.last - r.first)};
  }
  tile::interpret(code, size, arguments);
  launches.push_back(std::move(l));
}

void begin(std::string_view op, const tile_test::tolerance& allowed) {
  op_now = op;
  allowed_now = allowed;
}

const std::vector<std::string>& seen() { return names; }

void check_on_every_chip() {
  MESSAGE(launches.size(), " launches");
  check_on_host_and_accelerator();
  std::vector<llvm_test::launch> apart;
  for (const launch& l : launches) {
    apart.push_back(l.apart());
  }
  if (llvm_test::can_compile()) {
    const auto after = llvm_test::compiled(apart);
    for (std::size_t i = 0; i < apart.size(); ++i) {
      CAPTURE(apart[i].name);
      CAPTURE(apart[i].code.name());
      CHECK_MESSAGE(llvm_test::distance(apart[i], after[i], apart[i].expected()) == 0, "on x86-64");
    }
  }
  if (llvm_test::can_emulate()) {
    const llvm_test::memories after = llvm_test::emulated_somehow(apart).after;
    for (std::size_t i = 0; i < apart.size(); ++i) {
      CAPTURE(apart[i].name);
      CAPTURE(apart[i].code.name());
      const auto expected = apart[i].expected();
      CHECK_MESSAGE(has_library_function(apart[i].code)
                        ? within(launches[i], apart[i], after[i], expected)
                        : llvm_test::distance(apart[i], after[i], expected) == 0,
                    "on RISC-V");
    }
  }
  launches.clear();
}

}  // namespace replay

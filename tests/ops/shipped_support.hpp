// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>

#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/verify.hpp"

/// The kernels of the operators, traced and optimised by the compiler within its own limits.
namespace shipped {

namespace tile = ashlar::tile;

/// What a program does, but for the order of what is independent of each other: compilers may
/// evaluate the arguments of a call in any order, and each of them writes instructions.
class meaning {
 public:
  explicit meaning(const tile::program& p) : p_(p), regions_(p) {
    const std::uint64_t all = region(0, p.size);
    value = mixed(mixed(all, static_cast<std::uint64_t>(p.size)), p.operand_count);
  }
  std::uint64_t value = 0;

 private:
  template <class X>
  static std::uint64_t mixed(std::uint64_t h, X x) {
    return (h ^ static_cast<std::uint64_t>(x)) * 0x100000001b3u + (h >> 29);
  }

  /// Its effects in order, and what it yields; `end` is its `yield`, or the end of the program.
  std::uint64_t region(int begin, int end) {
    std::uint64_t h = 0xcbf29ce484222325u;
    for (int i = begin; i < end; i = regions_.after(p_, i)) {
      of_[i] = instruction(i);
      h = tile::at(regions_.has_effect, i) ? mixed(h, of_[i]) : h;
      writes_ += tile::at(regions_.has_write, i) ? 1 : 0;
    }
    return end < p_.size ? mixed(h, operands(end)) : h;
  }

  std::uint64_t operands(int i) {
    std::uint64_t h = 1;
    for (const tile::value_id o : p_.operands(i)) {
      h = mixed(h, of_[o]);
    }
    return h;
  }

  std::uint64_t instruction(int i) {
    const tile::instruction& at = p_.at(i);
    std::uint64_t h = operands(i);
    for (const std::int64_t x :
         {std::int64_t{static_cast<int>(at.op)}, std::int64_t{at.index}, at.value,
          std::int64_t{static_cast<int>(at.type.element)}, std::int64_t{at.type.rank}}) {
      h = mixed(h, x);
    }
    for (const std::int32_t n : at.type.extents) {
      h = mixed(h, n);
    }
    if (tile::reads(at.op)) {
      h = mixed(h, writes_);
    } else if (at.op == tile::opcode::region_input) {
      h = mixed(h, tile::at(regions_.depth, i));
    } else if (tile::info(at.op).regions > 0) {
      const int first = tile::at(regions_.first_yield, i);
      const int last = tile::at(regions_.last_yield, i);
      if (tile::info(at.op).regions == 1) {
        return mixed(h, region(i + 1, last));
      }
      h = mixed(h, region(i + 1, first));
      return mixed(h, region(first + 1, last));
    }
    return h;
  }

  const tile::program& p_;
  const tile::structure regions_;
  std::map<int, std::uint64_t> of_{};
  int writes_ = 0;
};

/// Checks that the compiler makes of each kernel what is made while a program runs.
///
/// Returns: the kernels' names.
template <class... Kernels>
std::set<std::string> check_kernels() {
  std::set<std::string> names;
  const auto check = [&]<class K>(std::type_identity<K>) {
    constexpr const tile::program& written = tile::program_of<K>;
    using pipeline = tile::passes::pipeline<tile::program_of<K>>;
    static_assert(static_cast<bool>(tile::verify(written)));
    static_assert(pipeline::result.size > 0);
    INFO(std::string(written.name()));
    const tile::program now = tile::trace<K>();
    CHECK(now.name() == written.name());
    CHECK(now.parameters == written.parameters);
    CHECK(meaning(now).value == meaning(written).value);
#if defined(__clang__)  // evaluates arguments from left to right while a program runs, too
    CHECK(now == written);
#endif
    CHECK(tile::passes::optimise(written) == pipeline::result);
    names.emplace(written.name());
  };
  (check(std::type_identity<Kernels>()), ...);
  return names;
}

/// Whether `names` are all the kernels of these headers under `ops/tile`.
inline void check_complete(const std::set<std::string>& names,
                           std::initializer_list<const char*> headers) {
  const char* source = std::getenv("ASHLAR_SOURCE");
  if (source == nullptr) {
    MESSAGE("skipped: ASHLAR_SOURCE does not say where the headers are");
    return;
  }
  for (const std::string header : headers) {
    std::ifstream file(std::string(source) + "/include/ashlar/ops/tile/" + header + ".hpp");
    REQUIRE(file);
    std::stringstream text;
    text << file.rdbuf();
    const std::string code = text.str();
    const std::regex line("static constexpr auto name = ([^;]*);");
    const std::regex quoted("\"([a-z0-9_]+)\"");
    int found = 0;
    for (std::sregex_iterator at(code.begin(), code.end(), line), end; at != end; ++at) {
      const std::string value = (*at)[1];
      for (std::sregex_iterator one(value.begin(), value.end(), quoted); one != end; ++one) {
        CAPTURE(header);
        const std::string name = (*one)[1];
        CAPTURE(name);
        CHECK(names.contains(name));
        ++found;
      }
    }
    CHECK(found > 0);
  }
}

}  // namespace shipped

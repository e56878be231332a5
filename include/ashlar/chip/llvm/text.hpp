// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <concepts>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/core/dtype.hpp"

namespace ashlar::chip::llvm_codegen {

/// Strings and integers, one after the other.
template <class... A>
std::string cat(const A&... parts) {
  std::string all;
  const auto put = [&](const auto& part) {
    using P = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::integral<P>) {
      all += std::to_string(part);
    } else {
      all += part;
    }
  };
  (put(parts), ...);
  return all;
}

/// An element in memory: bool is a byte, the narrow formats are their bits.
constexpr std::string_view storage_type(dtype d) {
  switch (d) {
    case dtype::boolean:
    case dtype::uint8:
    case dtype::int8:
    case dtype::float8_e4m3:
    case dtype::float8_e5m2:
      return "i8";
    case dtype::float16:
    case dtype::bfloat16:
      return "i16";
    case dtype::int32:
      return "i32";
    case dtype::int64:
      return "i64";
    case dtype::float32:
      return "float";
    case dtype::float64:
      break;
  }
  return "double";
}

/// An element in a register.
constexpr std::string_view value_type(dtype d) {
  return d == dtype::boolean ? "i1" : storage_type(d);
}

constexpr int bits_of(dtype d) {
  return d == dtype::boolean ? 1 : static_cast<int>(size_of(d)) * 8;
}

/// The text of one function while it is written: basic blocks, names, loops.
///
/// Values are names such as `%t7` or literals. Counters and lengths are `i64`.
class text {
 public:
  std::string entry{};               ///< the first block: allocations, what is read from arguments
  std::string body{};                ///< the other blocks
  std::set<std::string> declared{};  ///< lines `declare ...` of functions that are called

  bool in_teams = false;  ///< see `llvm_target::in_teams`
  int threads = 1;        ///< of a team

  text() { body.reserve(1 << 14); }

  [[nodiscard]] std::string fresh() { return "%t" + std::to_string(next_++); }
  [[nodiscard]] std::string fresh_label() { return "L" + std::to_string(next_++); }

  template <class... A>
  void line(const A&... parts) {
    body += cat("  ", parts..., "\n");
  }
  /// Returns: a new name for what the expression gives.
  template <class... A>
  std::string let(const A&... parts) {
    std::string name = fresh();
    line(name, " = ", parts...);
    return name;
  }
  template <class... A>
  std::string let_in_entry(const A&... parts) {
    std::string name = fresh();
    entry += cat("  ", name, " = ", parts..., "\n");
    return name;
  }

  void begin_block(const std::string& label) {
    body += label + ":\n";
    block_ = label;
  }
  void jump(const std::string& label) { line("br label %", label); }
  void jump_if(const std::string& condition, const std::string& yes, const std::string& no) {
    line("br i1 ", condition, ", label %", yes, ", label %", no);
  }
  /// `inside()` where the condition holds.
  template <class F>
  void when(const std::string& condition, F&& inside) {
    const std::string yes = fresh_label();
    const std::string after = fresh_label();
    jump_if(condition, yes, after);
    begin_block(yes);
    inside();
    jump(after);
    begin_block(after);
  }

  /// `inside(counter)` for the counter from `first`, below `end`, by `step`.
  template <class Step, class F>
  void loop(const std::string& first, const std::string& end, const Step& step, F&& inside) {
    const std::string before = block_;
    const std::string head = fresh_label();
    const std::string round = fresh_label();
    const std::string latch = fresh_label();
    const std::string after = fresh_label();
    const std::string counter = fresh();
    const std::string next = fresh();
    jump(head);
    begin_block(head);
    line(counter, " = phi i64 [ ", first, ", %", before, " ], [ ", next, ", %", latch, " ]");
    jump_if(let("icmp slt i64 ", counter, ", ", end), round, after);
    begin_block(round);
    inside(counter);
    jump(latch);
    begin_block(latch);
    line(next, " = add i64 ", counter, ", ", step);
    jump(head);
    begin_block(after);
  }
  /// The same; one round is written without a loop.
  template <class F>
  void loop(std::int64_t first, std::int64_t end, std::int64_t step, F&& inside) {
    if (first + step >= end) {
      if (first < end) {
        inside(std::to_string(first));
      }
      return;
    }
    loop(std::to_string(first), std::to_string(end), step, inside);
  }

  /// `inside(lanes, first)` over `n` elements: `width` at a time, then one by one.
  template <class F>
  void strips(std::int64_t n, int width, F&& inside) {
    while (width > n) {
      width /= 2;
    }
    const std::int64_t whole = width == 0 ? 0 : n / width * width;
    loop(0, whole, width, [&](const std::string& i) { inside(width, i); });
    loop(whole, n, 1, [&](const std::string& i) { inside(1, i); });
  }
  /// The same from `first` below `end`, which are names.
  template <class F>
  void strips(const std::string& first, const std::string& end, int width, F&& inside) {
    const std::string empty = let("icmp slt i64 ", end, ", ", first);
    const std::string n = let("sub i64 ", end, ", ", first);
    const std::string whole = let("and i64 ", n, ", ", -width);
    const std::string middle =
        let("select i1 ", empty, ", i64 ", first, ", i64 ", add(first, whole));
    loop(first, middle, width, [&](const std::string& i) { inside(width, i); });
    loop(middle, end, 1, [&](const std::string& i) { inside(1, i); });
  }

  /// As `strips`, where no element needs another: the threads of a team share them.
  template <class F>
  void parallel(std::int64_t n, int width, F&& inside) {
    if (!in_teams) {
      return strips(n, width, inside);
    }
    loop("%thread", std::to_string(n), threads, [&](const std::string& i) { inside(1, i); });
  }
  /// What the team did until here is seen by all of it afterwards.
  void barrier() {
    if (in_teams) {
      declared.insert("declare void @llvm.nvvm.barrier0()");
      line("call void @llvm.nvvm.barrier0()");
    }
  }

  // --- integers ----------------------------------------------------------------------------------

  std::string add(const std::string& a, const std::string& b) {
    return b == "0" ? a : a == "0" ? b : let("add i64 ", a, ", ", b);
  }
  std::string mul(const std::string& a, const std::string& b) {
    return b == "1" ? a : a == "1" ? b : a == "0" || b == "0" ? "0" : let("mul i64 ", a, ", ", b);
  }
  /// `(i / below) % n`: the place along an axis of `n` with `below` elements after it.
  std::string place(const std::string& i, std::int64_t below, std::int64_t n, bool first) {
    std::string x = below == 1 ? i : let("udiv i64 ", i, ", ", below);
    return first ? x : let("urem i64 ", x, ", ", n);
  }
  std::string mul(const std::string& a, std::int64_t b) { return mul(a, std::to_string(b)); }
  /// Element `i` of an array of `d`.
  std::string at(dtype d, const std::string& array, const std::string& i) {
    return i == "0" ? array : let("getelementptr ", storage_type(d), ", ptr ", array, ", i64 ", i);
  }

 private:
  int next_ = 0;
  std::string block_ = "start";
};

}  // namespace ashlar::chip::llvm_codegen

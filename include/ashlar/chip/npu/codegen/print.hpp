// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ashlar/chip/npu/codegen/ir.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"

/// Chip IR as text: what each step of the compiler has decided.
namespace ashlar::chip::npu_codegen {

namespace detail {

class printer {
 public:
  explicit printer(const chip_program& c) : c_(c) {}

  std::string run() {
    text_ =
        "chip program \"" + c_.name + "\" for \"" + std::string(c_.machine.name.view()) + "\"\n";
    arguments();
    buffers();
    body(0, 0);
    return text_;
  }

 private:
  static std::string unit(int u) {
    return u == isa::control_unit  ? "control"
           : u == isa::vector_unit ? "vector"
           : u == isa::matrix_unit ? "matrix"
                                   : "dma" + std::to_string(u - isa::first_dma_unit);
  }
  [[nodiscard]] const region& at(int r) const { return c_.regions[static_cast<std::size_t>(r)]; }
  void line(int depth, const std::string& words) {
    text_ += std::string(static_cast<std::size_t>(2 * depth), ' ') + words + "\n";
  }

  void arguments() {
    using kind = argument_word::kind;
    int n = 0;
    std::string row;
    for (const argument_word& w : c_.words) {
      const std::string p = "p" + std::to_string(w.parameter);
      const std::string axis = std::to_string(w.axis);
      const std::string held =
          n < c_.registers ? "r" + std::to_string(n + 1) : "t" + std::to_string(n - c_.registers);
      const std::string what = w.what == kind::grid      ? "grid " + axis
                               : w.what == kind::address ? p + " address"
                               : w.what == kind::extent  ? p + " extent " + axis
                               : w.what == kind::stride  ? p + " stride " + axis
                               : w.what == kind::scalar  ? p
                               : w.what == kind::lowest  ? p + " lowest address"
                               : w.what == kind::origin  ? p + " elements before"
                                                         : p + " elements";
      row += (row.empty() ? "" : ", ") + held + " " + what;
      if (++n % 6 == 0) {
        line(1, row);
        row.clear();
      }
    }
    if (!row.empty()) {
      line(1, row);
    }
  }

  void buffers() {
    line(0, "scratchpad");
    for (const buffer& b : c_.buffers) {
      if (b.region < 0) {
        continue;
      }
      std::string engines;
      for (int u = 0; u < isa::max_units; ++u) {
        if ((b.engines >> u & 1u) != 0) {
          engines += " " + unit(u);
        }
      }
      const std::string slots = b.slots == 1
                                    ? ""
                                    : ", " + std::to_string(b.slots) + " slots " +
                                          std::to_string(at(b.region).slot_bytes) + " apart";
      line(1, b.name + " " + std::string(isa::name_of(b.type)) + ": " + std::to_string(b.bytes) +
                  " bytes at " + std::to_string(b.address) + slots + "; region " +
                  std::to_string(b.region) + ", steps " + std::to_string(b.first) + " to " +
                  std::to_string(b.last) + ";" + engines);
    }
  }

  /// A name for each buffer that an instruction touches, in place of its address.
  [[nodiscard]] std::string operation(const step& s) const {
    std::string words = isa::disassemble(s.code);
    constexpr std::array<const char*, 4> names{"dst", "a", "b", "c"};
    for (std::size_t k = 0; k < s.buffers.size(); ++k) {
      const std::string key = std::string(" ") + names[k] + "=[";
      const std::size_t found = words.find(key);
      if (s.buffers[k] >= 0 && found != std::string::npos) {
        const buffer& b = c_.buffers[static_cast<std::size_t>(s.buffers[k])];
        words.insert(found + key.size(), b.name + "+");
      }
    }
    return words;
  }

  void order(int r, int s, bool before, int depth) {
    for (const channel& x : c_.channels) {
      if (x.region != r || (before ? x.to : x.from) != s) {
        continue;
      }
      const std::string rounds =
          x.rounds == 0 ? "" : ", " + std::to_string(x.rounds) + " rounds before";
      line(depth, before ? unit(x.to_unit) + " waits for " + unit(x.from_unit) + " (" +
                               std::to_string(x.semaphore) + rounds + ")"
                         : unit(x.from_unit) + " tells " + unit(x.to_unit) + " (" +
                               std::to_string(x.semaphore) + ")");
    }
  }

  void body(int r, int depth) {
    const region& here = at(r);
    line(depth, "region " + std::to_string(r) + (here.fenced ? ", all engines meet" : "") + " {");
    for (std::size_t n = 0; n < here.steps.size(); ++n) {
      const step& s = here.steps[n];
      order(r, static_cast<int>(n), true, depth + 1);
      const std::string source =
          s.source < 0 ? "grid" : c_.sources[static_cast<std::size_t>(s.source)];
      const std::string number = std::to_string(n) + ": ";
      if (s.kind == step_kind::operation) {
        line(depth + 1, number + operation(s) + "  ; " + source);
      } else {
        const std::string test = std::string(isa::info_of(s.code.op).name) + " " +
                                 value_text(s.code.x) + ", " + value_text(s.code.y);
        line(depth + 1, number +
                            (s.kind == step_kind::again  ? "again if " + test
                             : s.kind == step_kind::loop ? "loop unless " + test
                                                         : "choose the second if " + test) +
                            "  ; " + source);
        for (const int inner : s.regions) {
          if (inner >= 0) {
            body(inner, depth + 1);
          }
        }
      }
      order(r, static_cast<int>(n), false, depth + 1);
    }
    line(depth, "}");
  }

  static std::string value_text(const isa::value& v) {
    return v.reg == 0   ? std::to_string(v.imm)
           : v.imm == 0 ? "r" + std::to_string(v.reg)
                        : "r" + std::to_string(v.reg) + "+" + std::to_string(v.imm);
  }

  const chip_program& c_;
  std::string text_{};
};

}  // namespace detail

/// Returns: buffers with addresses and lifetimes, then every step with its engine, what it waits
/// for, whom it tells and the instruction of the tile program that it comes from.
inline std::string print(const chip_program& c) { return detail::printer(c).run(); }

}  // namespace ashlar::chip::npu_codegen

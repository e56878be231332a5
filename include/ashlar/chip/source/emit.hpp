// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "ashlar/chip/source/errors.hpp"
#include "ashlar/chip/source/expressions.hpp"
#include "ashlar/chip/source/prelude.hpp"
#include "ashlar/chip/source/products.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/tile/passes/pipeline.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"
#include "ashlar/tile/scalar.hpp"
#include "ashlar/tile/sharing.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/verify.hpp"

/// Tile programs as C++ source that needs nothing of this library.
namespace ashlar::chip::source {

namespace detail {

/// Writes the function of one program. One class, because what an instruction writes depends on the
/// names, groups and registers of all before it.
class writer : text_of {
 public:
  writer(const tile::program& p, std::string_view function)
      : text_of(p), structure_(p), names_(static_cast<std::size_t>(p.size)), function_(function) {}

  std::string run() {
    block(0, p_.size);
    std::ostringstream text;
    // The room of a thread is found once per program: where code is in a shared library, each use
    // of a thread's own variable is a call.
    const std::string room = function_ + "_room";
    text << "\nnamespace {\n  struct " << room << " {\n"
         << fields_.str() << "  };\n  [[gnu::noinline]] " << room << "& own_" << room
         << "() {\n    static thread_local " << room << " own;\n    return own;\n  }\n"
         << "}  // namespace\n";
    text << "\n/// " << p_.name() << ": every program of a grid of g0 by g1 by g2.\n"
         << "extern \"C\" void " << function_ << "(const tile_argument* a, std::int64_t g0, "
         << "std::int64_t g1, std::int64_t g2) {\n"
         << direct_text() << "#if defined(_OPENMP)\n#pragma omp parallel for\n#endif\n"
         << "  for (i64 program = 0; program < g0 * g1 * g2; ++program) {\n"
         << "    const i64 place[3] = {program % g0, program / g0 % g1, program / g0 / g1};\n"
         << "    const i64 grid[3] = {g0, g1, g2};\n"
         << "    static_cast<void>(place);\n    static_cast<void>(grid);\n"
         << "    static_cast<void>(apart);\n"
         << "    auto& room = own_" << room << "();\n    static_cast<void>(room);\n"
         << declarations_.str() << body_.str() << "  }\n}\n";
    return text.str();
  }

 private:
  [[nodiscard]] std::string& name(int v) { return names_[index(v)]; }

  std::string direct_text() const {
    if (tile::reads_what_it_writes(p_) || p_.parameter_count == 0) {
      return "  constexpr bool apart = false;\n";
    }
    std::string sizes, written, ranks;
    for (int k = 0; k < p_.parameter_count; ++k) {
      const tile::parameter& x = p_.parameter_at(k);
      const char* const comma = k > 0 ? ", " : "";
      sizes += comma + std::to_string(size_of(x.element));
      written += comma + std::string(x.written ? "true" : "false");
      ranks += comma + std::to_string(static_cast<int>(x.rank));
    }
    return "  static constexpr int sizes[] = {" + sizes +
           "};\n  static constexpr bool written[] = {" + written +
           "};\n  static constexpr int ranks[] = {" + ranks +
           "};\n  const bool apart = lie_apart(a, " + std::to_string(p_.parameter_count) +
           ", sizes, written, ranks);\n";
  }

  // --- pieces of text ----------------------------------------------------------------------------

  void line(const std::string& text) {
    body_ << std::string(index(2 * depth_), ' ') << text << "\n";
  }
  void open(const std::string& text) {
    line(text + " {");
    ++depth_;
  }
  void close(const std::string& text = "") {
    --depth_;
    line("}" + text);
  }
  /// Room for the tile of value `v`, by another name where one is given.
  std::string array(const tile::tile_type& t, const std::string& called, int at) {
    fields_ << "    alignas(64) " << element(t.element, at) << " " << called << "[" << t.size()
            << "];\n";
    declarations_ << "    auto& " << called << " = room." << called << ";\n"
                  << "    static_cast<void>(" << called << ");\n";
    return called;
  }
  /// Element `i` of a value as an operand.
  std::string element_of(int v, const std::string& i) {
    return type(v).rank == 0 || scalar_for_all_[index(v)] || in_registers_[index(v)]
               ? name(v)
               : name(v) + "[" + i + "]";
  }

  // --- groups ------------------------------------------------------------------------------------

  [[nodiscard]] bool is_member(int v) const {
    return std::find(members_.begin(), members_.end(), v) != members_.end();
  }

  /// Elementwise instructions of one size in one loop.
  void end_group() {
    if (members_.empty()) {
      return;
    }
    const std::vector<int> members = members_;
    const std::int64_t size = type(members[0]).size();
    for (const int m : members) {
      in_registers_[index(m)] = all_users(m, [&](int j) { return is_member(j); });
      name(m) = "v" + std::to_string(m);
      if (!in_registers_[index(m)]) {
        array(type(m), "b" + std::to_string(m), m);
        std::string there = "b" + std::to_string(m);
        for (const int s : stores_) {
          if (p_.operand(s, 0) == m && goes_through(s)) {
            line("auto* const d" + std::to_string(s) + " = apart ? block_of<" +
                 element(type(m).element, m) + ">(" + view_text(s, type(m), 1) + ") : nullptr;");
            there = "d" + std::to_string(s) + " != nullptr ? d" + std::to_string(s) + " : " + there;
          }
        }
        line(element(type(m).element, m) + "* const " + name(m) + " = " + there + ";");
      }
    }
    line("#if defined(__clang__)");
    line("#pragma clang loop vectorize(assume_safety)");
    line("#else");
    line("#pragma GCC ivdep");
    line("#endif");
    open("for (i64 i = 0; i < " + std::to_string(size) + "; ++i)");
    for (const int m : members) {
      const std::string value = expression(m, [&](int k) {
        const int v = p_.operand(m, k);
        return is_member(v) ? "e" + std::to_string(v) : element_of(v, "i");
      });
      line("const " + element(type(m).element, m) + " e" + std::to_string(m) + " = " + value + ";");
      if (!in_registers_[index(m)]) {
        line(name(m) + "[i] = e" + std::to_string(m) + ";");
      } else {
        line("static_cast<void>(e" + std::to_string(m) + ");");
      }
    }
    close();
    members_.clear();
    for (const int s : stores_) {
      store(s);
    }
    stores_.clear();
  }
  /// Whether what the group computes may be written to where it belongs: no other store of the
  /// group writes that view, and no other needs it.
  [[nodiscard]] bool goes_through(int s) const {
    for (const int other : stores_) {
      if (other != s && p_.at(other).index == p_.at(s).index) {
        return false;
      }
    }
    return all_users(p_.operand(s, 0), [&](int j) { return j == s || is_member(j); });
  }

  /// Pure, of nothing that the group computes, and no reading behind a write.
  [[nodiscard]] bool may_go_before(int i) const {
    const tile::opcode_info& about = tile::info(p_.at(i).op);
    if (about.effect || about.regions > 0 || (tile::reads(p_.at(i).op) && !stores_.empty())) {
      return false;
    }
    return std::none_of(p_.operands(i).begin(), p_.operands(i).end(),
                        [&](tile::value_id o) { return is_member(o); });
  }

  void block(int begin, int end) {
    const std::vector<int> members = std::exchange(members_, {});
    const std::vector<int> stores = std::exchange(stores_, {});
    for (int i = begin; i < end; i = structure_.after(p_, i)) {
      const tile::instruction& x = p_.at(i);
      if (x.op == opcode::region_input || x.op == opcode::yield) {
        continue;
      }
      if (is_elementwise(x.op) && x.type.rank > 0) {
        if (!members_.empty() && type(members_[0]).size() != x.type.size()) {
          end_group();
        }
        members_.push_back(i);
        continue;
      }
      if (x.op == opcode::store && !members_.empty()) {
        stores_.push_back(i);
        continue;
      }
      if (!members_.empty() && !may_go_before(i)) {
        end_group();
      }
      single(i);
    }
    end_group();
    members_ = members;
    stores_ = stores;
  }

  // --- instructions ------------------------------------------------------------------------------

  std::string view_text(int i, const tile::tile_type& t, int first) {
    const tile::instruction& x = p_.at(i);
    const std::string k = std::to_string(i);
    std::string extents, offsets;
    for (int e = 0; e < t.rank; ++e) {
      extents += std::to_string(t.extent(e)) + ", ";
    }
    for (int o = first; o < x.count; ++o) {
      offsets += name(p_.operand(i, o)) + (o + 1 < x.count ? ", " : "");
    }
    if (offsets.empty()) {
      offsets = "0";
    }
    // The last extent is there for tiles without axes alone.
    line("static constexpr i64 x" + k + "[] = {" + extents + "1};");
    line("const i64 o" + k + "[] = {" + offsets + "};");
    return "a[" + std::to_string(x.index) + "], " +
           std::to_string(static_cast<int>(p_.parameter_at(x.index).rank)) + ", x" + k + ", o" + k;
  }

  void scalar(int i, const std::string& value) {
    name(i) = "v" + std::to_string(i);
    line("const " + element(type(i).element, i) + " " + name(i) + " = " + value + ";");
    line("static_cast<void>(" + name(i) + ");");
  }

  void load(int i) {
    const tile::instruction& x = p_.at(i);
    const std::string k = std::to_string(i);
    const std::string t = element(x.type.element, i);
    tile::instruction fill = x;
    fill.type = tile::scalar_type(x.type.element);
    const std::string view = view_text(i, x.type, 0);
    name(i) = "v" + k;
    if (x.type.rank == 0) {
      line("const auto* const p" + k + " = block_of<const " + t + ">(" + view + ");");
      line("const " + t + " v" + k + " = p" + k + " != nullptr ? *p" + k + " : " +
           constant_text(fill, i) + ";");
      line("static_cast<void>(v" + k + ");");
      return;
    }
    array(x.type, "b" + k, i);
    line("const " + t + "* v" + k + " = apart ? block_of<const " + t + ">(" + view +
         ") : nullptr;");
    open("if (v" + k + " == nullptr)");
    line("each_run<const " + t + ">(" + view + ", [&](i64 k, const " + t +
         "* p, i64 n, i64 step) { read_run<" + t + ">(b" + k + " + k, p, n, step, " +
         constant_text(fill, i) + "); });");
    line("v" + k + " = b" + k + ";");
    close();
  }

  void store(int i) {
    const int v = p_.operand(i, 0);
    // A store that goes through has said where already.
    const std::string k = std::to_string(i);
    open("");
    const std::string view = view_text(i, type(v), 1);
    line("write_block<" + element(type(v).element, i) + ">(" + view + ", " +
         (type(v).rank == 0 ? "&" : "") + name(v) + ");");
    close();
  }

  void gather(int i) {
    const tile::instruction& x = p_.at(i);
    const std::string t = element(x.type.element, i);
    tile::instruction fill = x;
    fill.type = tile::scalar_type(x.type.element);
    const std::string k = std::to_string(i);
    name(i) = "v" + k;
    const bool one = x.type.rank == 0;
    one ? line(t + " v" + k + ";") : static_cast<void>(array(x.type, name(i), i));
    open("for (i64 k = 0; k < " + std::to_string(x.type.size()) + "; ++k)");
    line("i64 at = 0;");
    line("bool inside = true;");
    for (int o = 0; o < x.count; ++o) {
      const int v = p_.operand(i, o);
      const std::string n = std::to_string(o);
      const std::string view = "a[" + std::to_string(x.index) + "]";
      line("const i64 n" + n + " = " + element_of(v, "k") + ";");
      line("inside = inside && n" + n + " >= 0 && n" + n + " < " + view + ".extents[" + n + "];");
      line("at += inside ? n" + n + " * " + view + ".strides[" + n + "] : 0;");
    }
    line("v" + k + (one ? "" : "[k]") + " = inside ? static_cast<const " + t + "*>(a[" +
         std::to_string(x.index) + "].data)[at] : " + constant_text(fill, i) + ";");
    close();
  }

  void shape(int i) {
    const tile::instruction& x = p_.at(i);
    const int from = p_.operand(i, 0);
    const std::string k = std::to_string(i);
    if (x.op == opcode::reshape ||
        (x.op == opcode::broadcast && type(from).size() == x.type.size())) {
      if ((type(from).rank == 0) == (x.type.rank == 0)) {
        name(i) = name(from);
        return;
      }
      if (x.type.rank == 0) {
        return scalar(i, name(from) + "[0]");
      }
    }
    if (x.op == opcode::broadcast && type(from).size() == 1 &&
        all_users(i, [&](int j) { return is_elementwise(p_.at(j).op); })) {
      name(i) = type(from).rank == 0 ? name(from) : name(from) + "[0]";
      scalar_for_all_[index(i)] = true;
      return;
    }
    if (x.op == opcode::unpack_nibbles) {
      refuse(i);
    }
    name(i) = array(x.type, "v" + k, i);
    if (x.op == opcode::split || x.op == opcode::join) {
      open("for (i64 i = 0; i < " + std::to_string(x.type.size()) + "; ++i)");
      line(name(i) + "[i] = " +
           (x.op == opcode::split ? name(from) + "[2 * i + " + std::to_string(x.index) + "];"
                                  : "i % 2 == 0 ? " + name(from) +
                                        "[i / 2] : " + name(p_.operand(i, 1)) + "[i / 2];"));
      return close();
    }
    const tile::tile_type& f = type(from);
    std::array<std::int64_t, tile::max_rank> dense{};
    std::int64_t step = 1;
    for (int a = f.rank - 1; a >= 0; --a) {
      dense[index(a)] = step;
      step *= f.extent(a);
    }
    // A loop for each axis: nothing is divided, and the innermost one becomes vectors.
    std::string to = "0", place = "0";
    for (int a = 0; a < x.type.rank; ++a) {
      const std::string at = "i" + std::to_string(a);
      const std::string extent = std::to_string(x.type.extent(a));
      open("for (i64 " + at + " = 0; " + at + " < " + extent + "; ++" + at + ")");
      to = a == 0 ? at : "(" + to + ") * " + extent + " + " + at;
      std::int64_t by = 0;
      if (x.op == opcode::transpose) {
        by = dense[static_cast<std::size_t>((x.value >> (4 * a)) & 15)];
      } else if (const int b = a - (x.type.rank - f.rank); b >= 0 && f.extent(b) > 1) {
        by = dense[index(b)];
      }
      place += by == 0 ? "" : " + " + at + " * " + std::to_string(by);
    }
    line(name(i) + "[" + to + "] = " + (f.rank == 0 ? name(from) : name(from) + "[" + place + "]") +
         ";");
    for (int a = 0; a < x.type.rank; ++a) {
      close();
    }
  }

  void dot(int i) {
    const tile::tile_type& ta = type(p_.operand(i, 0));
    const tile::tile_type& tc = type(i);
    const int r = tc.rank;
    const std::string t = element(tc.element, i);
    const std::string m = std::to_string(tc.extent(r - 2));
    const std::string n = std::to_string(tc.extent(r - 1));
    const std::string k = std::to_string(ta.extent(r - 1));
    const bool in_place = !name(i).empty();  // a loop has said where
    if (!in_place) {
      name(i) = array(tc, "v" + std::to_string(i), i);
    }
    const auto is_float = [&](const tile::tile_type& x) { return x.element == dtype::float32; };
    if (r == 2 && is_float(tc) && is_float(ta) && is_float(type(p_.operand(i, 1))) &&
        tc.extent(0) % 8 == 0 && tc.extent(1) % 32 == 0) {
      if (!in_place) {
        copy(tc, name(i), name(p_.operand(i, 2)));
      }
      line("dot_tile<" + m + ", " + n + ", " + k + ">(" + name(i) + ", " + name(p_.operand(i, 0)) +
           ", " + name(p_.operand(i, 1)) + ");");
      return;
    }
    open("for (i64 m = 0; m < " + std::to_string(r == 3 ? tc.extent(0) : 1) + " * " + m + "; ++m)");
    line(t + "* const c = " + name(i) + " + m * " + n + ";");
    if (!in_place) {
      line("std::memcpy(static_cast<void*>(c), " + name(p_.operand(i, 2)) + " + m * " + n +
           ", sizeof(" + t + ") * " + n + ");");
    }
    open("for (i64 k = 0; k < " + k + "; ++k)");
    line("const " + t + " x = static_cast<" + t + ">(" + name(p_.operand(i, 0)) + "[m * " + k +
         " + k]);");
    line("const auto* const y = " + name(p_.operand(i, 1)) + " + (m / " + m + " * " + k +
         " + k) * " + n + ";");
    open("for (i64 n = 0; n < " + n + "; ++n)");
    line("c[n] = madd(x, static_cast<" + t + ">(y[n]), c[n]);");
    close();
    close();
    close();
  }

  void leaf(int i) {
    const tile::instruction& x = p_.at(i);
    const std::string n = std::to_string(x.index);
    switch (x.op) {
      case opcode::constant:
        return scalar(i, constant_text(x, i));
      case opcode::program_id:
        return scalar(i, "place[" + n + "]");
      case opcode::grid_size:
        return scalar(i, "grid[" + n + "]");
      case opcode::extent:
        return scalar(i, "a[" + n + "].extents[" + std::to_string(x.value) + "]");
      case opcode::argument:
        return scalar(i, "scalar_of<" + element(x.type.element, i) + ">(a[" + n + "].bits)");
      default: {
        name(i) = array(x.type, "v" + std::to_string(i), i);
        std::int64_t after = 1;
        for (int a = x.type.rank - 1; a > x.index; --a) {
          after *= x.type.extent(a);
        }
        open("for (i64 i = 0; i < " + std::to_string(x.type.size()) + "; ++i)");
        line(name(i) + "[i] = static_cast<" + element(x.type.element, i) + ">(i / " +
             std::to_string(after) + " % " + std::to_string(x.type.extent(x.index)) + ");");
        return close();
      }
    }
  }

  void single(int i) {
    const tile::instruction& x = p_.at(i);
    switch (tile::info(x.op).kind) {
      case opcode_kind::leaf:
        return leaf(i);
      case opcode_kind::shape:
        return shape(i);
      default:
        break;
    }
    switch (x.op) {
      case opcode::load:
        return load(i);
      case opcode::store:
        return store(i);
      case opcode::gather:
        return gather(i);
      case opcode::dot:
        return dot(i);
      case opcode::result:
        name(i) = result_name(p_.operand(i, 0), x.index);
        return;
      case opcode::reduce:
      case opcode::scan:
        return fold(i);
      case opcode::loop:
        return loop(i);
      case opcode::branch:
        return branch(i);
      case opcode::require:
        return require(i);
      default:
        break;
    }
    if (!is_elementwise(x.op)) {
      refuse(i);
    }
    scalar(i, expression(i, [&](int k) { return name(p_.operand(i, k)); }));
  }

  void require(int i) {
    const int v = p_.operand(i, 0);
    open("for (i64 i = 0; i < " + std::to_string(type(v).size()) + "; ++i)");
    open("if (!" + element_of(v, "i") + ")");
    line("broken = " + std::to_string(p_.at(i).index + 1) + ";");
    close();
    close();
  }

  // --- regions -----------------------------------------------------------------------------------

  static std::string result_name(int owner, int k) {
    return "r" + std::to_string(owner) + "_" + std::to_string(k);
  }
  /// A variable, or an array, of a type.
  void declare(const tile::tile_type& t, const std::string& called, int at) {
    if (t.rank == 0) {
      line(element(t.element, at) + " " + called + "{};");
      line("static_cast<void>(" + called + ");");
    } else {
      array(t, called, at);
    }
  }
  void copy(const tile::tile_type& t, const std::string& to, const std::string& from) {
    if (t.rank == 0) {
      line(to + " = " + from + ";");
    } else {
      line("std::memcpy(static_cast<void*>(" + to + "), " + from + ", sizeof(" + to + "));");
    }
  }
  void keep_results(int owner, int yield) {
    for (int k = 0; k < p_.at(yield).count; ++k) {
      const int v = p_.operand(yield, k);
      if (name(v) != result_name(owner, k)) {
        copy(type(v), result_name(owner, k), name(v));
      }
    }
  }
  [[nodiscard]] int uses_of(int v) const {
    int uses = 0;
    for (int i = 0; i < p_.size; ++i) {
      for (int k = 0; k < p_.at(i).count; ++k) {
        uses += p_.operand(i, k) == v ? 1 : 0;
      }
    }
    return uses;
  }
  /// Whether what loop `i` carries as number `k` is the sum of a product and nothing else reads it:
  /// the product adds to it where it lies.
  [[nodiscard]] bool adds_up(int i, int yield, int k) const {
    const int carried = i + 2 + k;
    const int sum = p_.operand(yield, k);
    return p_.at(sum).op == opcode::dot && p_.operand(sum, 2) == carried && uses_of(carried) == 1 &&
           uses_of(sum) == 1;
  }

  void loop(int i) {
    const int carried = p_.at(i).count - 3;
    const int yield = tile::at(structure_.first_yield, i);
    for (int k = 0; k < carried; ++k) {
      const int v = p_.operand(i, k + 3);
      declare(type(v), result_name(i, k), i);
      copy(type(v), result_name(i, k), name(v));
    }
    const std::vector<looped_product> sums = products_of_loop(p_, i, yield);
    if (!sums.empty()) {
      open("if (" + at_once(i, sums) + ")");
      for (std::size_t k = 0; k < sums.size(); ++k) {
        const tile::tile_type& t = type(sums[k].dot);
        line("product<" + std::to_string(t.extent(0)) + ", " + std::to_string(t.extent(1)) + ">(" +
             result_name(i, static_cast<int>(k)) + ", " + sides_text(sums[k]) + ");");
      }
      close(" else {");
      ++depth_;
      rounds(i, yield);
      return close();
    }
    rounds(i, yield);
  }
  /// Where the views of a product begin: the arguments of `product` and `product_fits`.
  [[nodiscard]] std::string sides_text(const looped_product& s) const {
    std::string text;
    for (const int v : {s.a, s.b}) {
      const tile::instruction& x = p_.at(v);
      text += (text.empty() ? "a[" : ", a[") + std::to_string(x.index) + "], " +
              std::to_string(x.count) + ", from" + std::to_string(v);
    }
    return text;
  }
  /// Says where the products of loop `i` begin. Returns: the condition that each is one product.
  std::string at_once(int i, const std::vector<looped_product>& sums) {
    std::vector<int> said;
    std::string condition;
    for (const looped_product& s : sums) {
      for (const int v : {s.a, s.b}) {
        if (std::find(said.begin(), said.end(), v) == said.end()) {
          said.push_back(v);
          std::string offsets;
          for (int o = 0; o < p_.at(v).count; ++o) {
            const int at = p_.operand(v, o);
            offsets += (o > 0 ? ", " : "") + name(at == i + 1 ? p_.operand(i, 0) : at);
          }
          line("const i64 from" + std::to_string(v) + "[] = {" + offsets + "};");
        }
      }
      condition += (condition.empty() ? "" : " && ") + std::string("product_fits(") +
                   sides_text(s) + ", " + name(p_.operand(i, 1)) + ")";
    }
    return condition;
  }

  /// The rounds of a loop, one by one.
  void rounds(int i, int yield) {
    const int carried = p_.at(i).count - 3;
    // A counter near the largest number ends the loop and does not overflow.
    const std::string n = std::to_string(i);
    const std::string last = name(p_.operand(i, 1));
    const std::string by = name(p_.operand(i, 2));
    name(i + 1) = "v" + std::to_string(i + 1);
    open("for (i64 n" + n + " = " + name(p_.operand(i, 0)) + "; " + by + " > 0 && n" + n + " < " +
         last + "; n" + n + " = static_cast<std::uint64_t>(" + last +
         ") - static_cast<std::uint64_t>(n" + n + ") <= static_cast<std::uint64_t>(" + by + ") ? " +
         last + " : n" + n + " + " + by + ")");
    line("const i64 " + name(i + 1) + " = n" + n + ";");
    line("static_cast<void>(" + name(i + 1) + ");");
    for (int k = 0; k < carried; ++k) {
      const int v = i + 2 + k;
      if (adds_up(i, yield, k)) {
        name(v) = name(p_.operand(yield, k)) = result_name(i, k);
        continue;
      }
      name(v) = "v" + std::to_string(v);
      declare(type(v), name(v), v);
      copy(type(v), name(v), result_name(i, k));
    }
    block(i + 1, yield);
    keep_results(i, yield);
    close();
  }

  void branch(int i) {
    const int first = tile::at(structure_.first_yield, i);
    const int second = tile::at(structure_.last_yield, i);
    for (int k = 0; k < p_.at(first).count; ++k) {
      declare(type(p_.operand(first, k)), result_name(i, k), i);
    }
    open("if (" + name(p_.operand(i, 0)) + ")");
    block(i + 1, first);
    keep_results(i, first);
    close(" else {");
    ++depth_;
    block(first + 1, second);
    keep_results(i, second);
    close();
  }

  /// The region of a reduction or scan as a function on elements: a = combine(a, b).
  std::string combine(int i) {
    const int count = p_.at(i).count;
    const int yield = tile::at(structure_.first_yield, i);
    const std::string called = "combine" + std::to_string(i);
    std::string parameters;
    for (int k = 0; k < 2 * count; ++k) {
      const int v = i + 1 + k;
      name(v) = "v" + std::to_string(v);
      parameters +=
          (k > 0 ? ", " : "") + element(type(v).element, v) + (k < count ? "& " : " ") + name(v);
    }
    open("const auto " + called + " = [&](" + parameters + ")");
    for (int k = count; k < 2 * count; ++k) {
      line("static_cast<void>(" + name(i + 1 + k) + ");");
    }
    for (int j = i + 1 + 2 * count; j < yield; ++j) {
      if (type(j).rank != 0 || tile::info(p_.at(j).op).regions > 0 ||
          tile::info(p_.at(j).op).effect) {
        refuse(j);
      }
    }
    block(i + 1, yield);
    for (int k = 0; k < count; ++k) {
      line("const auto y" + std::to_string(k) + " = " + name(p_.operand(yield, k)) + ";");
    }
    for (int k = 0; k < count; ++k) {
      line(name(i + 1 + k) + " = y" + std::to_string(k) + ";");
    }
    close(";");
    return called;
  }

  void fold(int i) {
    const tile::instruction& x = p_.at(i);
    const bool reduces = x.op == opcode::reduce;
    const tile::tile_type& t = type(p_.operand(i, 0));
    std::int64_t outer = 1;
    std::int64_t inner = 1;
    for (int a = 0; a < t.rank; ++a) {
      (a < x.index ? outer : inner) *= a == x.index ? 1 : t.extent(a);
    }
    const std::int64_t n = t.extent(x.index);
    const std::int64_t width = std::min<std::int64_t>(n, 16);
    for (int k = 0; k < x.count; ++k) {
      const tile::tile_type& from = type(p_.operand(i, k));
      declare(reduces ? from.without(x.index) : from, result_name(i, k), i);
    }
    const std::string call = combine(i);
    open("for (i64 o = 0; o < " + std::to_string(outer * inner) + "; ++o)");
    line("const i64 first = o / " + std::to_string(inner) + " * " + std::to_string(n * inner) +
         " + o % " + std::to_string(inner) + ";");
    const auto value = [&](int k, const std::string& e) {
      return name(p_.operand(i, k)) + "[first + (" + e + ") * " + std::to_string(inner) + "]";
    };
    const auto call_with = [&](const std::string& lane, const std::string& e) {
      std::string text = call + "(";
      for (int k = 0; k < x.count; ++k) {
        text += (k > 0 ? ", s" : "s") + std::to_string(k) + lane;
      }
      for (int k = 0; k < x.count; ++k) {
        text += ", " + (e.empty() ? "s" + std::to_string(k) + "[l + half]" : value(k, e));
      }
      line(text + ");");
    };
    if (!reduces) {
      for (int k = 0; k < x.count; ++k) {
        line(element(type(p_.operand(i, k)).element, i) + " s" + std::to_string(k) + " = " +
             value(k, x.value != 0 ? std::to_string(n - 1) : "0") + ";");
      }
      open("for (i64 step = 0; step < " + std::to_string(n) + "; ++step)");
      line("const i64 e = " +
           (x.value != 0 ? std::to_string(n - 1) + " - step" : std::string("step")) + ";");
      open("if (step > 0)");
      call_with("", "e");
      close();
      for (int k = 0; k < x.count; ++k) {
        line(result_name(i, k) + "[first + e * " + std::to_string(inner) + "] = s" +
             std::to_string(k) + ";");
      }
      close();
      return close();
    }
    const std::string w = std::to_string(width);
    for (int k = 0; k < x.count; ++k) {
      line(element(type(p_.operand(i, k)).element, i) + " s" + std::to_string(k) + "[" + w + "];");
    }
    open("for (i64 l = 0; l < " + w + "; ++l)");
    for (int k = 0; k < x.count; ++k) {
      line("s" + std::to_string(k) + "[l] = " + value(k, "l") + ";");
    }
    close();
    const std::int64_t whole = n / 16 * 16;
    if (whole > 16) {
      open("for (i64 e = 16; e < " + std::to_string(whole) + "; e += 16)");
      open("for (i64 l = 0; l < 16; ++l)");
      call_with("[l]", "e + l");
      close();
      close();
    }
    if (n > 16 && n > whole) {
      open("for (i64 l = 0; l < " + std::to_string(n - whole) + "; ++l)");
      call_with("[l]", std::to_string(whole) + " + l");
      close();
    }
    if (width > 1) {
      open("for (i64 half = 8; half > 0; half /= 2)");
      open("for (i64 l = 0; l < half && l + half < " + w + "; ++l)");
      call_with("[l]", "");
      close();
      close();
    }
    for (int k = 0; k < x.count; ++k) {
      line(result_name(i, k) + (t.rank > 1 ? "[o]" : "") + " = s" + std::to_string(k) + "[0];");
    }
    close();
  }

  tile::structure structure_;
  std::vector<std::string> names_;
  std::string function_;
  std::vector<bool> scalar_for_all_ = std::vector<bool>(program_size);
  std::vector<bool> in_registers_ = std::vector<bool>(program_size);
  static constexpr std::size_t program_size = tile::program::max_instructions;
  std::vector<int> members_{}, stores_{};
  std::ostringstream fields_{}, declarations_{}, body_{};
  int depth_ = 2;
};

}  // namespace detail

/// A program and what its function is called.
struct function {
  tile::program program;
  std::string name;
};

/// Writes one source file with a function for each program: it includes standard headers alone.
///
/// Each is `extern "C" void name(const tile_argument* a, int64_t g0, int64_t g1, int64_t g2)`, and
/// `tile_argument` is {data, extents[4], strides[4], bits} as in `tile::argument`. It runs every
/// program of the grid, by OpenMP where the compiler has that switched on. Arguments are not
/// checked; a `require` that does not hold is left in the file's `broken`. Compiled with `flags`,
/// results have the bits of the host's, but for `log` and the `erf` of doubles, which are the C
/// library's. Throws: `program_error`; `unsupported` for what has no source: scatters and atomics,
/// float8,
///         casts that do not round to nearest, `repeat`, `random_bits`, `dot_scaled`, `print`,
///         `unpack_nibbles`.
inline std::string emit(std::span<const function> functions) {
  std::string text = "// Written by ashlar::chip::source. Compile with " + std::string(flags) +
                     " -march=...\n" + std::string(prelude) + std::string(products);
  for (const function& f : functions) {
    tile::expect_valid(f.program);
    const tile::program better = tile::passes::optimise(f.program);
    text += detail::writer(better, f.name).run();
  }
  return text;
}

}  // namespace ashlar::chip::source

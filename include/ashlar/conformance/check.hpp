// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/conformance/calls.hpp"
#include "ashlar/conformance/report.hpp"
#include "ashlar/conformance/sample.hpp"
#include "ashlar/dispatch/errors.hpp"

/// The one checker: every form of a sample against its twin, by element type as a value.
namespace ashlar::conformance {

struct options {
  std::string op{};                     ///< this operator alone; empty: all
  std::string dtype{};                  ///< this element type alone; empty: all
  int sample = -1;                      ///< this sample alone; -1: all
  bool print = true;                    ///< the table, to standard output
  std::string program = "conformance";  ///< how lines begin that reproduce a failure
  /// Every form and layout gives the bits of the functional form: a promise of the library's own
  /// kernels that a chip need not make.
  bool same_bits = false;
  /// Whether an exception of the chip's says that it has no means to run something.
  std::function<bool(const std::exception&)> means_unsupported{};
  std::string json{};  ///< a file to write; empty: none
  std::string html{};  ///< a file to write; empty: none
};

namespace detail {

/// What went wrong first in a sample.
struct failure {
  std::string what;
};
/// The chip cannot run it.
struct not_supported {
  std::string what;
};

inline std::string shown(double x) {
  if (std::isnan(x)) {
    return "nan";  // whose sign no standard fixes
  }
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

class checker {
 public:
  checker(const device& on, const calls& call, const described& op, const options& o)
      : on_(on), call_(call), op_(op), options_(o) {}

  /// Throws: `failure`, `not_supported`.
  void run(const sample& s) const {
    std::vector<array> in = inputs(s);
    if (s.refused) {
      refused(in, s);
      return;
    }
    std::vector<numbers> values;
    for (const array& a : in) {
      values.push_back(dense(a));
    }
    const dtype type = call_.out[0];
    const std::vector<numbers> want = op_.twin({type, values, s.with});
    if (call_.written[0] >= 0) {
      written(in, want, s);
      return;
    }
    const std::vector<array> first = functional(in, want, s);
    output(in, want, s, first);
    in_place(in, want, s, first);
    if (s.gradient && call_.gradient != nullptr) {
      try {
        gradient(in, values, want[0], s);
      } catch (const not_supported&) {  // what derivatives call has rows of its own
      }
    }
  }

 private:
  using handles = std::vector<tensor_handle>;

  [[nodiscard]] std::vector<array> inputs(const sample& s) const {
    if (s.in.size() != call_.arguments) {
      throw failure{"the sample has " + std::to_string(s.in.size()) + " arguments, the operator " +
                    std::to_string(call_.arguments)};
    }
    std::vector<array> in;
    for (std::size_t k = 0; k < s.in.size(); ++k) {
      const given& g = s.in[k];
      in.push_back(make_array(g.extents, call_.in[k], g.how, on_.alignment));
      for (std::int64_t i = 0; i < in[k].size(); ++i) {
        in[k].set(i, value_of(g.what, call_.in[k], i, static_cast<int>(k) + 1, g.limit));
      }
    }
    if (s.prepare != nullptr) {
      std::vector<numbers> all;
      for (const array& a : in) {
        all.push_back(dense(a));
      }
      s.prepare(all, s.with);
      for (std::size_t k = 0; k < in.size(); ++k) {
        for (std::int64_t i = 0; i < in[k].size(); ++i) {
          in[k].set(i, all[k][i]);
        }
      }
    }
    return in;
  }
  [[nodiscard]] handles uploaded(const std::vector<array>& in) const {
    handles all;
    for (const array& a : in) {
      all.push_back(on_.upload(a));
    }
    return all;
  }
  [[nodiscard]] array result(const tensor_handle& y) const {
    array a{y.spec(), {}};
    a.spec.offset = 0;
    a.bytes.resize(static_cast<std::size_t>(ashlar::detail::reach(a.spec)) * size_of(a.spec.type));
    on_.read(y, a.bytes);
    return a;
  }
  /// Calls `form`, and says where exceptions come from.
  void call(const char* name, calls::form form, const handles& in, const settings& with,
            handles& out) const {
    out.resize(std::max<std::size_t>(out.size(), 4));
    try {
      form(in.data(), with, out.data());
    } catch (const std::exception& e) {
      if (options_.means_unsupported && options_.means_unsupported(e)) {
        throw not_supported{e.what()};
      }
      throw failure{std::string(name) + ": throws: " + e.what()};
    }
  }
  [[nodiscard]] std::vector<tensor_spec> meta(const handles& in, const settings& with) const {
    std::vector<tensor_spec> specs;
    for (const tensor_handle& x : in) {
      specs.push_back(x.spec());
    }
    std::vector<tensor_spec> out(4);
    call_.meta(specs.data(), with, out.data());
    out.resize(call_.results);
    return out;
  }

  void refused(const std::vector<array>& in, const sample& s) const {
    const handles x = uploaded(in);
    handles y(4);
    try {
      call_.functional(x.data(), s.with, y.data());
    } catch (const error&) {
      if (call_.meta == nullptr) {
        return;
      }
      try {
        static_cast<void>(meta(x, s.with));
      } catch (const error&) {
        return;
      }
      throw failure{"meta: accepts arguments that the call refuses"};
    } catch (const std::exception& e) {
      throw failure{std::string("functional: must throw an ashlar::error, throws: ") + e.what()};
    }
    throw failure{"functional: accepts arguments that it must refuse"};
  }

  void compare(const char* name, const array& got, const numbers& want, const sample& s) const {
    if (!same_shape(got.spec.shape(), want.extents.span())) {
      throw failure{std::string(name) + ": shape " + to_string(got.spec.shape()) + ", want " +
                    to_string(want.extents.span())};
    }
    const dtype type = got.spec.type;
    const dtype sums = is_narrow_floating(type) ? dtype::float32 : type;
    const double absolute =
        s.allowed.terms * roundoff(sums) * s.allowed.magnitude + grain(type) / 2;
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double x = got[i];
      const double exact = want[i];
      const double rounded_want = rounded(type, exact);
      const double allowed = absolute + roundoff(type) * std::abs(exact);
      const bool same = x == rounded_want || (std::isnan(x) && std::isnan(rounded_want));
      if (!same && !(std::abs(x - exact) <= allowed && std::isfinite(exact))) {
        throw failure{std::string(name) + ": shape " + to_string(got.spec.shape()) + " element " +
                      std::to_string(i) + ": got " + shown(x) + ", want " + shown(exact) +
                      ", allowed " + shown(allowed)};
      }
    }
  }
  static void same_bits(const char* name, const array& got, const array& want) {
    for (std::int64_t i = 0; i < got.size(); ++i) {
      if (!(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))) {
        throw failure{std::string(name) + ": element " + std::to_string(i) + ": got " +
                      shown(got[i]) + ", another call gave " + shown(want[i])};
      }
    }
  }
  /// Whether nothing but the elements of `a` differs between `before` and `after`.
  static void same_around(const std::string& name, const array& a, const array& after) {
    std::vector<bool> mine(a.bytes.size());
    for (std::int64_t i = 0; i < a.size(); ++i) {
      for (std::size_t b = 0; b < size_of(a.spec.type); ++b) {
        mine[a.place(i) + b] = true;
      }
    }
    for (std::size_t b = 0; b < mine.size(); ++b) {
      if (!mine[b] && a.bytes[b] != after.bytes[b]) {
        throw failure{name + ": byte " + std::to_string(b) + " is written, " +
                      (b < static_cast<std::size_t>(a.spec.offset) * size_of(a.spec.type)
                           ? "before"
                           : "between or behind") +
                      " the elements of shape " + to_string(a.spec.shape())};
      }
    }
  }
  void untouched(const char* name, const std::vector<array>& in, const handles& x,
                 std::size_t from = 0) const {
    for (std::size_t k = from; k < in.size(); ++k) {
      std::vector<std::byte> now(in[k].bytes.size());
      on_.download(x[k], now);
      if (now != in[k].bytes) {
        throw failure{std::string(name) + ": argument " + std::to_string(k) + " is changed"};
      }
    }
  }
  [[nodiscard]] array downloaded(const array& like, const tensor_handle& x) const {
    array now = like;
    on_.download(x, now.bytes);
    return now;
  }

  std::vector<array> functional(const std::vector<array>& in, const std::vector<numbers>& want,
                                const sample& s) const {
    handles x = uploaded(in);
    handles y;
    call("functional", call_.functional, x, s.with, y);
    std::vector<tensor_spec> specs;
    try {
      if (call_.meta != nullptr) {
        specs = meta(x, s.with);
      }
    } catch (const std::exception& e) {
      throw failure{std::string("meta: throws: ") + e.what()};
    }
    if (!call_.is_view) {  // what reads them must have happened, or happens before this
      for (std::size_t k = 0; k < x.size(); ++k) {
        const bool shared = std::any_of(y.begin(), y.end(), [&](const tensor_handle& one) {
          return one && &one.body()->root() == &x[k].body()->root();
        });
        if (!shared) {
          const std::vector<std::byte> rubbish(in[k].bytes.size(), array::canary(call_.in[k]));
          on_.overwrite(x[k], rubbish);
        }
      }
    }
    std::vector<array> first;
    for (std::size_t r = 0; r < call_.results; ++r) {
      if (!specs.empty() && y[r].spec() != specs[r]) {
        throw failure{"meta: shape " + to_string(specs[r].shape()) + " strides " +
                      to_string(specs[r].strides()) + " " + std::string(name_of(specs[r].type)) +
                      ", the result has shape " + to_string(y[r].shape()) + " strides " +
                      to_string(y[r].spec().strides()) + " " +
                      std::string(name_of(y[r].spec().type))};
      }
      first.push_back(result(y[r]));
      compare("functional", first[r], want[r], s);
    }
    x = uploaded(in);
    handles again;
    call("functional", call_.functional, x, s.with, again);
    for (std::size_t r = 0; r < call_.results; ++r) {
      same_bits("functional, twice", result(again[r]), first[r]);
    }
    untouched("functional", in, x);
    if (options_.same_bits) {
      std::vector<array> elsewhere;
      for (const array& a : in) {
        elsewhere.push_back(
            make_array(shape(a.spec.shape()), a.spec.type, layout::gaps, on_.alignment));
        for (std::int64_t i = 0; i < a.size(); ++i) {
          elsewhere.back().set(i, a[i]);
        }
      }
      handles other;
      if (!call_.is_view) {
        call("functional", call_.functional, uploaded(elsewhere), s.with, other);
      }
      for (std::size_t r = 0; r < call_.results && !call_.is_view; ++r) {
        same_bits("functional, strided", result(other[r]), first[r]);
      }
    }
    return first;
  }

  void output(const std::vector<array>& in, const std::vector<numbers>& want, const sample& s,
              const std::vector<array>& first) const {
    if (call_.out_form == nullptr) {
      return;
    }
    const handles x = uploaded(in);
    for (const layout how : {layout::dense, layout::gaps}) {
      const char* const name = how == layout::dense ? "out=" : "out= with gaps";
      std::vector<array> room;
      for (std::size_t r = 0; r < call_.results; ++r) {
        room.push_back(make_array(want[r].extents, call_.out[r], how, on_.alignment));
      }
      const handles to = uploaded(room);
      handles y = to;
      call(name, call_.out_form, x, s.with, y);
      for (std::size_t r = 0; r < call_.results; ++r) {
        if (y[r].bytes() != to[r].bytes() || y[r].spec() != to[r].spec()) {
          throw failure{std::string(name) + ": the output is another tensor"};
        }
        const array now = downloaded(room[r], to[r]);
        compare(name, now, want[r], s);
        same_around(name, room[r], now);
        if (options_.same_bits) {
          same_bits(name, now, first[r]);
        }
      }
      untouched(name, in, x);
    }
    handles fresh;
    call("out= empty", call_.out_form, x, s.with, fresh);
    for (std::size_t r = 0; r < call_.results; ++r) {
      compare("out= empty", result(fresh[r]), want[r], s);
    }
    std::vector<array> wrong;
    for (std::size_t r = 0; r < call_.results; ++r) {
      shape larger = want[r].extents;
      larger.push_back(2);
      wrong.push_back(make_array(larger, call_.out[r], layout::dense, on_.alignment));
    }
    if (wrong[0].size() > 0) {
      handles y = uploaded(wrong);
      const handles kept = y;
      must_refuse("out= of another shape", call_.out_form, x, s.with, y);
      untouched("out= of another shape", wrong, kept);
    }
  }
  void must_refuse(const char* name, calls::form form, const handles& x, const settings& with,
                   handles& y) const {
    y.resize(std::max<std::size_t>(y.size(), 4));
    try {
      form(x.data(), with, y.data());
    } catch (const output_error&) {
      return;
    } catch (const std::exception& e) {
      throw failure{std::string(name) + ": must throw output_error, throws: " + e.what()};
    }
    throw failure{std::string(name) + ": must throw output_error"};
  }

  void in_place(const std::vector<array>& in, const std::vector<numbers>& want, const sample& s,
                const std::vector<array>& first) const {
    if (call_.in_place == nullptr) {
      return;
    }
    const bool fits = same_shape(in[0].spec.shape(), want[0].extents.span());
    for (const layout how : {layout::dense, layout::gaps}) {
      const char* const name = how == layout::dense ? "in place" : "in place with gaps";
      std::vector<array> mine = in;
      mine[0] = make_array(shape(in[0].spec.shape()), call_.in[0], how, on_.alignment);
      for (std::int64_t i = 0; i < in[0].size(); ++i) {
        mine[0].set(i, in[0][i]);
      }
      const handles x = uploaded(mine);
      handles y(4);
      if (!fits) {
        must_refuse(name, call_.in_place, x, s.with, y);
        untouched(name, mine, x);
        continue;
      }
      call(name, call_.in_place, x, s.with, y);
      if (y[0].bytes() != x[0].bytes()) {
        throw failure{std::string(name) + ": the result is another tensor"};
      }
      const array now = downloaded(mine[0], x[0]);
      compare(name, now, want[0], s);
      same_around(name, mine[0], now);
      untouched(name, mine, x, 1);
      if (options_.same_bits) {
        same_bits(name, now, first[0]);
      }
    }
  }

  /// A plain operator: some of its arguments are its results.
  void written(const std::vector<array>& in, const std::vector<numbers>& want,
               const sample& s) const {
    const handles x = uploaded(in);
    handles none;
    call("call", call_.functional, x, s.with, none);
    for (std::size_t k = 0; k < in.size(); ++k) {
      const auto end = call_.written.begin() + static_cast<std::ptrdiff_t>(call_.results);
      const auto at = std::find(call_.written.begin(), end, static_cast<int>(k));
      const array now = downloaded(in[k], x[k]);
      if (at == end) {
        if (now.bytes != in[k].bytes) {
          throw failure{"call: argument " + std::to_string(k) + " is changed"};
        }
        continue;
      }
      const std::string name = "call, argument " + std::to_string(k);
      compare(name.c_str(), now, want[static_cast<std::size_t>(at - call_.written.begin())], s);
      same_around(name, in[k], now);
    }
  }

  /// Against central differences of the twin.
  void gradient(const std::vector<array>& in, std::vector<numbers> values, const numbers& want,
                const sample& s) const {
    std::vector<array> all = in;
    all.push_back(make_array(want.extents, call_.out[0], layout::dense, on_.alignment));
    for (std::int64_t i = 0; i < want.size(); ++i) {  // fixed weights, so that no error cancels
      all.back().set(i, 0.5 + 0.37 * std::sin(1.7 * static_cast<double>(i) + 0.3));
    }
    const numbers seed = dense(all.back());
    handles g;
    g.resize(in.size());
    call("gradient", call_.gradient, uploaded(all), s.with, g);
    const auto loss = [&] {
      const numbers y = op_.twin({call_.out[0], values, s.with})[0];
      double sum = 0;
      for (std::int64_t i = 0; i < y.size(); ++i) {
        sum += seed[i] * y[i];
      }
      return sum;
    };
    for (std::size_t k = 0; k < in.size(); ++k) {
      if (!is_floating(call_.in[k])) {
        continue;
      }
      numbers slope(values[k].extents);
      double most = 1;
      for (std::int64_t i = 0; i < slope.size(); ++i) {
        constexpr double step = 1e-5;
        const double x = values[k][i];
        values[k][i] = x + step;
        const double above = loss();
        values[k][i] = x - step;
        const double below = loss();
        values[k][i] = x;
        slope[i] = (above - below) / (2 * step);
        most = std::max(most, std::abs(slope[i]));
      }
      if (!g[k]) {
        throw failure{"gradient: of argument " + std::to_string(k) + " there is none"};
      }
      const array got = result(g[k]);
      if (!same_shape(got.spec.shape(), slope.extents.span())) {
        throw failure{"gradient: of argument " + std::to_string(k) + " has shape " +
                      to_string(got.spec.shape())};
      }
      // A gradient is a few calls, each with the terms of this one; differences in double are good
      // to seven digits.
      const double allowed = (8 * (s.allowed.terms + 16) * roundoff(call_.out[0]) + 1e-7) * most;
      for (std::int64_t i = 0; i < slope.size(); ++i) {
        if (!(std::abs(got[i] - slope[i]) <= allowed)) {
          throw failure{"gradient: of argument " + std::to_string(k) + " element " +
                        std::to_string(i) + ": got " + shown(got[i]) + ", differences give " +
                        shown(slope[i]) + ", allowed " + shown(allowed)};
        }
      }
    }
  }

  const device& on_;
  const calls& call_;
  const described& op_;
  const options& options_;
};

/// Runs the samples of one operator in one element type. `second`: null, or another variant.
inline void check_operator(const device& on, const described& op, const calls& call,
                           const calls* second, const options& o, cell& c) {
  sample_list all{c.type, {}};
  op.list(all);
  c.result = verdict::pass;
  c.what.clear();
  for (std::size_t i = 0; i < all.all.size(); ++i) {
    const sample& s = all.all[i];
    if ((o.sample >= 0 && o.sample != static_cast<int>(i)) || (s.second && second == nullptr)) {
      continue;
    }
    ++c.samples;
    try {
      checker(on, s.second ? *second : call, op, o).run(s);
    } catch (const failure& f) {
      ++c.failed;
      if (c.first < 0) {
        c.first = static_cast<int>(i);
        c.what = f.what;
      }
      c.result = verdict::fail;
    } catch (const not_supported& n) {
      c.result = verdict::unsupported;
      c.what = n.what;
      return;
    }
  }
}

}  // namespace detail

}  // namespace ashlar::conformance

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "ashlar/conformance/caller.hpp"
#include "ashlar/conformance/calls.hpp"
#include "ashlar/conformance/compare.hpp"
#include "ashlar/conformance/report.hpp"
#include "ashlar/conformance/sample.hpp"
#include "ashlar/core/error.hpp"

/// The one checker: every form of a sample against its twin, by element type as a value.
namespace ashlar::conformance::detail {

/// Outputs are resized on purpose: nobody needs to hear of it.
class quiet_resizing {
  void (*const before_)(const resize_notice&) = on_resize.exchange(nullptr);

 public:
  quiet_resizing() = default;
  ~quiet_resizing() { on_resize = before_; }
  quiet_resizing(const quiet_resizing&) = delete;
  quiet_resizing& operator=(const quiet_resizing&) = delete;
};

class checker : caller {
 public:
  checker(const device& on, const calls& call, const described& op, const options& o)
      : caller(on, call, o), op_(op) {}

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
        for (std::size_t r = 0; call_.results > 1 && r < call_.results; ++r) {
          if (is_floating(call_.out[r])) {
            gradient(in, values, want, s, r);
          }
        }
        gradient(in, values, want, s, call_.results);
      } catch (const not_supported&) {  // what derivatives call has rows of its own
      }
    }
    over_arguments(in, want, s);
  }

 private:
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
      refuse_unsupported(e);
      throw failure{std::string("functional: must throw an ashlar::error, throws: ") + e.what()};
    }
    throw failure{"functional: accepts arguments that it must refuse"};
  }

  std::vector<array> functional(const std::vector<array>& in, const std::vector<numbers>& want,
                                const sample& s) const {
    handles x = uploaded(in);
    handles y;
    call("functional", call_.functional, x, s.with, y);
    check_geometry(x, s.with, y);
    if (!call_.is_view) {
      overwrite_arguments(in, x, y);
    }
    std::vector<array> first;
    for (std::size_t r = 0; r < call_.results; ++r) {
      first.push_back(result(y[r]));
      compare("functional", first[r], want[r], s.allowed);
    }
    x = uploaded(in);
    call_again("functional, twice", x, s, first);
    untouched("functional", in, x);
    if (options_.same_bits && !call_.is_view) {
      std::vector<array> elsewhere;
      for (const array& a : in) {
        elsewhere.push_back(laid(a, layout::gaps, on_.alignment));
      }
      call_again("functional, strided", uploaded(elsewhere), s, first);
    }
    return first;
  }
  /// Whether the meta chip says of the results what they are.
  void check_geometry(const handles& x, const settings& with, const handles& y) const {
    if (call_.meta == nullptr) {
      return;
    }
    std::vector<tensor_spec> specs;
    try {
      specs = meta(x, with);
    } catch (const std::exception& e) {
      throw failure{std::string("meta: throws: ") + e.what()};
    }
    const auto shown = [](const tensor_spec& spec) {
      return "shape " + to_string(spec.shape()) + " strides " + to_string(spec.strides()) + " " +
             std::string(name_of(spec.type));
    };
    for (std::size_t r = 0; r < call_.results; ++r) {
      if (y[r].spec() != specs[r]) {
        throw failure{"meta: " + shown(specs[r]) + ", the result has " + shown(y[r].spec())};
      }
    }
  }
  /// What reads the arguments must have happened, or happen before this.
  void overwrite_arguments(const std::vector<array>& in, const handles& x, const handles& y) const {
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
  void call_again(const char* name, const handles& x, const sample& s,
                  const std::vector<array>& first) const {
    handles y;
    call("functional", call_.functional, x, s.with, y);
    for (std::size_t r = 0; r < call_.results; ++r) {
      same_bits(name, result(y[r]), first[r]);
    }
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
        compare(name, now, want[r], s.allowed);
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
      compare("out= empty", result(fresh[r]), want[r], s.allowed);
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
      const quiet_resizing here;
      call("out= of another shape", call_.out_form, x, s.with, y);
      for (std::size_t r = 0; r < call_.results; ++r) {
        compare("out= of another shape", result(y[r]), want[r], s.allowed);
      }
      untouched("out= of another shape", wrong, kept);
    }
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
      mine[0] = laid(in[0], how, on_.alignment);
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
      compare(name, now, want[0], s.allowed);
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
      compare(name, now, want[static_cast<std::size_t>(at - call_.written.begin())], s.allowed);
      same_around(name, in[k], now);
    }
  }

  /// An output that lies partly over an argument is refused, or right all the same: what has no
  /// kernel is copied there.
  void over_arguments(const std::vector<array>& in, const std::vector<numbers>& want,
                      const sample& s) const {
    for (std::size_t k = 0; k < in.size() && call_.out_form != nullptr; ++k) {
      for (std::size_t r = 0; r < call_.results; ++r) {
        for (const std::int64_t ahead : {1, -1}) {
          if (call_.in[k] == call_.out[r] && in[k].size() > 1 && want[r].size() + ahead > 0) {
            over_argument(in, want, s, k, r, ahead);
          }
        }
      }
    }
  }
  /// Result `r` begins `ahead` elements behind argument `k`.
  void over_argument(const std::vector<array>& in, const std::vector<numbers>& want,
                     const sample& s, std::size_t k, std::size_t r, std::int64_t ahead) const {
    const std::string name = "out= over argument " + std::to_string(k);
    std::vector<array> mine = in;
    mine[k] = laid(in[k], layout::dense, on_.alignment);
    tensor_spec place = contiguous_spec(call_.out[r], want[r].extents.span());
    place.offset = mine[k].spec.offset + ahead;
    const auto end = static_cast<std::size_t>(place.offset + place.size) * size_of(place.type);
    mine[k].bytes.resize(std::max(mine[k].bytes.size(), end), array::canary(place.type));
    const handles x = uploaded(mine);
    handles to(4);
    for (std::size_t i = 0; i < call_.results; ++i) {
      to[i] =
          i == r
              ? on_.alias(x[k], place)
              : on_.upload(make_array(want[i].extents, call_.out[i], layout::dense, on_.alignment));
    }
    const tensor_handle y = to[r];
    try {
      call_.out_form(x.data(), s.with, to.data());
    } catch (const overlap_error&) {
      return untouched(name.c_str(), mine, x);
    } catch (const std::exception& e) {
      refuse_unsupported(e);
      throw failure{name + ": throws: " + e.what()};
    }
    compare(name, result(y), want[r], s.allowed);
  }

  /// Against central differences of the twin: of result `which`, or of all together where there is
  /// none of that number.
  void gradient(const std::vector<array>& in, std::vector<numbers> values,
                const std::vector<numbers>& want, const sample& s, std::size_t which) const {
    handles all = uploaded(in);
    std::vector<numbers> seed;
    for (std::size_t r = 0; r < call_.results; ++r) {
      seed.emplace_back(want[r].extents);
      all.emplace_back();
      if ((which == r || which == call_.results) && is_floating(call_.out[r])) {
        array weights = make_array(want[r].extents, call_.out[r], layout::dense, on_.alignment);
        for (std::int64_t i = 0; i < want[r].size(); ++i) {  // fixed, so that no error cancels
          weights.set(i, 0.5 + 0.37 * std::sin(1.7 * static_cast<double>(i) + 0.3));
        }
        seed[r] = dense(weights);
        all.back() = on_.upload(weights);
      }
    }
    const std::string name =
        which == call_.results ? "gradient" : "gradient of result " + std::to_string(which);
    handles g;
    g.resize(in.size());
    call(name.c_str(), call_.gradient, all, s.with, g);
    const auto loss = [&] {
      const std::vector<numbers> y = op_.twin({call_.out[0], values, s.with});
      double sum = 0;
      for (std::size_t r = 0; r < seed.size(); ++r) {
        for (std::int64_t i = 0; i < y[r].size(); ++i) {
          sum += seed[r][i] == 0 ? 0.0 : seed[r][i] * y[r][i];
        }
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
        const auto is_zero = [](double x) { return x == 0; };
        if (call_.results > 1 && std::all_of(slope.v.begin(), slope.v.end(), is_zero)) {
          continue;  // nothing depends on it
        }
        throw failure{name + ": of argument " + std::to_string(k) + " there is none"};
      }
      const array got = result(g[k]);
      if (!same_shape(got.spec.shape(), slope.extents.span())) {
        throw failure{name + ": of argument " + std::to_string(k) + " has shape " +
                      to_string(got.spec.shape())};
      }
      // A gradient is a few calls, each with the terms of this one, and rounded in a narrow type;
      // differences in double are good to seven digits.
      const dtype sums = is_narrow_floating(call_.out[0]) ? dtype::float32 : call_.out[0];
      const double own = std::max(roundoff(call_.out[0]), roundoff(call_.in[k]));
      const double allowed = (8 * (s.allowed.terms + 16) * roundoff(sums) +
                              (own > roundoff(sums) ? 8 * own : 0.0) + 1e-7) *
                             most;
      for (std::int64_t i = 0; i < slope.size(); ++i) {
        if (!(std::abs(got[i] - slope[i]) <= allowed)) {
          throw failure{name + ": of argument " + std::to_string(k) + " element " +
                        std::to_string(i) + ": got " + shown(got[i]) + ", differences give " +
                        shown(slope[i]) + ", allowed " + shown(allowed)};
        }
      }
    }
  }

  const described& op_;
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
    } catch (const not_supported& n) {  // of this sample; others may fail
      if (c.result == verdict::pass) {
        c.result = verdict::unsupported;
        c.what = n.what;
      }
    }
  }
}

}  // namespace ashlar::conformance::detail

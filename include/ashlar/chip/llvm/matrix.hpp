// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/rules.hpp"

/// `dot` and `dot_scaled`: vectors along N, sequential in K.
namespace ashlar::chip::llvm_codegen {

/// A tile in the type in which its products add up.
inline std::string as_accumulator(frame& f, int v) {
  const tile::tile_type& type = f.type_of(v);
  const dtype to = tile::detail::accumulator_of(type.element);
  if (to == type.element) {
    return f.array(v);
  }
  std::string wide = f.allocate(to, type.size());
  f.t.parallel(type.size(), f.width(), [&](int lanes, const std::string& i) {
    elements e = f.lanes(lanes);
    const std::string x = e.load(type.element, f.t.at(type.element, f.array(v), i));
    e.store(to, e.cast(type.element, to, tile::rounding::nearest_even, x), f.t.at(to, wide, i));
  });
  f.t.barrier();
  return wide;
}

class dot_writer {
 public:
  dot_writer(frame& f, int at) : f_(f) {
    const bool scaled = f.code.at(at).op == tile::opcode::dot_scaled;
    const tile::tile_type& a = f.type_of(f.code.operand(at, 0));
    const int r = a.rank;
    batch_ = r == 3 ? a.extent(0) : 1;
    rows_ = a.extent(r - 2);
    depth_ = a.extent(r - 1);
    columns_ = f.type_of(at).extent(r - 1);
    d_ = f.type_of(at).element;
    a_ = as_accumulator(f, f.code.operand(at, 0));
    b_ = as_accumulator(f, f.code.operand(at, scaled ? 2 : 1));
  }

  /// `out` may be where c lies.
  void dot(const std::string& c, const std::string& out) {
    if (f_.t.in_teams) {
      return f_.t.parallel(batch_ * rows_ * columns_, 1, [&](int, const std::string& i) {
        const std::string z = f_.t.place(i, rows_ * columns_, batch_, true);
        block(f_.t.place(i, columns_, 0, true), f_.t.mul(z, depth_ * columns_),
              f_.t.place(i, 1, columns_, false), 1, 1, 1, c, out);
      });
    }
    const int width = d_ == dtype::float64 ? std::max(1, f_.width() / 2) : f_.width();
    f_.t.loop(0, batch_, 1, [&](const std::string& z) {
      blocks(rows_, 4, [&](int rows, const std::string& m) {
        columns(width, [&](int lanes, int vectors, const std::string& n) {
          block(f_.t.add(f_.t.mul(z, rows_), m), f_.t.mul(z, depth_ * columns_), n, rows, vectors,
                lanes, c, out);
        });
      });
    });
  }

  void dot_scaled(const std::string& sa, const std::string& sb, const std::string& c,
                  const std::string& out) {
    const std::int64_t groups = depth_ / 32;
    const auto write = [&](int lanes, const std::string& m, const std::string& n) {
      elements e = f_.lanes(lanes);
      const std::string place = f_.t.add(f_.t.mul(m, columns_), n);
      const std::string sum = accumulator(lanes);
      put(e, e.load(d_, f_.t.at(d_, c, place)), sum);
      const std::string group = accumulator(lanes);
      f_.t.loop(0, groups, 1, [&](const std::string& g) {
        put(e, e.number(d_, 0), group);
        f_.t.loop(0, 32, 1, [&](const std::string& k) {
          const std::string kk = f_.t.add(f_.t.mul(g, 32), k);
          const std::string x = one(a_, f_.t.add(f_.t.mul(m, depth_), kk), e);
          const std::string y = e.load(d_, f_.t.at(d_, b_, f_.t.add(f_.t.mul(kk, columns_), n)));
          put(e, e.fma(d_, x, y, get(e, group)), group);
        });
        const std::string scale =
            e.two("fmul", d_, one(sa, f_.t.add(f_.t.mul(m, groups), g), e),
                  e.load(d_, f_.t.at(d_, sb, f_.t.add(f_.t.mul(g, columns_), n))));
        put(e, e.fma(d_, get(e, group), scale, get(e, sum)), sum);
      });
      e.store(d_, get(e, sum), f_.t.at(d_, out, place));
    };
    if (f_.t.in_teams) {
      return f_.t.parallel(rows_ * columns_, 1, [&](int lanes, const std::string& i) {
        write(lanes, f_.t.place(i, columns_, 0, true), f_.t.place(i, 1, columns_, false));
      });
    }
    f_.t.loop(0, rows_, 1, [&](const std::string& m) {
      f_.t.strips(columns_, f_.width(),
                  [&](int lanes, const std::string& n) { write(lanes, m, n); });
    });
  }

 private:
  /// `each(size, first)` over `n`, `size` at a time, then one by one.
  template <class F>
  void blocks(std::int64_t n, int size, F&& each) {
    f_.t.strips(n, size, each);
  }

  /// Two vectors of columns at a time, then one, then single columns.
  template <class F>
  void columns(int width, F&& each) {
    const std::int64_t pairs = columns_ / (2 * width) * (2 * width);
    f_.t.loop(0, pairs, 2 * width, [&](const std::string& n) { each(width, 2, n); });
    f_.t.strips(columns_ - pairs, width, [&](int lanes, const std::string& n) {
      each(lanes, 1, f_.t.add(n, std::to_string(pairs)));
    });
  }

  /// `rows` by `vectors` accumulators, which LLVM keeps in registers.
  void block(const std::string& row, const std::string& b_first, const std::string& n, int rows,
             int vectors, int lanes, const std::string& c, const std::string& out) {
    elements e = f_.lanes(lanes);
    std::vector<std::string> sums;
    std::vector<std::string> places;
    for (int r = 0; r < rows; ++r) {
      const std::string line = f_.t.add(f_.t.mul(f_.t.add(row, std::to_string(r)), columns_), n);
      for (int v = 0; v < vectors; ++v) {
        places.push_back(f_.t.add(line, std::to_string(v * lanes)));
        sums.push_back(accumulator(lanes));
        put(e, e.load(d_, f_.t.at(d_, c, places.back())), sums.back());
      }
    }
    f_.t.loop(0, depth_, 1, [&](const std::string& k) {
      const std::string line = f_.t.add(f_.t.add(b_first, f_.t.mul(k, columns_)), n);
      std::vector<std::string> y;
      for (int v = 0; v < vectors; ++v) {
        y.push_back(e.load(d_, f_.t.at(d_, b_, f_.t.add(line, std::to_string(v * lanes)))));
      }
      for (int r = 0; r < rows; ++r) {
        const std::string x =
            one(a_, f_.t.add(f_.t.mul(f_.t.add(row, std::to_string(r)), depth_), k), e);
        for (int v = 0; v < vectors; ++v) {
          const std::string& sum = sums[static_cast<std::size_t>(r * vectors + v)];
          const std::string& w = y[static_cast<std::size_t>(v)];
          put(e,
              is_floating(d_) ? e.fma(d_, x, w, get(e, sum))
                              : e.two("add", d_, get(e, sum), e.two("mul", d_, x, w)),
              sum);
        }
      }
    });
    for (std::size_t s = 0; s < sums.size(); ++s) {
      e.store(d_, get(e, sums[s]), f_.t.at(d_, out, places[s]));
    }
  }

  std::string accumulator(int lanes) {
    return f_.t.let_in_entry("alloca ", f_.lanes(lanes).type(d_));
  }
  std::string get(elements& e, const std::string& from) {
    return f_.t.let("load ", e.type(d_), ", ptr ", from);
  }
  void put(elements& e, const std::string& x, const std::string& to) {
    f_.t.line("store ", e.type(d_), " ", x, ", ptr ", to);
  }
  /// One element of an array in every lane.
  std::string one(const std::string& array, const std::string& i, elements& e) {
    return e.splat(value_type(d_), f_.lanes(1).load(d_, f_.t.at(d_, array, i)));
  }

  frame& f_;
  std::int64_t batch_ = 1, rows_ = 1, depth_ = 1, columns_ = 1;
  dtype d_ = dtype::float32;
  std::string a_{}, b_{};
};

}  // namespace ashlar::chip::llvm_codegen

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ashlar/chip/llvm/frame.hpp"
#include "ashlar/chip/llvm/group.hpp"
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/program.hpp"

/// `reduce` and `scan`.
namespace ashlar::chip::llvm_codegen {

/// Writes instructions `from` to `to`, which may be any.
using region_writer = std::function<void(int from, int to)>;

class fold_writer {
 public:
  fold_writer(frame& f, int at, const region_writer& write)
      : f_(f), at_(at), count_(f.code.at(at).count), write_(write) {
    const tile::tile_type& type = f.type_of(f.code.operand(at, 0));
    const int axis = f.code.at(at).index;
    n_ = type.extent(axis);
    for (int a = 0; a < type.rank; ++a) {
      (a < axis ? outer_ : inner_) *= a == axis ? 1 : type.extent(a);
    }
    for (int i = begin(); i < end(); ++i) {
      const tile::opcode op = f.code.at(i).op;
      const tile::opcode_kind kind = tile::info(op).kind;
      simple_ = simple_ && f.type_of(i).is_scalar() &&
                (is_elementwise(op) || kind == tile::opcode_kind::leaf);
    }
  }

  /// Whether each thread of a team has the results for itself.
  [[nodiscard]] bool gives_scalars() const {
    return f_.t.in_teams && f_.code.at(at_).op == tile::opcode::reduce &&
           f_.type_of(f_.code.operand(at_, 0)).rank == 1;
  }

  void reduce() {
    const auto lanes = static_cast<int>(std::min<std::int64_t>(n_, 16));
    if (f_.t.in_teams) {
      return reduce_in_team(lanes);
    }
    allocate_results(true);
    f_.t.loop(0, outer_, 1, [&](const std::string& o) {
      if (inner_ == 1 && simple_) {
        return along(o, lanes);
      }
      f_.t.strips(inner_, simple_ ? f_.width() : 1,
                  [&](int width, const std::string& i) { across(o, i, width, lanes); });
    });
  }

  void scan() {
    allocate_results(false);
    const bool back = f_.code.at(at_).value != 0;
    const std::string last = std::to_string((n_ - 1) * inner_);
    const auto row = [&](const std::string& o, int width, const std::string& i) {
      const std::string first = f_.t.add(f_.t.mul(o, n_ * inner_), i);
      const std::vector<std::string> sum = temporaries(width);
      const std::string begins = back ? f_.t.add(first, last) : first;
      for (int k = 0; k < count_; ++k) {
        const std::string from = source(k, begins);
        f_.move(element(k), width, from, sum[u(k)]);
        f_.move(element(k), width, from, result(k, begins));
      }
      f_.t.loop(1, n_, 1, [&](const std::string& e) {
        const std::string step = f_.t.mul(e, inner_);
        const std::string here =
            back ? f_.t.let("sub i64 ", begins, ", ", step) : f_.t.add(begins, step);
        combine(width, sum, sources(here));
        for (int k = 0; k < count_; ++k) {
          f_.move(element(k), width, sum[u(k)], result(k, here));
        }
      });
    };
    if (f_.t.in_teams) {
      expect_simple();
      return f_.t.parallel(outer_ * inner_, 1, [&](int width, const std::string& q) {
        row(f_.t.place(q, inner_, 0, true), width, f_.t.place(q, 1, inner_, false));
      });
    }
    f_.t.loop(0, outer_, 1, [&](const std::string& o) {
      f_.t.strips(inner_, simple_ ? f_.width() : 1,
                  [&](int width, const std::string& i) { row(o, width, i); });
    });
  }

 private:
  static std::size_t u(int k) { return static_cast<std::size_t>(k); }
  [[nodiscard]] dtype element(int k) const { return f_.type_of(f_.code.operand(at_, k)).element; }
  [[nodiscard]] int begin() const { return at_ + 1 + 2 * count_; }
  [[nodiscard]] int end() const { return f_.after(at_) - 1; }

  std::string source(int k, const std::string& i) {
    return f_.t.at(element(k), f_.array(f_.code.operand(at_, k)), i);
  }
  std::string result(int k, const std::string& i) {
    return f_.t.at(element(k), f_.results_of(at_)[u(k)], i);
  }
  std::vector<std::string> sources(const std::string& i) {
    std::vector<std::string> all;
    for (int k = 0; k < count_; ++k) {
      all.push_back(source(k, i));
    }
    return all;
  }
  void allocate_results(bool reduced) {
    for (int k = 0; k < count_; ++k) {
      f_.results_of(at_).push_back(
          f_.allocate(element(k), reduced ? outer_ * inner_ : outer_ * inner_ * n_));
    }
  }
  std::vector<std::string> temporaries(std::int64_t n) {
    std::vector<std::string> all;
    for (int k = 0; k < count_; ++k) {
      all.push_back(f_.allocate_own(element(k), n));
    }
    return all;
  }
  std::vector<std::string> moved(const std::vector<std::string>& all, const std::string& by) {
    std::vector<std::string> there;
    for (int k = 0; k < count_; ++k) {
      there.push_back(f_.t.at(element(k), all[u(k)], by));
    }
    return there;
  }

  /// `a = combine(a, b)` on `lanes` elements that lie at `a` and at `b`.
  void combine(int lanes, const std::vector<std::string>& a, const std::vector<std::string>& b) {
    elements e = f_.lanes(lanes);
    const int yield = end();
    if (!simple_) {
      for (int k = 0; k < 2 * count_; ++k) {
        f_.bind(at_ + 1 + k, k < count_ ? a[u(k)] : b[u(k - count_)]);
      }
      write_(begin(), yield);
      for (int k = 0; k < count_; ++k) {
        e.store(element(k), f_.scalar_of(f_.code.operand(yield, k)), a[u(k)]);
      }
      return;
    }
    element_writer w(f_, lanes);
    for (int k = 0; k < 2 * count_; ++k) {
      w.known[at_ + 1 + k] = e.load(element(k % count_), k < count_ ? a[u(k)] : b[u(k - count_)]);
    }
    for (int i = begin(); i < yield; ++i) {
      const tile::instruction& step = f_.code.at(i);
      if (tile::info(step.op).kind != tile::opcode_kind::leaf ||
          step.op == tile::opcode::constant) {
        w.write(i, {});
      } else {
        write_(i, i + 1);  // a scalar of the launch; it is read from its register
      }
    }
    for (int k = 0; k < count_; ++k) {
      e.store(element(k), w.read(f_.code.operand(yield, k), {}), a[u(k)]);
    }
  }

  /// Pairs of the tree: the first `count` of `lanes` take in those `half` later.
  template <class F>
  static void tree(int lanes, F&& pairs) {
    for (int half = 8; half > 0; half /= 2) {
      if (const int count = std::min(half, lanes - half); count > 0) {
        pairs(half, count);
      }
    }
  }
  /// `count` lanes as powers of two.
  template <class F>
  static void pieces(int count, F&& each) {
    for (int size = 16, first = 0; size > 0; size /= 2) {
      if ((count & size) != 0) {
        each(size, std::to_string(first));
        first += size;
      }
    }
  }

  void expect_simple() const {
    if (!simple_) {
      throw llvm_unsupported(f_.code.at(at_).op, at_,
                             "on nvptx64 its region may hold elementwise operations only");
    }
  }

  /// Whether the same order gives the same bits wherever its brackets stand.
  [[nodiscard]] bool is_associative() const {
    const tile::instruction& step = f_.code.at(begin());
    if (count_ != 1 || end() != begin() + 1 || f_.code.operand(end(), 0) != begin() ||
        step.count != 2 || f_.code.operand(begin(), 0) != at_ + 1 ||
        f_.code.operand(begin(), 1) != at_ + 2) {
      return false;
    }
    switch (step.op) {
      case tile::opcode::max:  // of equal ones the last, of NaN the first
      case tile::opcode::min:
      case tile::opcode::bit_and:
      case tile::opcode::bit_or:
      case tile::opcode::bit_xor:
        return true;
      case tile::opcode::add:
      case tile::opcode::mul:
        return !is_floating(element(0));
      default:
        return false;
    }
  }
  /// Into how many parts one after the other the elements of a lane go, so that more threads work.
  [[nodiscard]] std::int64_t parts(int lanes) const {
    std::int64_t n = 1;
    if (is_associative() && n_ % 16 == 0) {
      while (4 * n * n <= n_ / 16 && n_ / 16 % (2 * n) == 0 &&
             outer_ * inner_ * lanes * 2 * n <= f_.t.threads) {
        n *= 2;
      }
    }
    return n;
  }

  /// Each part of each of the IR's lanes is a thread's; then each lane is, then each result's tree.
  void reduce_in_team(int lanes) {
    expect_simple();
    if (gives_scalars()) {
      f_.results_of(at_) = temporaries(1);
    } else {
      allocate_results(true);
    }
    const std::int64_t split = parts(lanes);
    const std::int64_t rounds = ceil_div(n_ / 16, split);  // of a part, where n_ is above 16
    std::vector<std::string> sums;
    for (int k = 0; k < count_; ++k) {
      sums.push_back(f_.allocate(element(k), outer_ * inner_ * lanes * split));
    }
    f_.t.parallel(outer_ * inner_ * lanes * split, 1, [&](int, const std::string& e) {
      const std::string q = f_.t.place(e, lanes * split, 0, true);
      const std::string first = first_of(q);
      const std::string l = f_.t.place(e, 1, lanes, false);  // neighbours read from other banks
      const std::string begins =
          split == 1 ? l : f_.t.add(l, f_.t.mul(f_.t.place(e, lanes, split, false), 16 * rounds));
      const std::vector<std::string> sum = temporaries(1);
      const std::vector<std::string> from = sources(f_.t.add(first, f_.t.mul(begins, inner_)));
      for (int k = 0; k < count_; ++k) {
        f_.move(element(k), 1, from[u(k)], sum[u(k)]);
      }
      const auto take = [&](const std::string& n) {
        combine(1, sum, sources(f_.t.add(first, f_.t.mul(n, inner_))));
      };
      // Several rounds at once: the elements of the next are on their way while one is added.
      constexpr std::int64_t at_once = 16;
      const std::int64_t more = std::max<std::int64_t>(rounds - 1, 0);
      f_.t.loop(0, more / at_once, 1, [&](const std::string& round) {
        const std::string here = f_.t.add(begins, f_.t.mul(round, 16 * at_once));
        for (std::int64_t k = 1; k <= at_once; ++k) {
          take(f_.t.add(here, std::to_string(16 * k)));
        }
      });
      for (std::int64_t k = more / at_once * at_once; k < more; ++k) {
        take(f_.t.add(begins, std::to_string(16 * (k + 1))));
      }
      if (n_ > 16 && n_ % 16 != 0) {
        f_.t.when(f_.t.let("icmp slt i64 ", l, ", ", n_ % 16),
                  [&] { take(f_.t.add(l, std::to_string(n_ / 16 * 16))); });
      }
      const std::vector<std::string> to = moved(sums, e);
      for (int k = 0; k < count_; ++k) {
        f_.move(element(k), 1, sum[u(k)], to[u(k)]);
      }
    });
    f_.t.barrier();
    if (split > 1) {
      f_.t.parallel(outer_ * inner_ * lanes, 1, [&](int, const std::string& e) {
        const std::string begins = f_.t.mul(f_.t.place(e, lanes, 0, true), lanes * split);
        const std::vector<std::string> lane =
            moved(sums, f_.t.add(begins, f_.t.place(e, 1, lanes, false)));
        const std::vector<std::string> sum = temporaries(1);
        f_.move(element(0), 1, lane[0], sum[0]);
        for (std::int64_t k = 1; k < split; ++k) {
          combine(1, sum, moved(lane, std::to_string(k * lanes)));
        }
        f_.move(element(0), 1, sum[0], lane[0]);
      });
      f_.t.barrier();
    }
    if (gives_scalars()) {  // every thread adds up the lanes, and none waits for another
      const std::vector<std::string> sum = temporaries(lanes);
      for (int k = 0; k < count_; ++k) {
        const int side = 16 / static_cast<int>(size_of(element(k)));
        for (int l = 0; l < lanes; l += side) {
          for (int n = side, at = l; n > 0; n /= 2) {
            if ((std::min(side, lanes - l) & n) != 0) {
              f_.move(element(k), n, f_.t.at(element(k), sums[u(k)], std::to_string(at)),
                      f_.t.at(element(k), sum[u(k)], std::to_string(at)), n, n);
              at += n;
            }
          }
        }
      }
      tree(lanes, [&](int half, int count) {
        for (int l = 0; l < count; ++l) {
          combine(1, moved(sum, std::to_string(l)), moved(sum, std::to_string(l + half)));
        }
      });
      for (int k = 0; k < count_; ++k) {
        f_.move(element(k), 1, sum[u(k)], result(k, "0"));
      }
      return;
    }
    f_.t.parallel(outer_ * inner_, 1, [&](int, const std::string& q) {
      const std::vector<std::string> sum = moved(sums, f_.t.mul(q, lanes * split));
      tree(lanes, [&](int half, int count) {
        for (int l = 0; l < count; ++l) {
          combine(1, moved(sum, std::to_string(l)), moved(sum, std::to_string(l + half)));
        }
      });
      for (int k = 0; k < count_; ++k) {
        f_.move(element(k), 1, sum[u(k)], result(k, q));
      }
    });
  }
  /// The first element that goes into result `q`.
  std::string first_of(const std::string& q) {
    return f_.t.add(f_.t.mul(f_.t.place(q, inner_, 0, true), n_ * inner_),
                    inner_ == 1 ? "0" : f_.t.place(q, 1, inner_, false));
  }

  /// The elements lie one after the other: the IR's lanes are those of a vector.
  void along(const std::string& o, int lanes) {
    const std::string first = f_.t.mul(o, n_);
    const std::vector<std::string> sum = temporaries(lanes);
    for (int k = 0; k < count_; ++k) {
      pieces(lanes, [&](int size, const std::string& l) {
        f_.move(element(k), size, source(k, f_.t.add(first, l)), f_.t.at(element(k), sum[u(k)], l));
      });
    }
    const std::int64_t whole = n_ / 16 * 16;
    f_.t.loop(16, whole, 16,
              [&](const std::string& e) { combine(16, sum, sources(f_.t.add(first, e))); });
    if (n_ > 16) {
      const std::string rest = f_.t.add(first, std::to_string(whole));
      pieces(static_cast<int>(n_ - whole), [&](int size, const std::string& l) {
        combine(size, moved(sum, l), sources(f_.t.add(rest, l)));
      });
    }
    tree(lanes, [&](int half, int count) {
      pieces(count, [&](int size, const std::string& l) {
        combine(size, moved(sum, l), moved(sum, f_.t.add(l, std::to_string(half))));
      });
    });
    for (int k = 0; k < count_; ++k) {
      f_.move(element(k), 1, sum[u(k)], result(k, o));
    }
  }

  /// `width` reductions next to each other; the IR's lanes lie one after the other in memory.
  void across(const std::string& o, const std::string& i, int width, int lanes) {
    const std::string first = f_.t.add(f_.t.mul(o, n_ * inner_), i);
    const std::vector<std::string> sum = temporaries(std::int64_t{lanes} * width);
    const auto lane = [&](const std::string& l) { return moved(sum, f_.t.mul(l, width)); };
    f_.t.loop(0, lanes, 1, [&](const std::string& l) {
      const std::string from = f_.t.add(first, f_.t.mul(l, inner_));
      const std::vector<std::string> to = lane(l);
      for (int k = 0; k < count_; ++k) {
        f_.move(element(k), width, source(k, from), to[u(k)]);
      }
    });
    f_.t.loop(lanes, n_, 1, [&](const std::string& e) {
      const std::string l =
          e[0] == '%' ? f_.t.let("and i64 ", e, ", 15") : std::to_string(std::stoll(e) % 16);
      combine(width, lane(l), sources(f_.t.add(first, f_.t.mul(e, inner_))));
    });
    tree(lanes, [&](int half, int count) {
      f_.t.loop(0, count, 1, [&](const std::string& l) {
        combine(width, lane(l), lane(f_.t.add(l, std::to_string(half))));
      });
    });
    for (int k = 0; k < count_; ++k) {
      f_.move(element(k), width, sum[u(k)], result(k, f_.t.add(f_.t.mul(o, inner_), i)));
    }
  }

  frame& f_;
  int at_;
  int count_;
  const region_writer& write_;
  std::int64_t outer_ = 1, n_ = 1, inner_ = 1;
  bool simple_ = true;
};

}  // namespace ashlar::chip::llvm_codegen

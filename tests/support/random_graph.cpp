// SPDX-License-Identifier: Apache-2.0
#include "support/random_graph.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <tuple>
#include <utility>

#include "ashlar/core/geometry.hpp"
#include "ashlar/core/overlap.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/ops/activation.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/creation.hpp"
#include "ashlar/ops/cumsum.hpp"
#include "ashlar/ops/math.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/random.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/softmax.hpp"
#include "ashlar/ops/views.hpp"

namespace ashlar::testing {
namespace {

using host_keys = make_key_set<keys::backend<chip::host>>;
// Outside of a capture these are called as any other, so one set of kernels serves both runs.
using floats = graph::capturable<tensor<float, host_keys>>;
using whole = graph::capturable<tensor<std::int32_t, host_keys>>;
using truths = graph::capturable<tensor<bool, host_keys>>;

constexpr std::int64_t most_elements = 600;

/// Numbers below a bound, the same on every machine.
class dice {
 public:
  explicit dice(std::uint64_t seed) : engine_(seed) {}
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(n));
  }
  template <class List>
  auto& of(List& list) {
    return list[static_cast<std::size_t>(below(static_cast<std::int64_t>(list.size())))];
  }

 private:
  std::mt19937_64 engine_;
};

bool broadcasts(const tensor_handle& a, const tensor_handle& b) {
  std::int64_t size = 1;
  for (int i = 1; i <= std::max(a.rank(), b.rank()); ++i) {
    const std::int64_t m = i <= a.rank() ? a.extent(-i) : 1;
    const std::int64_t n = i <= b.rank() ? b.extent(-i) : 1;
    if (m != n && m != 1 && n != 1) {
      return false;
    }
    size *= m == 1 ? n : m;
  }
  return size <= most_elements;
}
bool broadcasts_to(const tensor_handle& a, const tensor_handle& to) {
  return a.rank() <= to.rank() && broadcasts(a, to) &&
         same_shape(broadcast("to", a.spec(), to.spec()), to.spec());
}
bool apart(const tensor_handle& a, const tensor_handle& b) {
  return &a.body()->root() != &b.body()->root() || !geometry::may_overlap(a.spec(), b.spec());
}
bool may_change(const tensor_handle& x) { return !geometry::repeats_elements(x.spec()); }

/// The values of a random function, and the calls that make more of them.
struct program {
  dice roll;
  random_graph_options how;
  std::vector<floats> f;
  std::vector<whole> n;
  std::vector<truths> b;

  template <class X>
  const X& one_like(std::vector<X>& list, const X& x) {
    const X& y = roll.of(list);
    return broadcasts(x, y) ? y : x;
  }
  std::int64_t axis(const tensor_handle& x) { return roll.below(2 * x.rank()) - x.rank(); }
  double number() {
    constexpr std::array numbers{0.0, -0.0, 1.0, -1.0, 0.5, 3.0};
    return roll.of(numbers);
  }

  floats unary(const floats& x) {
    switch (roll.below(16)) {
      case 0:
        return neg(x);
      case 1:
        return abs(x);
      case 2:
        return square(x);
      case 3:
        return relu(x);
      case 4:
        return exp(x);
      case 5:
        return tanh(x);
      case 6:
        return scale(x, number(), number());
      case 7:
        return neg(neg(x));
      case 8:
        return gelu(x);
      case 9:
        return clone(x);
      case 10:
        return cast<float>(x);
      case 11:
        return mul(x, ones<floats>({}));
      case 12:
        return add(x, full<floats>({1}, number()));
      default:  // of few values, so that there are equal calls, with writes between some
        return neg(f[static_cast<std::size_t>(roll.below(3))]);
    }
  }
  floats binary(const floats& x) {
    const floats y = one_like(f, x);
    switch (roll.below(7)) {
      case 0:
        return add(x, y);
      case 1:
        return sub(x, y);
      case 2:
        return mul(x, y);
      case 3:
        return div(x, y);
      case 4:
        return maximum(x, y);
      case 5:
        return add(mul(x, y), x);
      default:
        return copy(x, broadcasts_to(y, x) ? y : x);
    }
  }
  floats reduced(const floats& x) {
    if (x.rank() == 0 || roll.below(5) == 0) {
      return sum(x);
    }
    const bool keep = roll.below(2) == 0;
    switch (roll.below(5)) {
      case 0:
        return sum(x, axis(x), keep);
      case 1:
        return mean(x, axis(x), keep);
      case 2:
        return x.size() > 0 ? max(x, axis(x), keep) : sum(x, axis(x), keep);
      case 3:
        return cumsum(x, axis(x));
      default:
        return softmax(x, axis(x));
    }
  }
  floats joined(const floats& x) {
    if (x.rank() == 0 || x.size() > most_elements / 2) {
      return x;
    }
    return cat(x, relu(x), axis(x));
  }
  floats product(const floats& x) {
    if (x.rank() != 2) {
      return square(x);
    }
    for (int tries = 0; tries < 8; ++tries) {
      const floats& y = roll.of(f);
      if (y.rank() == 2 && y.extent(0) == x.extent(1)) {
        return matmul(x, y);
      }
    }
    return matmul(x, transpose(x));
  }
  floats made() {
    const std::int64_t m = roll.of(f).size() % 5;
    switch (roll.below(4)) {
      case 0:
        return arange<floats>(m, 0.5, 2.0);
      case 1:
        return rand<floats>({m}, static_cast<std::uint64_t>(roll.below(3)));
      case 2:
        return full<floats>({m, 1}, number());
      default:
        return zeros<floats>({1, m});
    }
  }
  template <class X>
  X looked_at(const X& x) {
    if (x.rank() == 0) {
      return unsqueeze(x, 0);
    }
    const std::int64_t a = axis(x);
    const std::int64_t extent = x.extent(static_cast<int>(a));
    switch (roll.below(9)) {
      case 0:
        return slice(x, a, roll.below(3), extent + 1 - roll.below(3), 1 + roll.below(3));
      case 1:
        return extent > 0 ? select(x, a, roll.below(extent)) : transpose(x, a, 0);
      case 2:
        return transpose(x, a, axis(x));
      case 3: {
        shape order;
        for (int i = 0; i < x.rank(); ++i) {
          order.push_back((i + 1) % x.rank());
        }
        return permute(x, order);
      }
      case 4:
        if (x.rank() < 4 && x.size() <= most_elements / 3) {
          shape to(x.shape());
          shape wide{roll.below(2) == 0 ? 3 : 1};
          for (const std::int64_t e : to) {
            wide.push_back(e);
          }
          return expand(x, wide);
        }
        return x;
      case 5:
        return extent == 1 ? squeeze(x, a) : x;
      case 6:
        return x.rank() < 4 ? unsqueeze(x, a) : x;
      case 7:
        return reshape(x, shape{x.size()});
      default: {
        shape to;
        for (int i = x.rank() - 1; i >= 0; --i) {
          to.push_back(x.extent(i));
        }
        return reshape(x, to);
      }
    }
  }
  void decide(const floats& x) {
    const floats y = one_like(f, x);
    switch (roll.below(3)) {
      case 0:
        return b.push_back(lt(x, y));
      case 1:
        return b.push_back(eq(x, y));
      default:
        return b.push_back(cast<bool>(x));
    }
  }
  void count() {
    const whole x = roll.of(n);
    const whole y = one_like(n, x);
    switch (roll.below(7)) {
      case 0:
        return n.push_back(add(x, y));
      case 1:
        return n.push_back(mul(x, full<whole>({}, number())));
      case 2:
        return n.push_back(neg(neg(x)));
      case 3:
        return n.push_back(scale(x, number(), number()));
      case 4:
        return n.push_back(cast<std::int32_t>(roll.of(f)));
      case 5:
        return f.push_back(cast<float>(x));
      default:
        return n.push_back(add(x, zeros<whole>({1})));
    }
  }
  void choose(const floats& x) {
    const floats y = one_like(f, x);
    const truths& c = roll.of(b);
    if (broadcasts(x, y) && broadcasts(c, x) && broadcasts(c, y) &&
        broadcast("where", c.spec(), broadcast("where", x.spec(), y.spec())).size <=
            most_elements) {
      f.push_back(where(c, x, y));
    } else {
      b.push_back(logical_not(c));
    }
  }
  template <class X>
  void change(std::vector<X>& list) {
    X x = roll.of(list);
    if (!may_change(x)) {
      return;
    }
    const X y = roll.of(list);
    const bool fits = broadcasts_to(y, x) && (apart(x, y) || x.spec() == y.spec());
    switch (roll.below(7)) {
      case 0:
        fill.in_place(x, number());
        return;
      case 1:
        scale.in_place(x, 0.5, number());
        return;
      case 2:
        relu.in_place(x);
        return;
      case 3:
        if (fits) {
          add.in_place(x, y);
        }
        return;
      case 4:
        if (broadcasts_to(y, x) && apart(x, y)) {
          copy.in_place(x, y);
        }
        return;
      case 5:
        if (same_shape(y.spec(), x.spec()) && apart(x, y)) {
          neg.out(x, y);
        }
        return;
      default:
        if (fits) {
          mul.in_place(x, y);
        }
    }
  }
  void step() {
    const floats x = roll.of(f);
    switch (roll.below(13)) {
      case 0:
      case 1:
        return f.push_back(unary(x));
      case 2:
      case 3:
        return f.push_back(binary(x));
      case 4:
        return f.push_back(reduced(x));
      case 5:
        return f.push_back(roll.below(2) == 0 ? joined(x) : made());
      case 6:
        return f.push_back(how.products ? product(x) : unary(x));
      case 7:
      case 8:
        if (!how.views) {
          return f.push_back(unary(x));
        }
        return how.integers && roll.below(4) == 0 ? n.push_back(looked_at(roll.of(n)))
                                                  : f.push_back(looked_at(x));
      case 9:
        if (!how.integers) {
          return f.push_back(binary(x));
        }
        return roll.below(3) != 0 ? count() : decide(x);
      case 10:
        return how.integers ? choose(x) : f.push_back(binary(x));
      default:
        if (!how.in_place) {
          return f.push_back(unary(x));
        }
        return how.integers && roll.below(4) == 0 ? change(n) : change(f);
    }
  }
};

using results = std::tuple<std::vector<floats>, std::vector<whole>, std::vector<truths>>;

results calls(std::uint64_t seed, const random_graph_options& how, std::vector<floats> f, whole n,
              truths b) {
  program p{dice(seed), how, std::move(f), {std::move(n)}, {std::move(b)}};
  for (int i = 0; i < how.calls; ++i) {
    p.step();
  }
  results last;
  const std::size_t newest = p.f.size() - 1;
  std::get<0>(last).push_back(p.f[newest]);
  std::get<0>(last).push_back(p.roll.of(p.f));
  std::get<0>(last).push_back(p.roll.of(p.f));
  if (how.integers) {
    std::get<1>(last).push_back(p.n.back());
    std::get<2>(last).push_back(p.b.back());
  }
  return last;
}

std::size_t bytes_in(const tensor_handle& x) {
  return static_cast<std::size_t>(x.size()) * size_of(x.spec().type);
}
tensor_handle copy_of(const tensor_handle& x) {
  switch (x.spec().type) {
    case dtype::float32:
      return clone(floats(x));
    case dtype::int32:
      return clone(whole(x));
    default:
      return clone(truths(x));
  }
}

}  // namespace

random_graph::random_graph(std::uint64_t seed, const random_graph_options& options)
    : seed_(seed), options_(options) {
  dice roll(~seed);
  constexpr std::array<std::int64_t, 11> sizes{2, 3, 5, 7, 1, 2, 3, 5, 7, 1, 0};
  const auto extent = [&] { return std::min(roll.of(sizes), options.most); };
  const std::int64_t m = extent();
  const std::int64_t k = extent();
  const std::array<shape, 5> shapes{shape{m, k}, shape{k}, shape{k, m}, shape{m, 1},
                                    shape{2, m, k}};
  const auto random = [&](std::uint64_t which) {
    return randn<floats>(roll.of(shapes), seed, 1000 * which);
  };
  arguments_ = {random(1), random(2), cast<std::int32_t>(scale(random(3), 4.0)),
                cast<bool>(relu(random(4)))};
  parameters_ = {random(5), random(6)};
  for (const tensor_handle& x : parameters_) {
    const std::byte* const elements = x.bytes();
    first_.emplace_back(elements, elements + bytes_in(x));
  }
  captured = graph::capture(
      [&](const floats& x, const floats& y, const whole& n, const truths& b) {
        return calls(seed_, options_, {x, y, floats(parameters_[0]), floats(parameters_[1])}, n, b);
      },
      floats(arguments_[0]), floats(arguments_[1]), whole(arguments_[2]), truths(arguments_[3]));
}

std::vector<tensor_handle> random_graph::arguments() const {
  std::vector<tensor_handle> copies;
  for (const tensor_handle& x : arguments_) {
    copies.push_back(copy_of(x));
  }
  return copies;
}

void random_graph::reset() const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!first_[i].empty()) {
      std::memcpy(parameters_[i].bytes(), first_[i].data(), first_[i].size());
    }
  }
}

run_result random_graph::look_at(const std::vector<tensor_handle>& results_of,
                                 const std::vector<tensor_handle>& given) const {
  run_result left;
  for (const auto* list : {&results_of, &given, &parameters_}) {
    for (const tensor_handle& x : *list) {
      left.push_back(bits_of(x));
    }
  }
  return left;
}

run_result random_graph::run(const graph::graph& g) const {
  reset();
  const std::vector<tensor_handle> given = arguments();
  return look_at(graph::eager{}.compile(g)(std::span(given)), given);
}

run_result random_graph::run_eagerly() const {
  reset();
  const std::vector<tensor_handle> given = arguments();
  const results last =
      calls(seed_, options_,
            {floats(given[0]), floats(given[1]), floats(parameters_[0]), floats(parameters_[1])},
            whole(given[2]), truths(given[3]));
  std::vector<tensor_handle> all;
  std::apply([&](const auto&... list) { (all.insert(all.end(), list.begin(), list.end()), ...); },
             last);
  return look_at(all, given);
}

left_tensor bits_of(const tensor_handle& x) {
  const tensor_handle dense = copy_of(x);
  left_tensor left{std::string(name_of(x.spec().type)) + to_string(x.shape()), {}};
  left.elements.assign(dense.bytes(), dense.bytes() + bytes_in(dense));
  if (x.spec().type == dtype::float32) {
    // Which NaN comes of two depends on the order of operands, which is the compiler's choice.
    for (std::size_t i = 0; i < left.elements.size(); i += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, &left.elements[i], sizeof(float));
      if (std::isnan(value)) {
        std::memset(&left.elements[i], 0xff, sizeof(float));
      }
    }
  }
  return left;
}

}  // namespace ashlar::testing

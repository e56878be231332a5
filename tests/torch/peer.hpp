// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/ATen.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "ashlar/autograd.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/ops.hpp"

/// The same inputs for this library and for LibTorch, and the comparison of what comes out.
namespace peer {

namespace al = ashlar;

using tape_keys = al::make_key_set<al::keys::autograd, al::keys::backend<al::chip::host>>;
template <class T>
using leaf = al::tensor<T, tape_keys>;
template <class T>
using plain = al::tensor<T, al::make_key_set<al::keys::backend<al::chip::host>>>;

template <class T>
using ours_function = std::function<leaf<T>(std::span<const leaf<T>>)>;
using theirs_function = std::function<at::Tensor(const std::vector<at::Tensor>&)>;
using generator = std::mt19937;

inline at::IntArrayRef sizes(const al::shape& s) { return {s.span().data(), s.span().size()}; }

/// A row-major copy with the same elements.
template <al::Tensor X>
at::Tensor copied(const X& x) {
  using T = typename X::value_type;
  const X dense = al::contiguous(x);
  const at::Tensor y = at::empty(sizes(al::shape(x.shape())), c10::CppTypeToScalarType<T>::value);
  if (x.size() > 0) {
    std::memcpy(y.data_ptr(), dense.data(), static_cast<std::size_t>(x.size()) * sizeof(T));
  }
  return y;
}

/// Rotary positions from `first` on, in the element type of `x`, which is (..., T, H, Dh).
inline at::Tensor rotated(const at::Tensor& x, std::int64_t first, double theta, bool interleaved) {
  const auto half = x.size(-1) / 2;
  const auto wide = at::TensorOptions(at::kDouble);
  const at::Tensor turns =
      at::pow(at::scalar_tensor(theta, wide),
              at::arange(half, wide) * (-2.0 / static_cast<double>(x.size(-1))));
  const at::Tensor angle = at::outer(at::arange(x.size(-3), wide) + first, turns).unsqueeze(1);
  const at::Tensor c = at::cos(angle).to(x.scalar_type());
  const at::Tensor s = at::sin(angle).to(x.scalar_type());
  const auto end = x.size(-1);
  const at::Tensor a = interleaved ? x.slice(-1, 0, end, 2) : x.slice(-1, 0, half);
  const at::Tensor b = interleaved ? x.slice(-1, 1, end, 2) : x.slice(-1, half, end);
  const at::Tensor p = a * c - b * s;
  const at::Tensor q = a * s + b * c;
  return interleaved ? at::stack({p, q}, -1).flatten(-2) : at::cat({p, q}, -1);
}

// ---- inputs -------------------------------------------------------------------------------------

/// What elements are made of a number in [-1, 1).
using values = double (*)(double);
inline double any_value(double u) { return 2 * u; }
inline double positive(double u) { return 1.1 + u; }
inline double whole(double u) { return std::floor(2.5 * u); }  // with many ties

template <class X>
X random_tensor(const al::shape& s, generator& bits, values make = any_value) {
  X x = al::empty<X>(s);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] =
        static_cast<typename X::value_type>(make(static_cast<double>(bits()) / 2147483648.0 - 1));
  }
  return x;
}

/// A leaf in both libraries, and the same look at it.
template <class T>
struct input {
  leaf<T> base, look;
  at::Tensor their_base, their_look;
  std::string layout = "dense";

  input(const al::shape& s, values make, generator& bits) {
    const int rank = s.rank();
    const auto kind = rank == 0 ? 0 : bits() % 5;
    al::shape stored = s;
    al::shape order;
    if (kind == 1) {
      for (int i = 0; i < rank; ++i) {
        stored[i] = s[rank - 1 - i];
        order.push_back(rank - 1 - i);
      }
    } else if (kind == 2) {
      stored[rank - 1] = 2 * s[rank - 1] + 1;
    } else if (kind == 3) {
      stored[0] = 1;
    }
    base = random_tensor<leaf<T>>(stored, bits, make);
    al::require_grad(base);
    their_base = copied(base).requires_grad_();
    look = base;
    their_look = their_base;
    if (kind == 1) {
      layout = "transposed";
      look = al::permute(base, order);
      their_look = their_base.permute(sizes(order));
    } else if (kind == 2) {
      layout = "sliced";
      look = al::slice(base, -1, 1, stored[rank - 1], 2);
      their_look = their_base.slice(-1, 1, stored[rank - 1], 2);
    } else if (kind == 3) {
      layout = "expanded";
      look = al::expand(base, s);
      their_look = their_base.expand(sizes(s));
    }
  }
};

// ---- shapes -------------------------------------------------------------------------------------

using shapes = std::vector<al::shape>;
using shape_source = std::function<shapes(generator&)>;

inline std::int64_t extent(generator& bits, bool empty = true) {
  constexpr std::int64_t choices[]{1, 1, 2, 3, 5, 7, 16, 17, 33, 0};
  return choices[bits() % (empty ? 10 : 9)];
}
inline al::shape random_shape(generator& bits, int least_rank = 0, bool empty = true) {
  al::shape s;
  std::int64_t size = 1;
  for (int left = least_rank + static_cast<int>(bits() % (5u - static_cast<unsigned>(least_rank)));
       left > 0; --left) {
    const std::int64_t n = size > 2000 ? 1 : extent(bits, empty);
    size *= std::max<std::int64_t>(n, 1);
    s.push_back(n);
  }
  return s;
}
/// `count` times the same shape.
inline shape_source alike(std::size_t count, int least_rank = 0, bool empty = true) {
  return [=](generator& bits) { return shapes(count, random_shape(bits, least_rank, empty)); };
}
/// Shapes that broadcast to one.
inline shape_source broadcasting(std::size_t count) {
  return [=](generator& bits) {
    const al::shape to = random_shape(bits);
    shapes all;
    for (std::size_t i = 0; i < count; ++i) {
      const int dropped = to.rank() > 0 && bits() % 3 == 0 ? static_cast<int>(bits() % 3) : 0;
      al::shape s;
      for (int axis = std::min(dropped, to.rank()); axis < to.rank(); ++axis) {
        s.push_back(bits() % 4 == 0 ? 1 : to[axis]);
      }
      all.push_back(s);
    }
    return all;
  };
}

// ---- comparison ---------------------------------------------------------------------------------

/// Whether each element differs by at most `relative` times its size, the mean size of all and
/// `size`, that of the terms which it is the difference of.
template <class X>
void compare(const std::string& what, const X& x, const at::Tensor& y, double relative,
             double size = 0) {
  using T = typename X::value_type;
  REQUIRE_MESSAGE(x, what, ": no tensor");
  REQUIRE_MESSAGE(y.defined(), what, ": LibTorch has none");
  REQUIRE_MESSAGE(std::ranges::equal(x.shape(), y.sizes()), what, ": shape ",
                  al::to_string(x.shape()));
  const bool same_type = y.scalar_type() == c10::CppTypeToScalarType<T>::value;
  REQUIRE_MESSAGE(same_type, what, ": element type");
  const auto a = al::to_vector(x);
  const at::Tensor dense = y.detach().to(at::kDouble).contiguous();
  const std::span b(dense.data_ptr<double>(), static_cast<std::size_t>(dense.numel()));
  double mean = 0;
  for (const double v : b) {
    mean += std::isfinite(v) ? std::abs(v) / static_cast<double>(b.size()) : 0.0;
  }
  for (std::size_t i = 0; i < b.size(); ++i) {
    const auto v = static_cast<double>(a[i]);
    const bool same = v == b[i] || (std::isnan(v) && std::isnan(b[i])) ||
                      std::abs(v - b[i]) <= relative * (std::abs(b[i]) + mean + size);
    if (!same) {
      FAIL_CHECK(what, ", shape ", al::to_string(x.shape()), ", element ", i, ": ", v,
                 ", LibTorch has ", b[i]);
      return;
    }
  }
}

struct settings {
  values make = any_value;
  bool twice = false;  ///< compare the gradients of the gradients too
  int rounds = 16;
  double size = 0;  ///< of the terms whose differences are compared; inputs are about 1
  // A function is within some units in the last place of either library's, sums of a few hundred
  // terms are formed in another order, and gradients pass through a few of both.
  double relative32 = 1e-5;
  double relative64 = 1e-12;
};

template <class T>
leaf<T> weighted_sum(const leaf<T>& x, generator& bits) {
  return al::sum(al::mul(x, random_tensor<leaf<T>>(al::shape(x.shape()), bits)));
}

/// The gradients of `y` with respect to all bases, recorded.
template <class T>
std::vector<leaf<T>> recorded_gradients(const leaf<T>& y, const leaf<T>& seed,
                                        const std::vector<input<T>>& in) {
  const al::backward_options recorded{.create_graph = true};
  if (in.size() == 1) {
    return {std::get<0>(al::grad(y, seed, recorded, in[0].base))};
  }
  const auto both = al::grad(y, seed, recorded, in[0].base, in[1].base);
  return {std::get<0>(both), std::get<1>(both)};
}

/// A gradient, where there is none zeros.
template <class T>
void compare_gradient(const std::string& what, const input<T>& in, double relative, double size) {
  leaf<T> g = al::gradient(in.base);
  at::Tensor theirs = in.their_base.grad();
  if (!g) {
    g = al::zeros<leaf<T>>(al::shape(in.base.shape()));
  }
  if (!theirs.defined()) {
    theirs = at::zeros_like(in.their_base);
  }
  compare(what, g, theirs, relative, size);
}

template <class T>
void check_twice(const std::string& what, const std::vector<input<T>>& in, const leaf<T>& y,
                 const at::Tensor& z, const leaf<T>& seed, double relative, double size) {
  const generator start(7);
  generator bits = start;
  leaf<T> total;
  for (const leaf<T>& g : recorded_gradients(y, seed, in)) {
    const leaf<T> part = weighted_sum(g, bits);
    total = total ? al::add(total, part) : part;
  }
  std::vector<at::Tensor> bases;
  for (const auto& one : in) {
    bases.push_back(one.their_base);
  }
  const auto theirs = torch::autograd::grad({z}, bases, {copied(seed)}, true, true);
  bits = start;
  at::Tensor their_total;
  for (const at::Tensor& g : theirs) {
    const auto weights =
        random_tensor<leaf<T>>(al::shape({g.sizes().data(), g.sizes().size()}), bits);
    const at::Tensor part = at::sum(g * copied(weights));
    their_total = their_total.defined() ? their_total + part : part;
  }
  compare(what + ": gradients", total, their_total, relative, size);
  if (!al::requires_grad(total) || !their_total.requires_grad()) {
    return;
  }
  al::backward(total, al::backward_options{.retain_graph = true});
  their_total.backward({}, true);
  for (std::size_t i = 0; i < in.size(); ++i) {
    compare_gradient(what + ": second gradient of input " + std::to_string(i), in[i], relative,
                     size);
    al::gradient(in[i].base) = {};
    in[i].their_base.mutable_grad() = at::Tensor();
  }
}

template <class T>
void check_type(const std::string& name, const shape_source& source, const ours_function<T>& ours,
                const theirs_function& theirs, const settings& s) {
  const double relative = sizeof(T) == 4 ? s.relative32 : s.relative64;
  generator bits(static_cast<unsigned>(std::hash<std::string>{}(name)));
  for (int round = 0; round < s.rounds; ++round) {
    std::vector<input<T>> in;
    std::vector<leaf<T>> x;
    std::vector<at::Tensor> y;
    std::string what = name + (sizeof(T) == 4 ? " float" : " double");
    for (const al::shape& extents : source(bits)) {
      in.emplace_back(extents, s.make, bits);
      x.push_back(in.back().look);
      y.push_back(in.back().their_look);
      what += " " + al::to_string(extents.span()) + " " + in.back().layout;
    }
    const leaf<T> result = ours(x);
    const at::Tensor wanted = theirs(y);
    compare(what, result, wanted, relative, s.size);
    if (!al::requires_grad(result) || !wanted.requires_grad()) {
      CHECK_MESSAGE(al::requires_grad(result) == wanted.requires_grad(), what);
      continue;
    }
    const auto seed = random_tensor<leaf<T>>(al::shape(result.shape()), bits);
    if (s.twice) {
      check_twice(what, in, result, wanted, seed, 10 * relative, s.size);
    }
    al::backward(result, seed);
    wanted.backward(copied(seed));
    for (std::size_t i = 0; i < in.size(); ++i) {
      compare_gradient(what + ": gradient of input " + std::to_string(i), in[i], relative, s.size);
    }
  }
}

/// Compares values and gradients of a function on random shapes and layouts, float and double.
///
/// `ours` takes a span of tensors, `theirs` a vector of LibTorch's.
template <class Ours>
void check(const std::string& name, const shape_source& source, const Ours& ours,
           const theirs_function& theirs, const settings& s = {}) {
  check_type<float>(name, source, ours, theirs, s);
  check_type<double>(name, source, ours, theirs, s);
}

}  // namespace peer

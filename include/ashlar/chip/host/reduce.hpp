// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "ashlar/chip/host/copy.hpp"
#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/view.hpp"

/// Reductions over any set of axes.
///
/// The order of every reduction is fixed: the elements of one output, counted in row-major order
/// over the reduced axes, go to sixteen partial results by their number modulo 16; every 4096
/// elements the partial results are folded into a second set of sixteen; the sixteen are combined
/// by the tree of `simd::sum`. Strides, the other axes and threads do not change a bit of it.
namespace ashlar::chip::host_kernels {

/// A set of axes: bit `i` stands for axis `i`.
using axis_set = std::uint32_t;

constexpr axis_set all_axes(int rank) { return (axis_set{1} << rank) - 1u; }

namespace detail {

struct sum_step {
  template <class C>
  static constexpr C identity = C(0);
  template <class V>
  ASHLAR_INLINE static V step(const V& acc, const V& x) {
    return acc + x;
  }
  template <class V>
  ASHLAR_INLINE static V combine(const V& a, const V& b) {
    return a + b;
  }
};

struct sum_squares_step : sum_step {
  template <class V>
  ASHLAR_INLINE static V step(const V& acc, const V& x) {
    return simd::madd(x, x, acc);
  }
};

struct max_step {
  template <class C>
  static constexpr C identity =
      std::numeric_limits<C>::has_infinity ? -std::numeric_limits<C>::infinity()
                                           : std::numeric_limits<C>::lowest();
  template <class V>
  ASHLAR_INLINE static V step(const V& acc, const V& x) {
    if constexpr (std::integral<V>) {
      return std::max(acc, x);
    } else {
      return simd::max(acc, x);
    }
  }
  template <class V>
  ASHLAR_INLINE static V combine(const V& a, const V& b) {
    return step(a, b);
  }
};

struct min_step {
  template <class C>
  static constexpr C identity =
      std::numeric_limits<C>::has_infinity ? std::numeric_limits<C>::infinity()
                                           : std::numeric_limits<C>::max();
  template <class V>
  ASHLAR_INLINE static V step(const V& acc, const V& x) {
    if constexpr (std::integral<V>) {
      return std::min(acc, x);
    } else {
      return simd::min(acc, x);
    }
  }
  template <class V>
  ASHLAR_INLINE static V combine(const V& a, const V& b) {
    return step(a, b);
  }
};

/// The loops over what stays (operand 0: input) and over what is reduced.
struct reduction {
  loop_nest<1> kept;
  loop_nest<1> reduced;

  reduction(const tensor_spec& in, axis_set axes) {
    for (int i = 0; i < in.rank; ++i) {
      loop_nest<1>& nest = (axes >> i & 1u) != 0u ? reduced : kept;
      nest.size *= in[i];
      nest.push(in[i], {in.stride_of(i)});
    }
    kept.close();
    reduced.close();
  }
};

/// Elements after which the sixteen partial results are folded away.
inline constexpr std::int64_t fold_length = 4096;

/// Combines the lanes by the tree of `simd::sum`.
template <class Step, class C>
C combine_lanes(const simd::vec<C>& v) {
  alignas(64) C buffer[lanes];
  simd::store(buffer, v);
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      buffer[i] = Step::combine(buffer[i], buffer[i + half]);
    }
  }
  return buffer[0];
}

/// Reduces what lies on one run, `stride` apart.
template <class Step, class C, class S>
C reduce_run(const S* in, std::int64_t stride, std::int64_t n) {
  const simd::vec<C> none = simd::broadcast(Step::template identity<C>);
  simd::vec<C> total = none;
  for (std::int64_t fold = 0; fold < n; fold += fold_length) {
    const std::int64_t end = std::min(fold + fold_length, n);
    simd::vec<C> acc = none;
    std::int64_t i = fold;
    for (; i + lanes <= end; i += lanes) {
      acc = Step::step(acc, get<C>(in + i * stride, stride, lanes));
    }
    if (i < end) {
      const auto m = static_cast<int>(end - i);
      // Lanes beyond the end keep the identity: under `step` too, whatever it does to elements.
      acc = Step::step(acc, get<C>(in + i * stride, stride, m, Step::template identity<C>));
    }
    total = Step::combine(total, acc);
  }
  return combine_lanes<Step>(total);
}

/// Reduces what lies on several runs, as if it were on one.
template <class Step, class C, class S>
C reduce_runs(const S* in, const loop_nest<1>& nest) {
  const simd::vec<C> none = simd::broadcast(Step::template identity<C>);
  const std::int64_t stride = nest.inner_stride()[0];
  simd::vec<C> total = none;
  simd::vec<C> acc = none;
  alignas(64) C stage[lanes];  // elements that wait until there are sixteen
  int waiting = 0;
  std::int64_t done = 0;
  const auto take = [&](const simd::vec<C>& x) {
    acc = Step::step(acc, x);
    done += lanes;
    if (done % fold_length == 0) {
      total = Step::combine(total, acc);
      acc = none;
    }
  };
  for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t n) {
    const S* const run = in + at[0];
    std::int64_t i = 0;
    while (i < n) {
      if (waiting == 0 && n - i >= lanes) {
        take(get<C>(run + i * stride, stride, lanes));
        i += lanes;
        continue;
      }
      stage[waiting++] = static_cast<C>(run[i * stride]);
      ++i;
      if (waiting == lanes) {
        take(simd::load(stage));
        waiting = 0;
      }
    }
  });
  if (waiting > 0) {
    acc = Step::step(acc, simd::load_partial(stage, waiting, Step::template identity<C>));
  }
  return combine_lanes<Step>(Step::combine(total, acc));
}

/// Reduces `width` neighbouring outputs at once: `lane[r % 16]` holds a partial result for each.
template <class Step, class C, class S, class Finish>
void reduce_columns(const S* in, const loop_nest<1>& nest, std::int64_t columns,
                    const Finish& finish) {
  constexpr int width = 512 / static_cast<int>(sizeof(C));
  alignas(64) C lane[lanes][width];
  alignas(64) C total[lanes][width];
  const int used = static_cast<int>(std::min<std::int64_t>(nest.size, lanes));
  const std::int64_t stride = nest.inner_stride()[0];
  for (std::int64_t c0 = 0; c0 < columns; c0 += width) {
    const auto w = static_cast<int>(std::min<std::int64_t>(width, columns - c0));
    for (int k = 0; k < used; ++k) {
      std::fill_n(lane[k], width, Step::template identity<C>);
      std::fill_n(total[k], width, Step::template identity<C>);
    }
    const auto fold = [&] {
      for (int k = 0; k < used; ++k) {
        for (int c = 0; c < w; c += lanes) {
          simd::store(&total[k][c],
                      Step::combine(simd::load(&total[k][c]), simd::load(&lane[k][c])));
          simd::store(&lane[k][c], simd::broadcast(Step::template identity<C>));
        }
      }
    };
    std::int64_t r = 0;
    for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t n) {
      const S* row = in + at[0] + c0;
      for (std::int64_t i = 0; i < n; ++i, row += stride) {
        C* const acc = lane[r % lanes];
        int c = 0;
        for (; c + lanes <= w; c += lanes) {
          simd::store(acc + c, Step::step(simd::load(acc + c), simd::load_as<C>(row + c)));
        }
        if (c < w) {
          simd::store(acc + c,
                      Step::step(simd::load(acc + c), simd::load_as_partial<C>(row + c, w - c)));
        }
        if (++r % fold_length == 0) {
          fold();
        }
      }
    });
    fold();
    for (int half = lanes / 2; half > 0; half /= 2) {
      for (int k = 0; k < half && k + half < used; ++k) {
        for (int c = 0; c < w; c += lanes) {
          simd::store(&total[k][c],
                      Step::combine(simd::load(&total[k][c]), simd::load(&total[k + half][c])));
        }
      }
    }
    for (int c = 0; c < w; ++c) {
      finish(c0 + c, used > 0 ? total[0][c] : Step::template identity<C>);
    }
  }
}

/// Reduces integers and `bool`, where the order is of no account.
template <class Step, class C, class S>
C reduce_exact(const S* in, const loop_nest<1>& nest) {
  C acc = Step::template identity<C>;
  const std::int64_t stride = nest.inner_stride()[0];
  for_each_run(nest, 0, nest.size, [&](const auto& at, std::int64_t n) {
    const S* run = in + at[0];
    for (std::int64_t i = 0; i < n; ++i, run += stride) {
      acc = static_cast<C>(Step::step(acc, static_cast<C>(*run)));
    }
  });
  return acc;
}

/// Requires: `out` is dense and has an element for each combination of the axes that stay.
template <class Step, class C, class R, class S, class Finish>
void reduce(R* out, const S* in, const tensor_spec& spec, axis_set axes, const Finish& finish) {
  const reduction loops(spec, axes);
  const loop_nest<1>& kept = loops.kept;
  const loop_nest<1>& reduced = loops.reduced;
  const std::int64_t step = kept.inner_stride()[0];
  const std::int64_t along = reduced.inner_stride()[0];
  parallel(kept.size, std::max<std::int64_t>(reduced.size, 1),
           [&](std::int64_t begin, std::int64_t end) {
             R* to = out + begin;
             for_each_run(kept, begin, end, [&](const auto& at, std::int64_t n) {
               const S* const from = in + at[0];
               if constexpr (std::floating_point<C>) {
                 if (step == 1 && n > 1 && (along != 1 || reduced.inner_extent() < lanes)) {
                   reduce_columns<Step, C>(from, reduced, n,
                                           [&](std::int64_t i, C value) { to[i] = finish(value); });
                 } else if (reduced.rank == 1) {
                   const std::int64_t length = reduced.size;
                   for (std::int64_t i = 0; i < n; ++i) {
                     to[i] = finish(reduce_run<Step, C>(from + i * step, along, length));
                   }
                 } else {
                   for (std::int64_t i = 0; i < n; ++i) {
                     to[i] = finish(reduce_runs<Step, C>(from + i * step, reduced));
                   }
                 }
               } else {
                 for (std::int64_t i = 0; i < n; ++i) {
                   to[i] = finish(reduce_exact<Step, C>(from + i * step, reduced));
                 }
               }
               to += n;
             });
           });
}

/// Whether `x` is the largest element, which is NaN if any is.
template <class V>
ASHLAR_INLINE auto is_found(const V& x, const V& largest) {
  return (x == largest) | (x != x);
}

inline void require_elements(std::string_view op, const tensor_spec& out, const tensor_spec& in) {
  if (in.size == 0 && out.size > 0) {
    throw argument_error("ashlar::" + std::string(op),
                         "no elements along the reduced axes of shape " + to_string(in.shape()) +
                             "; only sum and mean are defined there");
  }
}

/// Integers are summed modulo 2^64.
template <class R, class T>
using sum_type =
    std::conditional_t<Floating<T>, compute_type<T>,
                       std::conditional_t<Floating<R>, compute_type<R>, std::uint64_t>>;

}  // namespace detail

/// Sums over `axes`.
///
/// Shapes:   `out`: `in` without the axes, or with extent 1 there; dense.
/// Requires: integers and `bool` are summed into int64 or a floating type.
template <Scalar R, class S>
void sum(view<R> out, view<S> in, axis_set axes) {
  using C = detail::sum_type<R, std::remove_const_t<S>>;
  detail::reduce<detail::sum_step, C>(out.data, in.data, *in.spec, axes,
                                      [](C value) { return static_cast<R>(value); });
}

/// Averages over `axes`; NaN where there is nothing to average. Shapes as for `sum`.
template <Scalar R, class S>
  requires Floating<R>
void mean(view<R> out, view<S> in, axis_set axes) {
  using C = detail::sum_type<R, std::remove_const_t<S>>;
  std::int64_t count = 1;
  for (int i = 0; i < in.rank(); ++i) {
    count *= (axes >> i & 1u) != 0u ? in.extent(i) : 1;
  }
  detail::reduce<detail::sum_step, C>(out.data, in.data, *in.spec, axes, [count](C value) {
    return static_cast<R>(value / static_cast<C>(count));
  });
}

/// The largest element over `axes`; NaN if there is one. Shapes as for `sum`.
///
/// Throws: `argument_error` where there is nothing to choose from.
template <Scalar T, class S>
void max(view<T> out, view<S> in, axis_set axes) {
  detail::require_elements("max", *out.spec, *in.spec);
  using C = compute_type<T>;
  detail::reduce<detail::max_step, C>(out.data, in.data, *in.spec, axes,
                                      [](C value) { return static_cast<T>(value); });
}

/// The smallest element over `axes`; NaN if there is one. Shapes and errors as for `max`.
template <Scalar T, class S>
void min(view<T> out, view<S> in, axis_set axes) {
  detail::require_elements("min", *out.spec, *in.spec);
  using C = compute_type<T>;
  detail::reduce<detail::min_step, C>(out.data, in.data, *in.spec, axes,
                                      [](C value) { return static_cast<T>(value); });
}

/// The number, in row-major order over `axes`, of the largest element: the first of equals, and the
/// first NaN if there is one. Shapes and errors as for `max`.
template <class S>
void argmax(view<std::int64_t> out, view<S> in, axis_set axes) {
  detail::require_elements("argmax", *out.spec, *in.spec);
  using T = std::remove_const_t<S>;
  using C = compute_type<T>;
  const detail::reduction loops(*in.spec, axes);
  const std::int64_t along = loops.reduced.inner_stride()[0];
  const auto first_largest = [&](const T* from) -> std::int64_t {
    std::int64_t i = 0;
    if constexpr (std::floating_point<C>) {
      if (loops.reduced.rank == 1) {
        const C largest = detail::reduce_run<detail::max_step, C>(from, along, loops.reduced.size);
        const simd::vec<C> wanted = simd::broadcast(largest);
        const std::int64_t length = loops.reduced.size;
        while (i + detail::lanes <= length &&
               !simd::any_of(detail::is_found(
                   detail::get<C>(from + i * along, along, detail::lanes), wanted))) {
          i += detail::lanes;
        }
        while (!detail::is_found(static_cast<C>(from[i * along]), largest)) {
          ++i;
        }
        return i;
      }
    }
    C best{};
    std::int64_t where = -1;
    detail::for_each_run(loops.reduced, 0, loops.reduced.size, [&](const auto& at, std::int64_t n) {
      for (std::int64_t k = 0; k < n; ++k, ++i) {
        const auto x = static_cast<C>(from[at[0] + k * along]);
        if (where < 0 || x > best || (x != x && best == best)) {
          best = x;
          where = i;
        }
      }
    });
    return where;
  };
  detail::parallel(loops.kept.size, loops.reduced.size, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t* to = out.data + begin;
    const std::int64_t step = loops.kept.inner_stride()[0];
    detail::for_each_run(loops.kept, begin, end, [&](const auto& at, std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) {
        *to++ = first_largest(in.data + at[0] + i * step);
      }
    });
  });
}

/// Undoes broadcasting: sums `in` over the axes that `out` lacks or holds with extent 1.
///
/// Requires: `out` is dense and broadcasts to the shape of `in`.
template <Scalar T, class S>
void sum_to(view<T> out, view<S> in) {
  ASHLAR_ASSERT(detail::broadcasts_to(*out.spec, *in.spec),
                "ashlar::chip::host_kernels::sum_to: the output does not broadcast to the input");
  const int lead = in.rank() - out.rank();
  axis_set axes = 0;
  for (int i = 0; i < in.rank(); ++i) {
    if (i < lead || (out.extent(i - lead) == 1 && in.extent(i) != 1)) {
      axes |= axis_set{1} << i;
    }
  }
  if (axes == 0) {
    copy(out, in);
  } else {
    sum(out, in, axes);
  }
}

/// The sum of the squares of all elements, for gradient norms.
///
/// Shapes: `out`: one element.
template <Scalar R, class S>
  requires Floating<R>
void sum_squares(view<R> out, view<S> in) {
  using C = compute_type<std::remove_const_t<S>>;
  detail::reduce<detail::sum_squares_step, C>(out.data, in.data, *in.spec, all_axes(in.rank()),
                                              [](C value) { return static_cast<R>(value); });
}

}  // namespace ashlar::chip::host_kernels

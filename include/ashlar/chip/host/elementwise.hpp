// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ashlar/chip/host/detail/lanes.hpp"
#include "ashlar/chip/host/detail/nest.hpp"
#include "ashlar/chip/host/detail/threads.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/view.hpp"
#include "ashlar/tile/functions.hpp"

namespace ashlar::chip::host_kernels {

namespace detail {

template <class S, class C>
inline constexpr bool is_condition = std::same_as<S, bool> && !std::same_as<C, bool>;

/// One operation on elements of fixed types: sixteen at a time for floating types, else one by one.
template <class Fn, class R, class... S>
struct elementwise_loop {
  using C = common_compute_type<S...>;
  static constexpr int count = 1 + static_cast<int>(sizeof...(S));
  static constexpr bool vectors = std::floating_point<C>;
  static_assert(((std::same_as<compute_type<S>, C> || is_condition<S, C>)&&...),
                "ashlar::chip::host_kernels::map: inputs must have one element type, or bool for "
                "conditions; cast them before");

  template <class T>
  ASHLAR_INLINE static auto get_one(const T* p, std::int64_t stride, int n) {
    if constexpr (!is_condition<T, C>) {
      return get<C>(p, stride, n);
    } else if (stride == 1) {
      return simd::load_mask<C>(p, n);
    } else {
      bool buffer[lanes];
      for (int i = 0; i < n; ++i) {
        buffer[i] = p[i * stride];
      }
      return simd::load_mask<C>(buffer, n);
    }
  }

  template <class V>  // a mask or a vector of `C`, which may be no element type of vectors
  ASHLAR_INLINE static void put_one(R* p, std::int64_t stride, int n, const V& v) {
    if constexpr (!std::same_as<V, simd::vec_mask<C>>) {
      put(p, stride, n, v);
    } else if (stride == 1) {
      simd::store_mask(p, v, n);
    } else {
      bool buffer[lanes];
      simd::store_mask(buffer, v);
      for (int i = 0; i < n; ++i) {
        p[i * stride] = buffer[i];
      }
    }
  }

  /// All operands step by one.
  [[gnu::noinline]] static void dense(const Fn& fn, std::int64_t n, R* out, const S*... in) {
    std::int64_t i = 0;
    if constexpr (vectors) {
      for (; i + lanes <= n; i += lanes) {
        put_one(out + i, 1, lanes, fn(get_one(in + i, 1, lanes)...));
      }
      if (i < n) {
        const int rest = static_cast<int>(n - i);
        put_one(out + i, 1, rest, fn(get_one(in + i, 1, rest)...));
      }
    } else {
      for (; i < n; ++i) {
        out[i] = static_cast<R>(fn(static_cast<compute_type<S>>(in[i])...));
      }
    }
  }

  /// The output steps by one, each input by one or not at all.
  template <std::size_t... J>
  [[gnu::noinline]] static void dense_or_same(const Fn& fn, std::int64_t n,
                                              const std::array<std::int64_t, count>& step,
                                              std::index_sequence<J...>, R* out, const S*... in)
    requires vectors
  {
    const std::array<bool, count> same{false, (step[J + 1] == 0)...};
    const auto first = std::make_tuple(get_one(in, 0, lanes)...);
    const auto pick = [&](bool fixed, const auto& held, const auto* p, int m)
        __attribute__((always_inline)) {
      return fixed ? held : get_one(p, 1, m);
    };
    for_each_vector(
        n, [&](std::int64_t i, int m) __attribute__((always_inline)) {
          put_one(out + i, 1, m, fn(pick(same[J + 1], std::get<J>(first), in + i, m)...));
        });
  }

  template <std::size_t... J>
  static void strided(const Fn& fn, std::int64_t n, const std::array<std::int64_t, count>& step,
                      std::index_sequence<J...>, R* out, const S*... in) {
    if constexpr (vectors) {
      for (std::int64_t i = 0; i < n; i += lanes) {
        const int m = static_cast<int>(n - i < lanes ? n - i : lanes);
        put_one(out + i * step[0], step[0], m,
                fn(get_one(in + i * step[J + 1], step[J + 1], m)...));
      }
    } else {
      for (std::int64_t i = 0; i < n; ++i) {
        out[i * step[0]] = static_cast<R>(fn(static_cast<compute_type<S>>(in[i * step[J + 1]])...));
      }
    }
  }

  [[gnu::noinline]] static void general(const Fn& fn, view<R> out, view<const S>... in) {
    const loop_nest<count> nest = elementwise_nest<count>({out.spec, in.spec...});
    const auto& step = nest.inner_stride();
    bool all_dense = true;
    bool dense_or_fixed = step[0] == 1;
    for (const std::int64_t s : step) {
      all_dense = all_dense && s == 1;
      dense_or_fixed = dense_or_fixed && (s == 1 || s == 0);
    }
    [&]<std::size_t... J>(std::index_sequence<J...> js) {
      parallel(nest.size, element_cost, [&](std::int64_t begin, std::int64_t end) {
        for_each_run(nest, begin, end, [&](const auto& at, std::int64_t n) {
          if (all_dense) {
            dense(fn, n, out.data + at[0], (in.data + at[J + 1])...);
            return;
          }
          if constexpr (vectors) {
            if (dense_or_fixed) {
              dense_or_same(fn, n, step, js, out.data + at[0], (in.data + at[J + 1])...);
              return;
            }
          }
          strided(fn, n, step, js, out.data + at[0], (in.data + at[J + 1])...);
        });
      });
    }(std::index_sequence_for<S...>{});
  }

  [[gnu::noinline]] static void large(const Fn& fn, view<R> out, view<const S>... in) {
    parallel(out.size(), element_cost, [&](std::int64_t begin, std::int64_t end) {
      dense(fn, end - begin, out.data + begin, (in.data + begin)...);
    });
  }

  ASHLAR_INLINE static void run(const Fn& fn, view<R> out, view<const S>... in) {
    // Equal sizes of shapes that broadcast are equal shapes, up to leading ones.
    if (out.contiguous() && ((in.contiguous() && in.size() == out.size()) && ...)) [[likely]] {
      const std::int64_t n = out.size();
      if constexpr (vectors) {
        if (n <= lanes) [[likely]] {
          if (n > 0) {
            const int m = static_cast<int>(n);
            put_one(out.data, 1, m, fn(get_one(in.data, 1, m)...));
          }
          return;
        }
      }
      if (n <= serial_elements) {
        dense(fn, n, out.data, in.data...);
      } else {
        large(fn, out, in...);
      }
    } else {
      general(fn, out, in...);
    }
  }
};

}  // namespace detail

/// Applies `fn` to the elements of `in...`, broadcast to the shape of `out`.
///
/// An input may be the output's own memory if both are walked alike; other overlap is not allowed.
/// 16-bit inputs are computed in float; the result is converted to the element type of `out`.
/// Requires: the inputs have one element type (or `bool`, for conditions) and broadcast to `out`.
/// Cost: one pass; threads for large sizes, without effect on the result.
template <class Fn, Scalar R, class... S>
ASHLAR_INLINE void map_with(const Fn& fn, view<R> out, view<S>... in) {
  detail::elementwise_loop<Fn, R, std::remove_const_t<S>...>::run(
      fn, out, view<const S>{in.data, in.spec}...);
}

/// `map_with(Fn{attributes...}, out, in...)`: `map<fn::add>(out, a, b)`, `map<fn::scale>(out,
/// a, 2.0)`.
template <class Fn, Scalar R, class... Arguments>
ASHLAR_INLINE void map(view<R> out, const Arguments&... arguments) {
  run_on_views<Fn>(
      [&](const Fn& fn, const auto&... in)
          __attribute__((always_inline)) { map_with(fn, out, in...); },
      arguments...);
}

/// `out[i] = condition[i] ? yes[i] : no[i]`, broadcast to the shape of `out`.
template <Scalar T>
ASHLAR_INLINE void where(view<T> out, view<const bool> condition, view<const T> yes,
                         view<const T> no) {
  map_with(tile::fn::where{}, out, condition, yes, no);
}

}  // namespace ashlar::chip::host_kernels

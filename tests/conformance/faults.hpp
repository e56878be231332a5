// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ashlar/ops.hpp"

/// Kernels with one fault each, as people write them, and chips that have them.
namespace faults {

namespace al = ashlar;
namespace ops = ashlar::ops;

/// What it has no kernel for happens on the host.
template <class... Kernel>
struct faulty {
  static constexpr al::chip_description description{.name = "faulty"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
  using kernels = al::kernels<Kernel...>;
  using falls_back_to = al::chip::host;
};

/// Right ones, to show that what is found below is the fault.
struct right_add {
  using op = ops::add;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i, out) + b.at(i, out);
    }
  }
};
struct right_relu {
  using op = ops::relu;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = x.at(i) <= 0 ? 0 : x.at(i);
    }
  }
};

/// Believes that everything is dense.
struct add_without_strides {
  using op = ops::add;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    const bool same = al::same_shape(a.shape(), b.shape());
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = same ? a.data[i] + b.data[i] : a.at(i, out) + b.at(i, out);
    }
  }
};
/// Reads strides of the arguments, and writes to the result without.
struct sub_into_dense {
  using op = ops::sub;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.data[i] = a.at(i, out) - b.at(i, out);
    }
  }
};
/// Whole vectors only.
struct relu_without_tail {
  using op = ops::relu;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size() / 4 * 4; ++i) {
      out.at(i) = x.at(i) <= 0 ? 0 : x.at(i);
    }
  }
};
/// Whole vectors, the last of which reaches behind the result.
struct abs_over_the_end {
  using op = ops::abs;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = std::abs(x.at(i));
    }
    for (std::int64_t i = out.size(); out.contiguous() && i % 4 != 0; ++i) {
      out.data[i] = 0;
    }
  }
};
/// A NaN loses every comparison.
struct maximum_without_nan {
  using op = ops::maximum;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i, out) > b.at(i, out) ? a.at(i, out) : b.at(i, out);
    }
  }
};
/// Clears the result first, which is its argument in place.
struct neg_after_clearing {
  using op = ops::neg;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = 0;
      out.at(i) -= x.at(i);
    }
  }
};
/// Repeats the second argument from its beginning: NumPy's rule only for the last axes.
struct mul_by_repeating {
  using op = ops::mul;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = a.at(i % a.size()) * b.at(i % b.size());
    }
  }
};
/// Starts from the first element, which need not exist.
struct sum_squares_of_some {
  using op = ops::sum_squares;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    float sum = x.data[0] * x.data[0];
    for (std::int64_t i = 1; i < x.size(); ++i) {
      sum += x.at(i) * x.at(i);
    }
    out.at(0) = sum;
  }
};
/// Cuts where it should round.
struct cast_by_cutting {
  using op = ops::cast<al::bfloat16>;
  static void impl(auto&, al::view<al::bfloat16> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i).bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x.at(i)) >> 16);
    }
  }
};
/// Saturates where the library wraps around.
struct saturating_add {
  using op = ops::add;
  static void impl(auto&, al::view<std::int8_t> out, al::view<const std::int8_t> a,
                   al::view<const std::int8_t> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = static_cast<std::int8_t>(std::clamp(a.at(i, out) + b.at(i, out), -128, 127));
    }
  }
};
/// Along the last axis, whatever it is asked for.
struct softmax_of_rows {
  using op = ops::softmax;
  static void impl(auto&, al::view<float> out, al::view<const float> x, std::int64_t) {
    const std::int64_t n = x.rank() == 0 ? 1 : x.extent(-1);
    for (std::int64_t row = 0; row * n < x.size(); ++row) {
      float top = -std::numeric_limits<float>::infinity();
      for (std::int64_t k = row * n; k < (row + 1) * n; ++k) {
        top = std::isnan(x.at(k)) || x.at(k) > top ? x.at(k) : top;
      }
      float sum = 0;
      for (std::int64_t k = row * n; k < (row + 1) * n; ++k) {
        sum += std::exp(x.at(k) - top);
      }
      for (std::int64_t k = row * n; k < (row + 1) * n; ++k) {
        out.at(k) = std::exp(x.at(k) - top) / sum;
      }
    }
  }
};
/// Uses its argument as scratch memory.
struct square_in_the_argument {
  using op = ops::square;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      float& scratch = const_cast<float&>(x.at(i));
      scratch *= scratch;
      out.at(i) = scratch;
    }
  }
};
/// Sums in the type of the elements.
struct narrow_sum {
  using op = ops::sum;
  static void impl(auto&, al::view<al::bfloat16> out, al::view<const al::bfloat16> x,
                   const al::shape& axes, bool) {
    const std::uint32_t bits = ops::detail::axis_bits("sum", axes, x.rank());
    const al::shape kept = ops::detail::reduced_shape(al::shape(x.shape()), bits, true);
    const al::tensor_spec to = al::contiguous_spec(al::dtype::bfloat16, kept.span());
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = al::bfloat16(0.0f);
    }
    for (std::int64_t i = 0; i < x.size(); ++i) {
      auto& sum = out.at(al::place_of(to, i, x.shape()));
      sum = al::bfloat16(float(sum) + float(x.at(i)));
    }
  }
};
/// Reads one element more than there is, and multiplies it by 0.
struct minimum_that_reads_on {
  using op = ops::minimum;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const float x = a.at(i, out);
      const float y = b.at(i, out);
      out.at(i) = (std::isnan(x) || std::isnan(y) ? x + y : std::min(x, y)) +
                  0 * (i + 1 == out.size() ? *(&b.at(i, out) + 1) : 0.0f);
    }
  }
};
/// Gives another number in the last place at every second call.
struct restless_scale {
  using op = ops::scale;
  static inline int calls = 0;
  static void impl(auto&, al::view<float> out, al::view<const float> x, double alpha, double beta) {
    const float off = ++calls % 2 == 0 ? 0x1p-23f : 0;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = x.at(i) * static_cast<float>(alpha) + static_cast<float>(beta) + off;
    }
  }
};
/// Adds to what stands in the result.
struct matmul_onto {
  using op = ops::matmul;
  static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
    if (out.rank() != 2) {
      return;
    }
    for (std::int64_t i = 0; i < out.extent(0); ++i) {
      for (std::int64_t j = 0; j < out.extent(1); ++j) {
        for (std::int64_t k = 0; k < a.extent(1); ++k) {
          out(i, j) += a(i, k) * b(k, j);
        }
      }
    }
  }
};
/// The last of equals.
struct last_argmax {
  using op = ops::argmax;
  static void impl(auto&, al::view<std::int64_t> out, al::view<const float> x,
                   const al::shape& axes, bool) {
    const std::uint32_t bits = ops::detail::axis_bits("argmax", axes, x.rank());
    const al::shape kept = ops::detail::reduced_shape(al::shape(x.shape()), bits, true);
    const al::tensor_spec to = al::contiguous_spec(al::dtype::int64, kept.span());
    std::vector<float> best(static_cast<std::size_t>(out.size()));
    std::vector<std::int64_t> seen(best.size());
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const auto k = static_cast<std::size_t>(al::place_of(to, i, x.shape()));
      if (seen[k] == 0 || (!std::isnan(best[k]) && !(x.at(i) < best[k]))) {
        best[k] = x.at(i);
        out.at(static_cast<std::int64_t>(k)) = seen[k];
      }
      ++seen[k];
    }
  }
};
/// Whole numbers wrap around.
template <class T>
T minus(T a, T b) {
  using wide = std::conditional_t<std::is_integral_v<T>, std::int64_t, T>;
  return static_cast<T>(static_cast<wide>(a) - static_cast<wide>(b));
}
/// Right for `float`; whole numbers go where a dense result would have them.
struct sub_of_whole_numbers_into_dense {
  using op = ops::sub;
  template <class T>
  static void impl(auto&, al::view<T> out, al::view<const T> a, al::view<const T> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      T& to = std::is_integral_v<T> ? out.data[i] : out.at(i);
      to = minus(a.at(i, out), b.at(i, out));
    }
  }
};
/// Right for `float`; of whole numbers the result, which is the argument in place, is cleared
/// first.
struct neg_after_clearing_whole_numbers {
  using op = ops::neg;
  template <class T>
  static void impl(auto&, al::view<T> out, al::view<const T> x) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      if (std::is_integral_v<T>) {
        out.at(i) = T{};
      }
      out.at(i) = minus(T{}, x.at(i));
    }
  }
};
/// Right for `float`; in narrow types the gradient of relu twice as large.
struct relu_backward_of_wrong_scale_if_narrow {
  using op = ops::relu_backward;
  template <class T>
  static void impl(auto&, al::view<T> out, al::view<const T> y, al::view<const T> g) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const float factor = static_cast<float>(y.at(i, out)) <= 0 ? 0 : sizeof(T) < 4 ? 2 : 1;
      out.at(i) = static_cast<T>(static_cast<float>(g.at(i, out)) * factor);
    }
  }
};
/// The gradient of tanh with a sign too many, and that of sigmoid twice as large.
struct tanh_backward_of_wrong_sign {
  using op = ops::tanh_backward;
  static void impl(auto&, al::view<float> out, al::view<const float> y, al::view<const float> g) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = g.at(i, out) * (y.at(i, out) * y.at(i, out) - 1);
    }
  }
};
struct sigmoid_backward_of_wrong_scale {
  using op = ops::sigmoid_backward;
  static void impl(auto&, al::view<float> out, al::view<const float> y, al::view<const float> g) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.at(i) = 2 * g.at(i, out) * y.at(i, out) * (1 - y.at(i, out));
    }
  }
};

/// A chip's own exception, where it has no means for something.
struct no_means : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Has no means for single numbers; of others, `Sign` times the sign.
template <int Sign>
struct sign_of_rows {
  using op = ops::sign;
  static void impl(auto&, al::view<float> out, al::view<const float> x) {
    if (x.rank() == 0) {
      throw no_means("no single numbers");
    }
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const float v = x.at(i);
      out.at(i) = std::isnan(v) ? v : static_cast<float>(Sign * ((v > 0) - (v < 0)));
    }
  }
};

// Queues ------------------------------------------------------------------------------------------

enum class queue_fault { none, waits_for_too_little, copies_early };

/// Launches happen when somebody waits, or copies.
template <queue_fault Fault>
struct lazy {
  static constexpr al::chip_description description{.name = "lazy"};
  static inline std::vector<std::function<void()>> pending;
  static void run(std::size_t left) {
    while (pending.size() > left) {
      pending.front()();
      pending.erase(pending.begin());
    }
  }
  struct queue {
    void wait() { run(Fault == queue_fault::waits_for_too_little ? 1 : 0); }
  };
  struct memory {
    static constexpr std::size_t alignment = 64;
    static std::byte* allocate(std::size_t n) noexcept {
      return al::chip::host::memory::allocate(n);
    }
    static void free(std::byte* p, std::size_t n) noexcept { al::chip::host::memory::free(p, n); }
    static void copy_in(std::byte* to, const void* from, std::size_t n) {
      run(Fault == queue_fault::copies_early ? pending.size() : 0);
      std::memcpy(to, from, n);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t n) {
      std::memcpy(to, from, n);
    }
  };
  struct late_add {
    using op = ops::add;
    static void impl(auto&, al::view<float> out, al::view<const float> a, al::view<const float> b) {
      pending.emplace_back([to = *out.spec, x = *a.spec, y = *b.spec, out, a, b] {
        const al::view<float> z{out.data, &to};
        for (std::int64_t i = 0; i < to.size; ++i) {
          z.at(i) = al::view<const float>{a.data, &x}.at(i, z) +
                    al::view<const float>{b.data, &y}.at(i, z);
        }
      });
    }
  };
  using kernels = al::kernels<late_add>;
};

/// Calls its kernels itself, and looks whether an output fits, not where it lies.
struct unguarded {
  static constexpr al::chip_description description{.name = "unguarded"};
  using memory = al::chip::host::memory;
  using queue = al::chip::host::queue;
};

// Operators of a user -----------------------------------------------------------------------------

/// (N) and (M) to (N, M). `Fault` 1: the shape is turned. 2: strides differ from call to call. 3:
/// those of whole numbers do.
template <int Fault>
struct outer {
  static constexpr std::string_view name = "outer";
  static constexpr std::array arguments{al::argument{"self"}, al::argument{"other"}};
  static inline int calls = 0;
  static al::tensor_spec meta(const al::tensor_spec& a, const al::tensor_spec& b) {
    if (a.rank != 1 || b.rank != 1) {
      throw al::shape_error(name, a.shape(), b.shape(), "must be (N) and (M)");
    }
    if (Fault == 1) {
      return al::contiguous_spec(a.type, al::shape{b[0], a[0]}.span());
    }
    const bool turns = Fault == 2 || (Fault == 3 && al::is_integral(a.type));
    if (turns && ++calls % 2 == 0) {
      return al::geometry::transpose(al::contiguous_spec(a.type, al::shape{b[0], a[0]}.span()), 0,
                                     1);
    }
    return al::contiguous_spec(a.type, al::shape{a[0], b[0]}.span());
  }
};
template <int Fault>
struct run_outer {
  using op = outer<Fault>;
  template <class T>
  static void impl(auto&, al::view<T> out, al::view<const T> a, al::view<const T> b) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t n = b.size();
      out.at(i) = a.at(i / n) * b.at(i % n);
    }
  }
};

/// Twice the argument, and its square. `Fault` 1: what comes through the square is forgotten. 2:
/// what comes through it is forgotten where something comes through the other result, too.
template <int Fault>
struct twice_and_square {
  static constexpr std::string_view name = "twice_and_square";
  static constexpr std::array arguments{al::argument{"self"}};
  static constexpr std::array<al::tensor_spec, 2> meta(const al::tensor_spec& x) {
    return {al::contiguous_like(x, x.type), al::contiguous_like(x, x.type)};
  }
  struct derivative {
    static constexpr std::array needs{al::arg<0>.bit};
    template <int>
    static auto vjp(const auto& g, const auto& saved) {
      const auto first = al::scale(std::get<0>(g), 2.0);
      const auto second = al::scale(al::mul(std::get<1>(g), saved(al::arg<0>)), 2.0);
      if (Fault == 1 || (Fault == 2 && al::item(al::sum(al::square(first))) > 0)) {
        return first;
      }
      return al::add(first, second);
    }
  };
};
template <int Fault>
struct run_twice_and_square {
  using op = twice_and_square<Fault>;
  static void impl(auto&, al::view<float> twice, al::view<float> square, al::view<const float> x) {
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const float at = x.at(i);
      twice.at(i) = 2 * at;
      square.at(i) = at * at;
    }
  }
};

}  // namespace faults

template <>
struct ashlar::fallback<ashlar::keys::backend<faults::unguarded>> {
  template <class Step, class... A>
  static auto impl(Step, A&... args) -> typename Step::template result<A...> {
    using op = typename Step::op;
    if constexpr (Step::kind == form::functional) {
      typename Step::template result<A...> out;
      return write<op>(out, args...);
    } else if constexpr (Step::kind == form::in_place) {
      return write<op>(std::get<0>(std::tie(args...)), args...);
    } else {
      return write<op>(args...);
    }
  }

 private:
  template <class Op, class Out>
  static Out& write(Out& out, const auto& x) {
    if (detail::is_missing<form::out>(Op::name, out, x.spec())) {
      out = allocate_tensor<Out>(contiguous_like(x.spec(), x.spec().type));
    }
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.view().at(i) = -x.view().at(i);
    }
    return out;
  }
};

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "ashlar/dispatch.hpp"
#include "ashlar/ops/arithmetic.hpp"
#include "ashlar/ops/cat.hpp"
#include "ashlar/ops/comparison.hpp"
#include "ashlar/ops/copy.hpp"
#include "ashlar/ops/elementwise.hpp"
#include "ashlar/ops/fwd.hpp"
#include "ashlar/ops/gather.hpp"
#include "ashlar/ops/matmul.hpp"
#include "ashlar/ops/reduction.hpp"
#include "ashlar/ops/unfold.hpp"
#include "ashlar/ops/views.hpp"

/// Convolutions and pools over images, out of windows (`unfold`), products and reductions.
///
/// Shapes: images are (B, C, H, W). Numbers in pairs are for H and W.
namespace ashlar {

/// How windows lie on an image.
struct window_options {
  std::array<std::int64_t, 2> stride{1, 1};
  std::array<std::int64_t, 2> padding{0, 0};  ///< places on each side
  std::array<std::int64_t, 2> dilation{1, 1};
  friend constexpr bool operator==(const window_options&, const window_options&) = default;
};

namespace ops {

namespace detail {

constexpr void require_window(std::string_view op, const shape& size) {
  if (size.rank() != 2) {
    throw argument_error("ashlar::" + std::string(op),
                         "a window of shape " + to_string(size.span()) + "; it must be (kh, kw)");
  }
}
constexpr void require_image(std::string_view op, const tensor_spec& x, const window_options& o) {
  if (x.rank != 4) {
    throw argument_error("ashlar::" + std::string(op),
                         "an image of shape " + to_string(x.shape()) + "; it must be (B, C, H, W)");
  }
  for (const std::int64_t padding : o.padding) {
    if (padding < 0) {
      throw argument_error("ashlar::" + std::string(op), "a negative padding; give 0 or more");
    }
    if (padding > std::numeric_limits<std::int64_t>::max() / 4) {  // an extent takes two
      throw argument_error("ashlar::" + std::string(op),
                           "a padding of " + std::to_string(padding) + "; no image is as large");
    }
  }
}
/// (B, channels, Ho, Wo) for windows of `size` on an image.
constexpr tensor_spec windows_on(const tensor_spec& x, dtype type, std::int64_t channels,
                                 const shape& size, const window_options& o) {
  shape to{x[0], channels};
  for (std::size_t i = 0; i < 2; ++i) {
    const int a = static_cast<int>(i);
    const tensor_spec line = contiguous_spec(type, shape{x[2 + a] + 2 * o.padding[i]}.span());
    to.push_back(unfold::meta(line, 0, size[a], o.stride[i], o.dilation[i])[0]);
  }
  return contiguous_spec(type, to.span());
}

/// `pad(x, axis, places)` for both axes of the image, where there is a padding.
template <class X>
X padded(X x, const window_options& o, const auto& pad) {
  for (const std::int64_t axis : {2, 3}) {
    if (const std::int64_t places = o.padding[static_cast<std::size_t>(axis - 2)]; places != 0) {
      x = pad(x, axis, places);
    }
  }
  return x;
}
/// Zeros around the image.
template <class X>
X with_zeros(const X& image, const window_options& o) {
  return padded(image, o, [](const X& x, std::int64_t axis, std::int64_t places) {
    shape to(x.shape());
    const std::int64_t n = to[static_cast<int>(axis)];
    to[static_cast<int>(axis)] += 2 * places;
    return call<slice_backward>(x, to, axis, places, places + n, std::int64_t{1});
  });
}
/// What is less than anything around the image.
template <class X>
X with_lowest(const X& image, const window_options& o) {
  using T = typename X::value_type;
  const double low = std::is_same_v<T, float8_e4m3> ? -448.0  // it has no infinity
                     : Floating<T>                  ? -std::numeric_limits<double>::infinity()
                                   : static_cast<double>(std::numeric_limits<T>::lowest());
  return padded(image, o, [low](const X& x, std::int64_t axis, std::int64_t places) {
    shape to(x.shape());
    to[static_cast<int>(axis)] = places;
    const auto side = call<expand>(scalar_like(x, low), to);
    return call<cat>(side, x, side, axis);
  });
}

/// (.., H, W) -> (.., Ho, Wo, kh, kw): a view.
auto windows_of(const auto& x, const shape& size, const window_options& o) {
  const std::int64_t h = x.rank() - 2;
  const auto rows = call<unfold>(x, h, size[0], o.stride[0], o.dilation[0]);
  return call<unfold>(rows, h + 1, size[1], o.stride[1], o.dilation[1]);
}

/// Its gradient, (.., Ho, Wo, kh, kw) -> (.., H, W), without what went to the padding.
auto image_of(const auto& windows, const shape& image, const window_options& o) {
  const int h = image.rank() - 2;
  shape padded = image;
  padded[h] += 2 * o.padding[0];
  padded[h + 1] += 2 * o.padding[1];
  shape rows = padded;
  rows[h] = windows.extent(h);
  rows.push_back(windows.extent(h + 2));
  const auto once = call<unfold_backward>(windows, rows, std::int64_t{h + 1}, windows.extent(h + 3),
                                          o.stride[1], o.dilation[1]);
  auto y = call<unfold_backward>(once, padded, std::int64_t{h}, windows.extent(h + 2), o.stride[0],
                                 o.dilation[0]);
  for (int i = 0; i < 2; ++i) {
    if (const std::int64_t begin = o.padding[static_cast<std::size_t>(i)]; begin != 0) {
      y = call<slice>(y, std::int64_t{h + i}, begin, begin + image[h + i], std::int64_t{1});
    }
  }
  return y;
}
/// The windows that meet filters of shape `weight`: (B, groups, C kh kw, Ho Wo).
auto columns_of(const auto& x, const shape& weight, const window_options& o, std::int64_t groups) {
  const auto image = with_zeros(x, o);
  const auto parts =
      call<reshape>(image, shape{x.extent(0), groups, weight[1], image.extent(2), image.extent(3)});
  // (B, G, C, Ho, Wo, kh, kw) -> (B, G, C kh kw, Ho Wo)
  const auto windows = windows_of(parts, shape{weight[2], weight[3]}, o);
  return call<reshape>(call<permute>(windows, shape{0, 1, 2, 5, 6, 3, 4}),
                       shape{x.extent(0), groups, weight[1] * weight[2] * weight[3],
                             windows.extent(3) * windows.extent(4)});
}

}  // namespace detail

/// The correlation of images with filters, plus a bias.
///
/// Shapes: `self`: (B, C, H, W); `weight`: (O, C / groups, kh, kw); `bias`: (O); the result:
///         (B, O, Ho, Wo) with Ho = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1.
/// Throws: `shape_error`, `argument_error`.
/// Cost:   a copy of all windows, O(B C kh kw Ho Wo), none for 1 x 1 with stride 1; then one
///         product for each image and group. As a tile program no copy, one launch for each group.
struct conv2d {
  static constexpr std::string_view name = "conv2d";
  static constexpr std::array arguments{argument{"self"}, argument{"weight"}, argument{"bias"}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& x, const tensor_spec& weight,
                                    const window_options& o, std::int64_t groups) {
    detail::require_image(name, x, o);
    const bool divides = groups > 0 && x[1] % groups == 0;
    if (weight.rank != 4 || !divides || weight[0] % groups != 0 || weight[1] != x[1] / groups) {
      throw shape_error(name, x.shape(), weight.shape(),
                        "must be (B, C, H, W) and (O, C / groups, kh, kw), with groups that "
                        "divide C and O");
    }
    return detail::windows_on(x, promote(x.type, weight.type), weight[0],
                              shape{weight[2], weight[3]}, o);
  }
  static constexpr tensor_spec meta(const tensor_spec& x, const tensor_spec& weight,
                                    const tensor_spec& bias, const window_options& o,
                                    std::int64_t groups) {
    tensor_spec s = meta(x, weight, o, groups);
    if (bias.rank != 1 || bias[0] != weight[0]) {
      throw shape_error(name, weight.shape(), bias.shape(), "the bias must be (O)");
    }
    s.type = promote(s.type, bias.type);
    return s;
  }
  struct composite {
    auto operator()(const auto& x, const auto& weight, const window_options& o,
                    std::int64_t groups) const {
      detail::require_defined(name, x, weight);
      const tensor_spec spec = meta(x.spec(), weight.spec(), o, groups);
      const auto columns = detail::columns_of(x, shape(weight.shape()), o, groups);
      const auto filters =
          call<reshape>(weight, shape{groups, weight.extent(0) / groups, columns.extent(2)});
      return call<reshape>(call<matmul>(filters, columns), shape(spec.shape()));
    }
    auto operator()(const auto& x, const auto& weight, const auto& bias, const window_options& o,
                    std::int64_t groups) const {
      detail::require_defined(name, x, weight, bias);
      static_cast<void>(meta(x.spec(), weight.spec(), bias.spec(), o, groups));
      const auto y = (*this)(x, weight, o, groups);
      return call<add>(y, call<reshape>(bias, shape{y.extent(1), 1, 1}));
    }
  };
  struct derivative {
    static constexpr std::array needs{arg<1>.bit, arg<0>.bit, 0u};
    template <class G>
    static auto vjp_all(const G& g, const auto& saved, const auto& wanted) {
      constexpr int tensors = std::remove_cvref_t<decltype(saved)>::tensor_count;
      const window_options& o = saved(arg<tensors>);
      const std::int64_t groups = saved(arg<tensors + 1>);
      const std::int64_t outputs = g.extent(1) / groups;
      const auto places =
          call<reshape>(g, shape{g.extent(0), groups, outputs, g.extent(2) * g.extent(3)});
      std::conditional_t<tensors == 3, std::tuple<G, G, G>, std::tuple<G, G>> all;
      if (wanted[0]) {
        const auto& weight = saved(arg<1>);
        const shape x = saved.shape(arg<0>);
        const std::int64_t inputs = weight.extent(1);
        const std::int64_t kh = weight.extent(2);
        const std::int64_t kw = weight.extent(3);
        const auto filters = call<reshape>(weight, shape{groups, outputs, inputs * kh * kw});
        const auto columns =
            call<matmul>(call<transpose>(filters, std::int64_t{1}, std::int64_t{2}), places);
        const auto apart =
            call<reshape>(columns, shape{x[0], groups, inputs, kh, kw, g.extent(2), g.extent(3)});
        const auto windows = call<permute>(apart, shape{0, 1, 2, 5, 6, 3, 4});
        std::get<0>(all) =
            call<reshape>(detail::image_of(windows, shape{x[0], groups, inputs, x[2], x[3]}, o), x);
      }
      if (wanted[1]) {
        const shape weight = saved.shape(arg<1>);
        const auto columns = detail::columns_of(saved(arg<0>), weight, o, groups);
        const auto each =
            call<matmul>(places, call<transpose>(columns, std::int64_t{2}, std::int64_t{3}));
        std::get<1>(all) = call<reshape>(call<sum>(each, shape{0}, false), weight);
      }
      if constexpr (tensors == 3) {
        if (wanted[2]) {
          std::get<2>(all) = call<sum>(g, shape{0, 2, 3}, false);
        }
      }
      return all;
    }
  };
};

namespace detail {
/// The places of all windows, one slice of the image after the other, in row-major order of a
/// window: first along its rows, then from row to row.
template <class X, class Combine>
X fold_windows(const X& x, const shape& size, const window_options& o, const Combine& combine) {
  const auto along = [&](const X& from, int axis) {
    const auto i = static_cast<std::size_t>(axis - 2);
    const std::int64_t count =
        unfold::meta(from.spec(), axis, size[axis - 2], o.stride[i], o.dilation[i])[axis];
    X total;
    for (std::int64_t k = 0; k < size[axis - 2]; ++k) {
      const std::int64_t begin = k * o.dilation[i];
      const X part = call<slice>(from, std::int64_t{axis}, begin,
                                 begin + (count - 1) * o.stride[i] + 1, o.stride[i]);
      total = k == 0 ? part : combine(total, part);
    }
    return total;
  };
  return along(along(x, 3), 2);
}

/// The sum of each window; the padding is zeros.
template <class X>
X windows_added(const X& x, const shape& size, const window_options& o) {
  return fold_windows(with_zeros(x, o), size, o,
                      [](const X& a, const X& b) { return call<add>(a, b); });
}
/// The places of a window that count, as one number or as (1, 1, Ho, Wo).
template <class X>
X places_counted(const X& like, const shape& image, const shape& size, const window_options& o,
                 bool count_padding) {
  if (count_padding || o.padding == std::array<std::int64_t, 2>{0, 0}) {
    return scalar_like(like, static_cast<double>(size[0] * size[1]));
  }
  const X one = call<expand>(scalar_like(like, 1.0), shape{1, 1, image[2], image[3]});
  return windows_added(one, size, o);
}

/// The larger of two, of equal ones the first: the gradient goes there alone. NaN is the largest.
template <class X>
X first_largest(const X& a, const X& b) {
  auto keeps = call<ge>(a, b);
  if constexpr (Floating<typename X::value_type>) {
    keeps = call<add>(keeps, call<ne>(a, a));
  }
  return call<where>(keeps, a, b);
}
}  // namespace detail

/// The largest of each window; places outside the image do not count: of nothing else it is the
/// least number there is.
///
/// The gradient goes to the first of equal ones, as in PyTorch. NaN counts as the largest.
/// Requires: a padding of at most half a window.
/// Cost: elementwise operators on kh + kw slices.
struct max_pool2d {
  static constexpr std::string_view name = "max_pool2d";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& x, const shape& size,
                                    const window_options& o) {
    detail::require_image(name, x, o);
    detail::require_window(name, size);
    for (std::size_t i = 0; i < 2; ++i) {
      if (2 * o.padding[i] > size[static_cast<int>(i)]) {
        throw argument_error("ashlar::max_pool2d", "a padding of " + std::to_string(o.padding[i]) +
                                                       "; it must be at most half of a window");
      }
    }
    return detail::windows_on(x, x.type, x[1], size, o);
  }
  struct composite {
    template <class X>
    X operator()(const X& x, const shape& size, const window_options& o) const {
      detail::require_defined(name, x);
      const tensor_spec spec = meta(x.spec(), size, o);
      const X y =
          detail::fold_windows(detail::with_lowest(x, o), size, o,
                               [](const X& a, const X& b) { return detail::first_largest(a, b); });
      return detail::with_strides_of(spec, size[0] * size[1] == 1 ? X(call<clone>(y)) : y);
    }
  };
  struct derivative {
    static constexpr std::array needs{arg<0>.bit};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const auto& x = saved(arg<0>);
      const shape& size = saved(arg<1>);
      const window_options& o = saved(arg<2>);
      shape to(g.shape());
      to.push_back(size[0] * size[1]);
      const auto windows =
          call<reshape>(detail::windows_of(detail::with_lowest(x, o), size, o), to);
      const auto first = call<argmax>(windows, shape{-1}, true);
      const auto placed =
          call<scatter>(detail::spread_zeros(g, to), first, call<unsqueeze>(g, std::int64_t{-1}),
                        std::int64_t{-1}, false);
      to[4] = size[0];
      to.push_back(size[1]);
      return detail::image_of(call<reshape>(placed, to), shape(x.shape()), o);
    }
  };
};

/// The mean of each window. Places outside the image are zeros, and count if `count_padding`.
struct avg_pool2d {
  static constexpr std::string_view name = "avg_pool2d";
  static constexpr std::array arguments{argument{"self"}};
  static constexpr bool captured_in_parts = true;
  static constexpr tensor_spec meta(const tensor_spec& x, const shape& size,
                                    const window_options& o, bool) {
    detail::require_image(name, x, o);
    detail::require_window(name, size);
    return detail::windows_on(x, x.type, x[1], size, o);
  }
  struct composite {
    template <class X>
    X operator()(const X& x, const shape& size, const window_options& o, bool count_padding) const {
      detail::require_defined(name, x);
      const tensor_spec spec = meta(x.spec(), size, o, count_padding);
      const X sum = detail::windows_added(x, size, o);
      return detail::with_strides_of(
          spec,
          X(call<div>(sum, detail::places_counted(x, shape(x.shape()), size, o, count_padding))));
    }
  };
  struct derivative {
    static constexpr std::array needs{0u};
    template <int I>
    static auto vjp(const auto& g, const auto& saved) {
      const shape image = saved.shape(arg<0>);
      const shape& size = saved(arg<1>);
      const window_options& o = saved(arg<2>);
      const auto each = call<div>(g, detail::places_counted(g, image, size, o, saved(arg<3>)));
      shape to(g.shape());
      to.push_back(1);
      to.push_back(1);
      const auto one = call<reshape>(each, to);
      to[4] = size[0];
      to[5] = size[1];
      return detail::image_of(call<expand>(one, to), image, o);
    }
  };
};

}  // namespace ops

/// `conv2d(x, weight, options = {}, groups = 1)`, `conv2d(x, weight, bias, options = {}, ...)`.
inline constexpr struct conv2d_function : spelled_function<conv2d_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight,
                              const window_options& options = {}, std::int64_t groups = 1) {
    return to(op_function<ops::conv2d>{}, x, weight, options, groups);
  }
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x,
                              const detail::AnyOrTensor auto& weight,
                              const detail::AnyOrTensor auto& bias,
                              const window_options& options = {}, std::int64_t groups = 1) {
    return to(op_function<ops::conv2d>{}, x, weight, bias, options, groups);
  }
} conv2d;

/// `max_pool2d(x, size)`: windows side by side; `max_pool2d(x, size, options)`.
inline constexpr struct max_pool2d_function : spelled_function<max_pool2d_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& size,
                              const window_options& options) {
    return to(op_function<ops::max_pool2d>{}, x, size, options);
  }
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& size) {
    ops::detail::require_window("max_pool2d", size);
    return spell(to, x, size, window_options{.stride = {size[0], size[1]}});
  }
} max_pool2d;

/// `avg_pool2d(x, size)`: windows side by side;
/// `avg_pool2d(x, size, options, count_padding = true)`.
inline constexpr struct avg_pool2d_function : spelled_function<avg_pool2d_function> {
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& size,
                              const window_options& options, bool count_padding = true) {
    return to(op_function<ops::avg_pool2d>{}, x, size, options, count_padding);
  }
  static constexpr auto spell(auto to, const detail::AnyOrTensor auto& x, const shape& size) {
    ops::detail::require_window("avg_pool2d", size);
    return spell(to, x, size, window_options{.stride = {size[0], size[1]}});
  }
} avg_pool2d;

}  // namespace ashlar

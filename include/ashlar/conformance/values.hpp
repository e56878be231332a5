// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "ashlar/core/dtype.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/tile/scalar.hpp"

/// Numbers of any element type on the host, with the type as a value: what the kit compares.
namespace ashlar::conformance {

/// Dense numbers in double precision, row by row: what the twins compute with.
struct numbers {
  shape extents;
  std::vector<double> v;

  numbers() = default;
  explicit numbers(const shape& s, double value = 0.0)
      : extents(s), v(static_cast<std::size_t>(element_count(s.span())), value) {}

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(v.size()); }
  [[nodiscard]] int rank() const { return extents.rank(); }
  [[nodiscard]] double& operator[](std::int64_t i) { return v[static_cast<std::size_t>(i)]; }
  [[nodiscard]] double operator[](std::int64_t i) const { return v[static_cast<std::size_t>(i)]; }
  /// The element that goes into element `i` of a result to whose shape these numbers broadcast.
  [[nodiscard]] double at(std::int64_t i, const shape& result) const {
    return (*this)[place_of(contiguous_spec(dtype::float64, extents.span()), i, result.span())];
  }
};

/// How the elements of an argument lie.
enum class layout : std::uint8_t {
  dense,
  turned,    ///< the axes are stored in reverse order
  gaps,      ///< so, and every other place is not the tensor's
  expanded,  ///< the first axis longer than 1 repeats one place
};

/// Which numbers an argument has.
enum class values : std::uint8_t {
  any,       ///< within 2 for floating types, 50 for integers; neither ties nor zeros
  away,      ///< as `any`, at least a quarter away from 0
  positive,  ///< as `away`, without signs
  special,   ///< as `any`, and NaN, both infinities, both zeros in between
  edges,     ///< of integers: the smallest and largest too
  masked,    ///< as `any`, and minus infinity in between: what masks write into scores
  ties,      ///< few different ones
  index,     ///< whole numbers from 0 up to a limit
  ignored,   ///< so, and -100 in between
};

namespace detail {

constexpr double truth(bool holds) { return holds ? 1.0 : 0.0; }

/// A number as an element of `d`: integers keep their low bits, as machines do.
inline double rounded(dtype d, double x) {
  return tile::eval::with_scalar(d, [x]<class T>(std::type_identity<T>) -> double {
    if constexpr (std::is_same_v<T, bool>) {
      return x != 0 ? 1.0 : 0.0;
    } else if constexpr (Floating<T>) {
      return static_cast<double>(static_cast<T>(static_cast<compute_type<T>>(x)));
    } else {
      const double most = 9.2e18;
      if (!(std::abs(x) < most)) {
        return x < 0 ? static_cast<double>(std::numeric_limits<T>::min())
                     : static_cast<double>(std::numeric_limits<T>::max());
      }
      return static_cast<double>(static_cast<T>(static_cast<std::int64_t>(x)));
    }
  });
}

inline double read(dtype d, const std::byte* from) {
  return tile::eval::with_scalar(d, [from]<class T>(std::type_identity<T>) -> double {
    T x{};
    std::memcpy(static_cast<void*>(&x), from, sizeof(T));
    return static_cast<double>(static_cast<compute_type<T>>(x));
  });
}
inline void write(dtype d, std::byte* to, double value) {
  tile::eval::with_scalar(d, [=]<class T>(std::type_identity<T>) {
    const T x = static_cast<T>(static_cast<compute_type<T>>(rounded(d, value)));
    std::memcpy(to, &x, sizeof(T));
  });
}

}  // namespace detail

/// Half the distance from 1 to the next number of a type: what one rounding may be off by.
constexpr double roundoff(dtype d) {
  constexpr std::array<double, dtype_count> all{0,      0,       0,      0,       0,      0x1p-4,
                                                0x1p-3, 0x1p-11, 0x1p-8, 0x1p-24, 0x1p-53};
  return all[static_cast<std::size_t>(d)];
}
/// The smallest distance of two numbers.
constexpr double grain(dtype d) {
  constexpr std::array<double, dtype_count> all{
      0, 0, 0, 0, 0, 0x1p-9, 0x1p-16, 0x1p-24, 0x1p-133, 0x1p-149, 0x1p-1074};
  return all[static_cast<std::size_t>(d)];
}

/// A tensor's memory on the host with what lies around it: between and beside the elements stand
/// bytes that nobody may write, which are NaN for floating types, so that nobody may read them.
struct array {
  tensor_spec spec;              ///< its offset counts from the first byte
  std::vector<std::byte> bytes;  ///< with room before and behind

  [[nodiscard]] std::int64_t size() const { return spec.size; }
  [[nodiscard]] std::size_t place(std::int64_t i) const {
    return static_cast<std::size_t>(spec.offset + place_of(spec, i, spec.shape())) *
           size_of(spec.type);
  }
  [[nodiscard]] double operator[](std::int64_t i) const {
    return detail::read(spec.type, bytes.data() + place(i));
  }
  void set(std::int64_t i, double value) {
    detail::write(spec.type, bytes.data() + place(i), value);
  }
  /// What stands between and beside the elements.
  [[nodiscard]] static std::byte canary(dtype d) {
    return std::byte{d == dtype::boolean ? std::uint8_t{1} : std::uint8_t{0xff}};
  }
};

/// Room for a tensor of that shape, all of it canaries.
///
/// `alignment`: of the first element of a dense one, in bytes. One with gaps begins elsewhere.
inline array make_array(const shape& extents, dtype type, layout how, std::size_t alignment) {
  array a{contiguous_spec(type, extents.span()), {}};
  const auto edge = static_cast<std::int64_t>(alignment / size_of(type));
  std::int64_t step = how == layout::gaps ? 2 : 1;
  a.spec.offset = edge + (how == layout::gaps ? 1 : 0);
  if (how == layout::turned || how == layout::gaps) {
    for (int axis = 0; axis < extents.rank(); ++axis) {
      a.spec.stride[static_cast<std::size_t>(axis)] = step;
      step *= extents[axis] > 0 ? extents[axis] : 1;
    }
    a.spec = geometry::finished(a.spec);
  }
  for (int axis = 0; how == layout::expanded && axis < extents.rank(); ++axis) {
    if (extents[axis] > 1) {
      tensor_spec one = a.spec;
      one.extent[static_cast<std::size_t>(axis)] = 1;
      one = contiguous_like(one, type);
      a.spec.stride = one.stride;
      a.spec.stride[static_cast<std::size_t>(axis)] = 0;
      a.spec = geometry::finished(a.spec);
      break;
    }
  }
  std::int64_t last = a.spec.offset;
  for (int axis = 0; axis < a.spec.rank; ++axis) {
    last += a.spec.size == 0 ? 0 : (a.spec[axis] - 1) * a.spec.stride_of(axis);
  }
  a.bytes.assign(static_cast<std::size_t>(last + 1 + edge) * size_of(type), array::canary(type));
  return a;
}

inline numbers dense(const array& a) {
  numbers x{shape(a.spec.shape())};
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x[i] = a[i];
  }
  return x;
}

/// The same numbers, lying otherwise.
inline array laid(const array& a, layout how, std::size_t alignment) {
  array b = make_array(shape(a.spec.shape()), a.spec.type, how, alignment);
  for (std::int64_t i = 0; i < a.size(); ++i) {
    b.set(i, a[i]);
  }
  return b;
}

/// Number `i` of an argument. They repeat late; the same `salt` gives the same ones.
inline double value_of(values kind, dtype type, std::int64_t i, int salt, std::int64_t limit) {
  const double u = std::sin(1.37 * static_cast<double>(i) + 0.61 * salt + 0.25);
  const double any = is_floating(type)        ? 2 * u
                     : type == dtype::boolean ? (u > 0 ? 1.0 : 0.0)
                     : type == dtype::uint8   ? std::trunc(60 + 50 * u)
                                              : std::trunc(50 * u);
  const double infinity = std::numeric_limits<double>::infinity();
  switch (kind) {
    case values::any:
      return any;
    case values::away:
      return is_floating(type) ? any + (any < 0 ? -0.25 : 0.25) : any != 0 ? any : 1.0;
    case values::positive:
      return std::abs(value_of(values::away, type, i, salt, limit));
    case values::special:
      if (is_floating(type)) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        const double all[] = {nan, infinity, -infinity, 0.0, -0.0};
        const std::int64_t k = (i + salt) % 7;
        return k < 5 ? all[k] : any;
      }
      return any;
    case values::edges:
      if (is_integral(type) && type != dtype::boolean && type != dtype::int64) {
        const bool is_signed = type != dtype::uint8;
        const double top = std::ldexp(1.0, type == dtype::int32 ? 31 : is_signed ? 7 : 8);
        return i % 3 == 0 ? top - 1 : i % 3 == 1 ? (is_signed ? -top : 0.0) : any;
      }
      return any;
    case values::masked:
      return (i + salt) % 3 == 1 ? -infinity : any;
    case values::ties:
      return type == dtype::boolean ? any : static_cast<double>((i * 7 + salt) % 3);
    case values::index:
      return static_cast<double>((i * 7 + salt) % (limit > 0 ? limit : 1));
    case values::ignored:
      break;
  }
  return i % 3 == 2 ? -100.0 : value_of(values::index, type, i, salt, limit);
}

}  // namespace ashlar::conformance

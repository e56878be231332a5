// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "ashlar/conformance/calls.hpp"
#include "ashlar/conformance/compare.hpp"
#include "ashlar/conformance/sample.hpp"
#include "ashlar/dispatch/errors.hpp"

/// Arguments to a chip, a call there, and what it left behind.
namespace ashlar::conformance {

/// What is checked, and what is made of it.
struct options {
  std::string op{};                     ///< this operator alone; empty: all
  std::string dtype{};                  ///< this element type alone; empty: all
  int sample = -1;                      ///< this sample alone; -1: all
  bool print = true;                    ///< the table, to standard output
  std::string program = "conformance";  ///< how lines begin that reproduce a failure
  /// Every form and layout gives the bits of the functional form: a promise of the library's own
  /// kernels that a chip need not make.
  bool same_bits = false;
  /// Whether an exception of the chip's says that it has no means to run something.
  std::function<bool(const std::exception&)> means_unsupported{};
  std::string json{};  ///< a file to write; empty: none
  std::string html{};  ///< a file to write; empty: none
};

namespace detail {

/// The chip cannot run it.
struct not_supported {
  std::string what;
};

/// Calls the forms of one operator on one chip.
class caller {
 public:
  caller(const device& on, const calls& call, const options& o)
      : on_(on), call_(call), options_(o) {}

 protected:
  using handles = std::vector<tensor_handle>;

  /// The arguments of a sample.
  [[nodiscard]] std::vector<array> inputs(const sample& s) const {
    if (s.in.size() != call_.arguments) {
      throw failure{"the sample has " + std::to_string(s.in.size()) + " arguments, the operator " +
                    std::to_string(call_.arguments)};
    }
    std::vector<array> in;
    for (std::size_t k = 0; k < s.in.size(); ++k) {
      const given& g = s.in[k];
      in.push_back(make_array(g.extents, call_.in[k], g.how, on_.alignment));
      for (std::int64_t i = 0; i < in[k].size(); ++i) {
        in[k].set(i, value_of(g.what, call_.in[k], i, static_cast<int>(k) + 1, g.limit));
      }
    }
    if (s.prepare != nullptr) {
      std::vector<numbers> all;
      for (const array& a : in) {
        all.push_back(dense(a));
      }
      s.prepare(all, s.with);
      for (std::size_t k = 0; k < in.size(); ++k) {
        for (std::int64_t i = 0; i < in[k].size(); ++i) {
          in[k].set(i, all[k][i]);
        }
      }
    }
    return in;
  }
  [[nodiscard]] handles uploaded(const std::vector<array>& in) const {
    handles all;
    for (const array& a : in) {
      all.push_back(on_.upload(a));
    }
    return all;
  }
  [[nodiscard]] array result(const tensor_handle& y) const {
    array a{y.spec(), {}};
    a.spec.offset = 0;
    a.bytes.resize(static_cast<std::size_t>(ashlar::detail::reach(a.spec)) * size_of(a.spec.type));
    on_.read(y, a.bytes);
    return a;
  }
  void refuse_unsupported(const std::exception& e) const {
    if (options_.means_unsupported && options_.means_unsupported(e)) {
      throw not_supported{e.what()};
    }
  }
  /// Calls `form`, and says where exceptions come from.
  void call(const char* name, calls::form form, const handles& in, const settings& with,
            handles& out) const {
    out.resize(std::max<std::size_t>(out.size(), 4));
    try {
      form(in.data(), with, out.data());
    } catch (const std::exception& e) {
      refuse_unsupported(e);
      throw failure{std::string(name) + ": throws: " + e.what()};
    }
  }
  [[nodiscard]] std::vector<tensor_spec> meta(const handles& in, const settings& with) const {
    std::vector<tensor_spec> specs;
    for (const tensor_handle& x : in) {
      specs.push_back(x.spec());
    }
    std::vector<tensor_spec> out(4);
    call_.meta(specs.data(), with, out.data());
    out.resize(call_.results);
    return out;
  }
  /// Calls `form` with outputs that it cannot write to.
  void must_refuse(const char* name, calls::form form, const handles& x, const settings& with,
                   handles& y) const {
    y.resize(std::max<std::size_t>(y.size(), 4));
    try {
      form(x.data(), with, y.data());
    } catch (const output_error&) {
      return;
    } catch (const std::exception& e) {
      throw failure{std::string(name) + ": must throw output_error, throws: " + e.what()};
    }
    throw failure{std::string(name) + ": must throw output_error"};
  }

  /// Whether the arguments from `from` on are what they were.
  void untouched(const char* name, const std::vector<array>& in, const handles& x,
                 std::size_t from = 0) const {
    for (std::size_t k = from; k < in.size(); ++k) {
      std::vector<std::byte> now(in[k].bytes.size());
      on_.download(x[k], now);
      if (now != in[k].bytes) {
        throw failure{std::string(name) + ": argument " + std::to_string(k) + " is changed"};
      }
    }
  }
  /// The memory of `like` now.
  [[nodiscard]] array downloaded(const array& like, const tensor_handle& x) const {
    array now = like;
    on_.download(x, now.bytes);
    return now;
  }

  const device& on_;
  const calls& call_;
  const options& options_;
};

}  // namespace detail

}  // namespace ashlar::conformance

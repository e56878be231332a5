// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "ashlar/chip/concept.hpp"
#include "ashlar/chip/host/host.hpp"
#include "ashlar/chip/plugin.h"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"

/// A chip that comes in at run time: a table of function pointers behind one chip type.
namespace ashlar::chip {

/// A plug-in that is not admitted, or that failed.
struct plugin_error final : error {
  std::string plugin;  ///< its name; empty where it has none
  std::string field;   ///< of `ashlar_plugin`: `allocate`, `kernels[3].run`
  std::string reason;

  plugin_error(std::string_view name, std::string what, std::string why,
               std::source_location at = std::source_location::current())
      : error(at), plugin(name), field(std::move(what)), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::chip::dynamic: plug-in '" + plugin + "': " + field + ": " + reason;
  }
};

namespace detail {

constexpr std::int32_t plugin_none = -1;
/// The number of an element type in the plug-in's table; `plugin_none` for those that it lacks.
constexpr std::int32_t plugin_element(dtype d) {
  switch (d) {
    case dtype::boolean:
      return ashlar_plugin_bool;
    case dtype::uint8:
      return ashlar_plugin_uint8;
    case dtype::int8:
      return ashlar_plugin_int8;
    case dtype::int32:
      return ashlar_plugin_int32;
    case dtype::int64:
      return ashlar_plugin_int64;
    case dtype::float16:
      return ashlar_plugin_float16;
    case dtype::bfloat16:
      return ashlar_plugin_bfloat16;
    case dtype::float32:
      return ashlar_plugin_float32;
    case dtype::float64:
      return ashlar_plugin_float64;
    default:
      return plugin_none;
  }
}

}  // namespace detail

/// A chip whose memory, queue and kernels are a plug-in's, `chip::dynamic` for the first. What the
/// plug-in lacks happens on the host.
///
/// Include `ashlar/ops/dynamic.hpp` to call operators on it.
template <int Slot>
struct plug_in {
  static constexpr chip_description description{.name = "dynamic"};
  using falls_back_to = host;

  /// Takes the plug-in's table, which must outlive all tensors. Once per program and slot.
  ///
  /// Throws: `plugin_error` that names the field; then nothing is admitted.
  static void admit(const ashlar_plugin* given) {
    check(given);
    const ashlar_plugin* none = nullptr;
    if (!table_.compare_exchange_strong(none, given) && none != given) {
      throw plugin_error(given->name, "name",
                         "plug-in '" + std::string(none->name) +
                             "' is here already; admit this one to another chip::plug_in<Slot>");
    }
  }
  [[nodiscard]] static bool admitted() noexcept {
    return table_.load(std::memory_order_acquire) != nullptr;
  }
  /// The plug-in's table. Throws: `plugin_error` before one is admitted.
  static const ashlar_plugin& table() {
    const ashlar_plugin* t = table_.load(std::memory_order_acquire);
    if (t == nullptr) [[unlikely]] {
      throw plugin_error("", "(none)", "no plug-in is here; call chip::dynamic::admit first");
    }
    return *t;
  }
  /// The plug-in's kernel of an operator whose result has elements of a type; null: it has none.
  static const ashlar_plugin_kernel* find(std::string_view op, dtype result) {
    const ashlar_plugin& t = table();
    for (std::size_t i = 0; i < t.kernel_count; ++i) {
      if (t.kernels[i].element == detail::plugin_element(result) && op == t.kernels[i].op) {
        return &t.kernels[i];
      }
    }
    return nullptr;
  }

  struct memory {
    static constexpr std::size_t alignment = 64;
    static std::byte* allocate(std::size_t bytes) {
      return static_cast<std::byte*>(table().allocate(bytes));
    }
    static void free(std::byte* p, std::size_t bytes) noexcept {
      table_.load(std::memory_order_acquire)->release(p, bytes);
    }
    static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
      table().copy_in(to, from, bytes);
    }
    static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
      table().copy_out(to, from, bytes);
    }
  };
  struct queue {
    void wait() {
      if (admitted()) {
        table().wait();
      }
    }
  };

 private:
  static void check(const ashlar_plugin* t) {
    if (t == nullptr) {
      throw plugin_error("", "table", "is null; return a table from the plug-in");
    }
    // The version first: of another one nothing else is known.
    if (t->version != ashlar_plugin_version) {
      throw plugin_error("", "version",
                         std::to_string(t->version) + " where this program knows " +
                             std::to_string(ashlar_plugin_version) +
                             "; build the plug-in against this ashlar/chip/plugin.h");
    }
    if (t->bytes != sizeof(ashlar_plugin)) {
      throw plugin_error("", "bytes",
                         std::to_string(t->bytes) + " where sizeof(ashlar_plugin) is " +
                             std::to_string(sizeof(ashlar_plugin)));
    }
    const std::string_view name = t->name == nullptr ? "" : t->name;
    const auto need = [&](bool given, const char* field) {
      if (!given) {
        throw plugin_error(name, field, "is null; every plug-in needs it");
      }
    };
    need(t->name != nullptr, "name");
    need(t->allocate != nullptr, "allocate");
    need(t->release != nullptr, "release");
    need(t->copy_in != nullptr, "copy_in");
    need(t->copy_out != nullptr, "copy_out");
    need(t->wait != nullptr, "wait");
    need(t->kernels != nullptr || t->kernel_count == 0, "kernels");
    for (std::size_t i = 0; i < t->kernel_count; ++i) {
      const std::string entry = "kernels[" + std::to_string(i) + "].";
      need(t->kernels[i].op != nullptr, (entry + "op").c_str());
      need(t->kernels[i].run != nullptr, (entry + "run").c_str());
      if (t->kernels[i].element < ashlar_plugin_bool ||
          t->kernels[i].element > ashlar_plugin_float64) {
        throw plugin_error(name, entry + "element",
                           std::to_string(t->kernels[i].element) +
                               " is no ashlar_plugin_element; take one of plugin.h");
      }
    }
  }

  static inline std::atomic<const ashlar_plugin*> table_ = nullptr;
};

using dynamic = plug_in<0>;

}  // namespace ashlar::chip

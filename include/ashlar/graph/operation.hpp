// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ashlar/core/tensor.hpp"
#include "ashlar/dispatch/op.hpp"
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/traced.hpp"

/// What a node of a graph does, once types are forgotten.
namespace ashlar::graph {

/// A value by its place in `graph::values`.
using value_id = std::int32_t;
inline constexpr value_id no_value = -1;

class recorder;
class operation;
using operation_ref = std::shared_ptr<const operation>;

/// What an operation is in a tile program, where rows lie along the last axis.
struct tile_part {
  enum class kind : std::uint8_t {
    none,
    elementwise,
    row,
    product,  ///< of rows by a matrix: fusion finds those itself
  };

  kind what = kind::none;
  /// It adds up rows. Its kernels do so in the program's order for rows of up to `same_up_to`
  /// elements, and of up to `chip::blocks_of<C>::fold` on a chip that runs tile programs.
  bool sums = false;
  bool drops_axis = false;  ///< what is one number for each row has no last axis; else extent 1
  std::int64_t same_up_to = std::numeric_limits<std::int64_t>::max();
};

/// Address that stands for an operator, whatever the element types of a call.
template <class Op>
inline constexpr char op_id = 0;

/// One operator on arguments of certain types, or a kernel that a pass has made.
///
/// Capture makes one per operator, form and argument types, as a constant; passes make others and
/// share them.
class operation {
 public:
  operation(const operation&) = delete;
  operation& operator=(const operation&) = delete;

  /// What it is called in text: the operator's name, `add`, or that of a kernel.
  std::string_view name;
  /// `&op_id<Op>`; null for what is no operator of the library.
  const void* id = nullptr;
  ashlar::form form = ashlar::form::functional;
  /// The name of the chip that it was made for; empty where it runs on any.
  std::string_view chip;
  /// Of each tensor argument; `result_types` of each result. Element types, in order.
  std::span<const dtype> argument_types, result_types;
  /// What attributes it takes, in order.
  std::span<const attribute::kind> attribute_kinds;
  bool view = false;         ///< the result looks at the first argument's elements
  bool elementwise = false;  ///< result element i depends on the arguments' elements i only
  /// It writes to arguments, bit `i` for the tensor argument `i`: order matters, nobody drops it.
  std::uint32_t writes = 0;
  bool launches = false;  ///< `place` and `launch` are there: results can be made beforehand

  /// Computes. `out` has a place for each result and is filled.
  ///
  /// Requires: arguments of `argument_types`, on the chip that the operation was made for.
  virtual void run(std::span<const tensor_handle> in, std::span<const attribute> attributes,
                   std::span<tensor_handle> out) const = 0;
  /// The specs of the results. Throws: what the operator's `meta` throws.
  [[nodiscard]] virtual std::vector<tensor_spec> meta(
      std::span<const tensor_spec> in, std::span<const attribute> attributes) const = 0;
  /// A tensor of the type of result `r` that looks at `at` and owns nothing; where `at` is null it
  /// has elements of its own. Requires: `launches`.
  [[nodiscard]] virtual tensor_handle place(std::size_t r, const tensor_spec& s,
                                            std::byte* at) const {
    static_cast<void>(r);
    static_cast<void>(s);
    static_cast<void>(at);
    return {};
  }
  /// As `run` into results that are there: the kernel and nothing else. Where the operation has no
  /// results it writes to its first argument. Requires: `launches`; results as `meta` says, apart
  /// from the arguments.
  virtual void launch(std::span<const tensor_handle> in, std::span<const attribute> attributes,
                      std::span<const tensor_handle> out) const {
    static_cast<void>(in);
    static_cast<void>(attributes);
    static_cast<void>(out);
  }
  /// Whether `take_apart` can say the operation in others.
  [[nodiscard]] virtual bool has_parts() const { return false; }
  /// Calls the parts of the operation on what stands for `in`, so that `to` writes them down.
  /// Returns: the values of the results. Requires: `has_parts()`, and `to` is the thread's.
  [[nodiscard]] virtual std::vector<value_id> take_apart(
      recorder& to, std::span<const value_id> in, std::span<const attribute> attributes) const {
    static_cast<void>(to);
    static_cast<void>(in);
    static_cast<void>(attributes);
    return {};
  }
  /// Of a form that writes to its first argument: the functional form. Null where there is none.
  [[nodiscard]] virtual operation_ref functional() const { return {}; }
  /// `clone` of a tensor of the type of the first result, or of the first argument where there is
  /// no result. Null where the chip has no such kernel, and for what is no operator.
  [[nodiscard]] virtual operation_ref cloning() const { return {}; }
  /// `copy.in_place` between two tensors of that type. Null as `cloning`, and where the operation
  /// writes to nothing.
  [[nodiscard]] virtual operation_ref copying() const { return {}; }
  /// What the operation is in a tile program, for arguments of these specs.
  [[nodiscard]] virtual tile_part part(std::span<const tensor_spec> in,
                                       std::span<const attribute> attributes) const {
    static_cast<void>(in);
    static_cast<void>(attributes);
    return {};
  }
  /// Appends to a program what the operation computes of tiles (rows, columns), with the bits of
  /// its kernels where `part` says so. Requires: it has a part.
  [[nodiscard]] virtual traced emit(std::span<const traced> in,
                                    std::span<const attribute> attributes) const {
    static_cast<void>(attributes);
    return in[0];
  }

 protected:
  constexpr operation() = default;
  ~operation() = default;
};

/// An operation that lives as long as the program, as a reference that counts nothing.
[[nodiscard]] inline operation_ref refer_to(const operation& constant) {
  return {std::shared_ptr<const void>(), &constant};
}

}  // namespace ashlar::graph

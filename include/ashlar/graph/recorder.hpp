// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/dispatch.hpp"
#include "ashlar/graph/graph.hpp"

/// Who writes calls into a graph, and tensors without elements that stand for its values.
namespace ashlar {

namespace graph {

/// What a capture cannot write down.
struct capture_error final : error {
  std::string op;
  std::string reason;         ///< what is wrong; what to do
  std::source_location call;  ///< the user's line, where it is known

  capture_error(std::string_view operation, std::string why, std::source_location user = {},
                std::source_location at = std::source_location::current())
      : error(at), op(operation), reason(std::move(why)), call(user) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::graph::capture: " + op + ": " + reason;
    if (call.line() != 0) {
      text.append(" (").append(call.file_name()).append(1, ':');
      text.append(std::to_string(call.line())).append(1, ')');
    }
    return text;
  }
};

}  // namespace graph

namespace keys {
/// While a thread captures, calls of tensors with this key are written down and not executed.
///
/// It stands right above backends: what keys above make of a call, casts of autocast and the calls
/// of a backward pass, is captured too.
/// Cost outside a capture: one thread-local read.
struct capture {
  static constexpr int priority = 10;
  static constexpr std::string_view name = "capture";

  struct state {
    std::uint64_t capture = 0;  ///< its number; 0: the tensor has elements
    graph::value_id value = graph::no_value;

    /// Throws: `graph::capture_error` for a tensor of a capture that is not breakable.
    void require_elements(std::string_view op, const tensor_handle& x) const {
      if (capture != 0 || (x.bytes() == nullptr && x.size() > 0)) {
        demand(op, *x.body());
      }
    }
    void left(tensor_body& b) const {
      if (capture != 0) {
        demand("a tensor without keys::capture", b);
      }
    }

   private:
    static void demand(std::string_view op, tensor_body& b);
  };
  static bool withholds();  // whether this thread captures
};
}  // namespace keys

namespace graph {

/// The type of a tensor that can be captured.
template <Tensor X>
using capturable =
    tensor<typename X::value_type, set_union<typename X::keys, key_set<keys::capture>>>;

namespace detail {
/// A tensor that nobody has written yet; `extents` is its attribute.
template <Tensor X>
class blank final : public operation {
  static constexpr std::array types{element_type<X>};
  static constexpr std::array kinds{attribute::kind::extents};

 public:
  static const blank instance;

  constexpr blank() {
    name = "blank";
    chip = chip_of<typename X::keys>::description.name;
    result_types = types;
    attribute_kinds = kinds;
  }
  void run(std::span<const tensor_handle>, std::span<const attribute> attributes,
           std::span<tensor_handle> out) const override {
    out[0] = empty<X>(attributes[0].as<shape>());
  }
  [[nodiscard]] std::vector<tensor_spec> meta(
      std::span<const tensor_spec>, std::span<const attribute> attributes) const override {
    return {contiguous_spec(types[0], attributes[0].as<shape>().span())};
  }
};
template <Tensor X>
constinit const blank<X> blank<X>::instance{};
}  // namespace detail

/// Writes the calls of a thread into a graph for as long as it lives. Scopes nest; the innermost
/// one hears.
class recorder {
 public:
  /// Who is told of stand-ins, and may have elements for them.
  struct listener {
    /// From now on `x` stands for `v`.
    virtual void stands_for(const tensor_handle& x, value_id v) = 0;
    /// Whether a tensor with elements is an argument of the graph, and no parameter.
    virtual bool is_argument(const tensor_handle& x) = 0;
    /// The elements of a stand-in are needed. Returns: whether it has some now.
    virtual bool give_elements(tensor_body& b) = 0;

   protected:
    ~listener() = default;
  };

  explicit recorder(graph& to, listener* heard_by = nullptr)
      : to_(&to),
        listener_(heard_by),
        before_(std::exchange(active(), this)),
        site_(detail_site().wanted) {
    detail_site().wanted = true;
    restart(to);
  }
  ~recorder() {
    detail_site().wanted = site_;
    active() = before_;
  }
  recorder(const recorder&) = delete;
  recorder& operator=(const recorder&) = delete;

  /// This thread's, or null.
  [[nodiscard]] static recorder* current() { return active(); }
  [[nodiscard]] graph& target() const { return *to_; }
  [[nodiscard]] listener* heard_by() const { return listener_; }
  /// The number of the capture, which its stand-ins bear.
  [[nodiscard]] std::uint64_t number() const { return number_; }
  /// Another capture begins: what stood for values of the last one does so no more.
  void restart(graph& to) {
    static constinit std::atomic<std::uint64_t> captures{0};
    number_ = ++captures;
    to_ = &to;
    parameters_.clear();
  }

  /// While it lives, this thread's calls are executed.
  class pause {
   public:
    pause() : before_(std::exchange(active(), nullptr)) {}
    ~pause() { active() = before_; }
    pause(const pause&) = delete;
    pause& operator=(const pause&) = delete;

   private:
    recorder* before_;
  };

  /// What a parameter is called in the graph, by its elements.
  void name(std::string_view as, const tensor_handle& x) { names_.emplace(x.bytes(), as); }

  /// A tensor without elements that stands for a value of the graph.
  template <Tensor X>
  [[nodiscard]] X stand_in(value_id v) const {
    static_assert(contains<typename X::keys, keys::capture>,
                  "ashlar::graph: only tensors with keys::capture stand for values");
    X x(body_of<typename X::keys>::make(to_->spec(v)));
    mark(x, v);
    return x;
  }
  /// `x` stands for `v` from now on.
  template <Tensor X>
  void mark(const X& x, value_id v) const {
    x.template state<keys::capture>() = {};
    x.template state<keys::capture>().capture = number_;
    x.template state<keys::capture>().value = v;
    if (listener_ != nullptr) {
      listener_->stands_for(x, v);
    }
  }

  /// The value that a tensor stands for; one with elements becomes a parameter.
  /// Throws: `capture_error` for a tensor of another capture.
  template <Tensor X>
  [[nodiscard]] value_id value_of(const X& x) {
    if constexpr (contains<typename X::keys, keys::capture>) {
      const keys::capture::state& s = x.template state<keys::capture>();
      if (s.capture == number_) {
        if (!same_shape(to_->spec(s.value), x.spec())) {
          throw capture_error("a view", "the tensor's geometry was changed outside of an operator",
                              ashlar::detail::site.at);
        }
        return s.value;
      }
      if (s.capture != 0 && !(listener_ != nullptr && listener_->give_elements(*x.body()))) {
        throw capture_error("a tensor", "it belongs to another capture", ashlar::detail::site.at);
      }
      if (x.body()->root().data == nullptr && x.size() > 0) {  // made while elements are withheld
        const value_id v =
            record(refer_to(detail::blank<X>::instance), {}, {attribute(shape(x.shape()))})[0];
        mark(x, v);
        return v;
      }
    }
    return parameter(x);
  }
  [[nodiscard]] value_id parameter(const tensor_handle& x) {
    std::vector<value_id>& known = parameters_[&x.body()->root()];
    for (const value_id v : known) {
      if (to_->spec(v) == x.spec()) {
        return v;
      }
    }
    const auto called = names_.find(x.bytes());
    if (listener_ != nullptr && listener_->is_argument(x)) {
      const auto count = to_->made_by(node_kind::placeholder).size();
      const std::int32_t place =
          to_->add({.kind = node_kind::placeholder, .name = "x" + std::to_string(count)},
                   std::array{x.spec()});
      known.push_back(to_->nodes[static_cast<std::size_t>(place)].out[0]);
      return known.back();
    }
    const std::int32_t place =
        to_->add({.kind = node_kind::parameter,
                  .name = called != names_.end() ? called->second
                                                 : "p" + std::to_string(parameters_.size() - 1),
                  .data = x,
                  .where = ashlar::detail::site.at},
                 std::array{x.spec()});
    known.push_back(to_->nodes[static_cast<std::size_t>(place)].out[0]);
    return known.back();
  }
  std::vector<value_id> record(operation_ref op, std::vector<value_id> in,
                               std::vector<attribute> attributes) {
    return to_->call(std::move(op), std::move(in), std::move(attributes), ashlar::detail::site.at);
  }

 private:
  static recorder*& active() {
    static constinit thread_local recorder* r = nullptr;
    return r;
  }
  static ashlar::detail::call_site& detail_site() { return ashlar::detail::site; }

  graph* to_;
  listener* listener_;
  recorder* before_;
  bool site_;
  std::uint64_t number_ = 0;
  std::unordered_map<const tensor_body*, std::vector<value_id>> parameters_;
  std::unordered_map<const std::byte*, std::string> names_;
};

}  // namespace graph

inline void keys::capture::state::demand(std::string_view op, tensor_body& b) {
  const graph::recorder* const to = graph::recorder::current();
  if (to != nullptr && to->heard_by() != nullptr && to->heard_by()->give_elements(b)) {
    return;
  }
  throw graph::capture_error(
      op,
      "the elements of a captured tensor are not there to be read; return it, or break "
      "the function in two here with graph::breakable",
      detail::site.at);
}

inline bool keys::capture::withholds() { return graph::recorder::current() != nullptr; }

}  // namespace ashlar

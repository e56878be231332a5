// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "ashlar/core/detail/pool.hpp"
#include "ashlar/core/ref.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/view.hpp"

namespace ashlar {

/// Sorted list of keys; `dispatch/keys.hpp` builds it. Core only carries it in types.
template <class... Keys>
struct key_set {};

template <class Set, class Key>
inline constexpr bool contains = false;
template <class... K, class Key>
inline constexpr bool contains<key_set<K...>, Key> = (std::is_same_v<K, Key> || ...);

template <class A, class B>
inline constexpr bool is_subset = false;
template <class... K, class B>
inline constexpr bool is_subset<key_set<K...>, B> = (contains<B, K> && ...);

/// What a key keeps in every tensor that carries it: the key's nested `state`, if it has one.
///
/// A state may have `added_to(tensor_body& root)`, called where the key comes to elements that were
/// made without it, and `left(tensor_body&)`, called where a tensor without elements is to do
/// without the key: it brings elements or throws.
template <class Key>
struct key_state {};
template <class Key>
  requires requires { typename Key::state; }
struct key_state<Key> : Key::state {};

/// Address that stands for a key at run time.
template <class Key>
inline constexpr char key_id = 0;

struct tensor_body;

/// The key set of a body at run time: how to find a key's state, how to free the body.
struct body_type {
  void* (*state)(tensor_body&, const char* key) noexcept;
  void (*destroy)(tensor_body&) noexcept;
  void (*left)(tensor_body&);  ///< null where no key has a word
};

/// Elements on some chip and how to walk them. Handles share it; a view's body leads to its base.
///
/// Geometry and key states live here and not in the handle: a handle is then one word to return,
/// save and queue, and it loses nothing when its static type is forgotten.
struct tensor_body {
  std::atomic<std::uint32_t> references{1};
  std::uint32_t version = 0;      ///< in-place writes so far; counted in the base
  std::uint32_t epoch = 0;        ///< recorded in-place writes so far; counted in the base
  std::uint16_t block_bytes = 0;  ///< of the block that holds this body
  std::uint16_t ordinal = 0;      ///< the device of the chip that has the elements
  const body_type* type;
  std::byte* data = nullptr;  ///< an address on the chip, not always one the host may read
  std::size_t bytes = 0;      ///< of the elements; 0 in a view
  void (*release)(void* owner, std::byte*, std::size_t) noexcept = nullptr;
  void* owner = nullptr;  ///< the allocator that `release` gives the elements back to
  ref<tensor_body> base;  ///< whose elements these are; null: its own
  ref<counted> history;   ///< what recorded the last in-place write
  tensor_spec spec;

  tensor_body(const body_type& t, const tensor_spec& s, std::uint16_t block)
      : block_bytes(block), type(&t), spec(s) {}
  tensor_body(const tensor_body&) = delete;
  tensor_body& operator=(const tensor_body&) = delete;

  tensor_body& root() noexcept { return base ? *base : *this; }
  void dispose() noexcept {
    if (release != nullptr) {
      release(owner, data, bytes);
    }
    type->destroy(*this);
  }

 protected:
  ~tensor_body() = default;
};

/// A body with the states of its keys.
template <class Keys>
struct body_of;
template <class... Keys>
struct body_of<key_set<Keys...>> final : tensor_body, key_state<Keys>... {
  static const body_type runtime_type;

  /// A body alone: `data` is the caller's to set.
  static body_of* make(const tensor_spec& s) {
    return ::new (detail::object_pool::take(sizeof(body_of))) body_of(s, sizeof(body_of));
  }
  /// A body with room for `bytes` bytes of elements behind it: one block in place of two.
  /// Requires: `bytes` is at most 32 KiB.
  static body_of* make_with_elements(const tensor_spec& s, std::size_t bytes) {
    constexpr std::size_t start = (sizeof(body_of) + 63) / 64 * 64;
    void* block = detail::object_pool::take(start + bytes);
    auto* body = ::new (block) body_of(s, start + bytes);
    body->data = static_cast<std::byte*>(block) + start;
    body->bytes = bytes;
    return body;
  }
  /// Another look at `of`'s elements, with the states of the keys that both have.
  static body_of* alias(const tensor_spec& s, tensor_body& of, std::size_t element_bytes) {
    if (of.data == nullptr && of.type->left != nullptr && runtime_type.left == nullptr)
        [[unlikely]] {
      of.type->left(of);
    }
    body_of* b = make(s);
    b->base = ref<tensor_body>::share(&of.root());
    b->ordinal = of.ordinal;
    if (b->base->data != nullptr) {  // a chip without memory has no elements to point to
      b->data = b->base->data + s.offset * static_cast<std::ptrdiff_t>(element_bytes);
    }
    (b->template take_state<Keys>(of), ...);
    return b;
  }

 private:
  body_of(const tensor_spec& s, std::size_t block)
      : tensor_body(runtime_type, s, static_cast<std::uint16_t>(block)) {}

  template <class Key>
  void take_state(tensor_body& of) {
    if (void* theirs = of.type->state(of, &key_id<Key>)) {
      static_cast<key_state<Key>&>(*this) = *static_cast<key_state<Key>*>(theirs);
    } else if constexpr (requires(key_state<Key>& s) { s.added_to(of); }) {
      static_cast<key_state<Key>&>(*this).added_to(of.root());
    }
  }
  static void* find(tensor_body& b, [[maybe_unused]] const char* key) noexcept {
    void* found = nullptr;
    ((key == &key_id<Keys> ? void(found = static_cast<key_state<Keys>*>(static_cast<body_of*>(&b)))
                           : void()),
     ...);
    return found;
  }
  template <class Key>
  static constexpr bool has_a_word = requires(key_state<Key>& s, tensor_body& b) { s.left(b); };
  static void leave(tensor_body& b) {
    const auto one = [&]<class Key>(key_state<Key>& s) {
      if constexpr (has_a_word<Key>) {
        s.left(b);
      }
    };
    (one.template operator()<Keys>(static_cast<body_of&>(b)), ...);
  }
  static constexpr auto left() { return (has_a_word<Keys> || ...) ? &leave : nullptr; }
  static void destroy(tensor_body& b) noexcept {
    const std::size_t block = b.block_bytes;
    static_cast<body_of&>(b).~body_of();
    detail::object_pool::give(&b, block);
  }
};
template <class... Keys>
inline constexpr body_type body_of<key_set<Keys...>>::runtime_type{&find, &destroy, left()};

/// What a tensor is once its element type and keys are forgotten.
class tensor_handle {
 public:
  tensor_handle() = default;
  explicit tensor_handle(ref<tensor_body> body) : body_(std::move(body)) {}

  [[nodiscard]] const tensor_spec& spec() const { return body_->spec; }
  [[nodiscard]] std::byte* bytes() const { return body_->data; }
  [[nodiscard]] tensor_body* body() const { return body_.get(); }
  /// Whether it is a tensor at all; a default-constructed handle is none.
  explicit operator bool() const { return static_cast<bool>(body_); }

  [[nodiscard]] std::span<const std::int64_t> shape() const { return body_->spec.shape(); }
  [[nodiscard]] std::int64_t extent(int axis) const { return body_->spec[axis]; }
  [[nodiscard]] std::int64_t size() const { return body_->spec.size; }
  [[nodiscard]] int rank() const { return body_->spec.rank; }
  /// Which device of its chip has the elements.
  [[nodiscard]] int ordinal() const { return body_->ordinal; }
  [[nodiscard]] bool contiguous() const { return body_->spec.contiguous; }

 private:
  ref<tensor_body> body_;
};

namespace detail {
template <class X>
struct handed_over;
/// Which infix operator.
template <char>
struct sign {};
}  // namespace detail

/// Handle to elements of type `T`; the keys in its type decide which kernels its calls reach.
///
/// Copies are the same tensor. Adding keys is implicit (their states start empty) and makes an
/// alias; taking one away is written out: `without<Key>(x)`.
template <class T, class Keys>
class tensor : public tensor_handle {
 public:
  static_assert(Scalar<T>,
                "ashlar::tensor<T, Keys>: T must be an element type of the library; see "
                "ashlar::scalar_types");
  using value_type = T;
  using keys = Keys;

  tensor() = default;
  explicit tensor(body_of<Keys>* adopted) : tensor_handle(ref<tensor_body>(adopted)) {}
  /// Gives a handle its type back; a body that was made for other keys is aliased.
  /// Requires: the elements are of type `T`, on the chip of `Keys`.
  explicit tensor(tensor_handle x)
      : tensor_handle(x.body() == nullptr || x.body()->type == &body_of<Keys>::runtime_type
                          ? std::move(x)
                          : aliased(x)) {}
  template <class Fewer>
    requires(is_subset<Fewer, Keys> && !is_subset<Keys, Fewer>)
  tensor(const tensor<T, Fewer>& x) : tensor_handle(x ? aliased(x) : tensor_handle()) {}

  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(bytes()); }
  [[nodiscard]] ashlar::view<T> view() const { return {data(), &spec()}; }

  /// What `Key` keeps in this tensor.
  template <class Key>
    requires contains<Keys, Key>
  [[nodiscard]] key_state<Key>& state() const {
    return *static_cast<body_of<Keys>*>(body());
  }

  // Infix calls, which `ops/operators.hpp` answers. They stand here because an operand notes where
  // the call stands in the user's code while it is converted, and only a function that does not
  // have to find out its type converts it.
  template <class U, class L>
  friend auto operator+(const tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_call(detail::sign<'+'>{}, a, b);
  }
  template <class U, class L>
  friend auto operator-(const tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_call(detail::sign<'-'>{}, a, b);
  }
  template <class U, class L>
  friend auto operator*(const tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_call(detail::sign<'*'>{}, a, b);
  }
  template <class U, class L>
  friend auto operator/(const tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_call(detail::sign<'/'>{}, a, b);
  }
  friend auto operator-(detail::handed_over<tensor> x) { return infix_negative(x); }
  template <class U, class L>
  friend tensor<U, L>& operator+=(tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_assign(detail::sign<'+'>{}, a, b);
  }
  template <class U, class L>
  friend tensor<U, L>& operator-=(tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_assign(detail::sign<'-'>{}, a, b);
  }
  template <class U, class L>
  friend tensor<U, L>& operator*=(tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_assign(detail::sign<'*'>{}, a, b);
  }
  template <class U, class L>
  friend tensor<U, L>& operator/=(tensor<U, L>& a, detail::handed_over<tensor> b) {
    return infix_assign(detail::sign<'/'>{}, a, b);
  }

 private:
  static tensor_handle aliased(const tensor_handle& x) {
    return tensor_handle(ref<tensor_body>(body_of<Keys>::alias(x.spec(), *x.body(), sizeof(T))));
  }
};

}  // namespace ashlar

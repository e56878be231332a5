// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <string>
#include <string_view>

namespace ashlar::graph::detail {

/// Whether a function of a C++ file may have this name, which is in ASCII.
inline bool is_identifier(std::string_view name) {
  constexpr std::string_view keywords =
      " alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t"
      " char16_t char32_t class compl concept const consteval constexpr constinit const_cast"
      " continue co_await co_return co_yield decltype default delete do double dynamic_cast else"
      " enum explicit export extern false float for friend goto if inline int long mutable"
      " namespace new noexcept not not_eq nullptr operator or or_eq private protected public"
      " register reinterpret_cast requires return short signed sizeof static static_assert"
      " static_cast struct switch template this thread_local throw true try typedef typeid"
      " typename union unsigned using virtual void volatile wchar_t while xor xor_eq main ";
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && !digit(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || digit(c); }) &&
         keywords.find(" " + std::string(name) + " ") == std::string_view::npos;
}

}  // namespace ashlar::graph::detail

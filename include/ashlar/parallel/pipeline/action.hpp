// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace ashlar::parallel::pipeline {

/// What a rank does to a stage of the model.
enum class work : std::uint8_t {
  forward,          ///< of one micro-batch
  input_gradient,   ///< the part of the backward pass that the stage before waits for
  weight_gradient,  ///< the part that nobody but the optimizer waits for
  backward,         ///< both at once
  send_f,           ///< sends a forward pass's output to the next stage
  recv_f,           ///< takes a forward pass's input from the stage before
  send_b,           ///< sends an input gradient to the stage before
  recv_b,           ///< takes an output gradient from the next stage
  unshard,          ///< gathers the stage's parameters
  reshard,          ///< gives them up again
  reduce_grad       ///< reduces the stage's gradients over replicas
};

/// The letters of PyTorch's schedules, in the order of `work`.
inline constexpr std::array<std::string_view, 11> work_names = {
    "F",      "I",      "W",       "B",       "SEND_F",     "RECV_F",
    "SEND_B", "RECV_B", "UNSHARD", "RESHARD", "REDUCE_GRAD"};

/// Whether it is done once per micro-batch.
constexpr bool of_micro_batch(work w) { return w < work::unshard; }
/// Whether it is computation, and not communication.
constexpr bool computes(work w) { return w <= work::backward; }
/// Whether it moves a tensor between two stages.
constexpr bool transfers(work w) { return w >= work::send_f && w <= work::recv_b; }

/// One thing that a rank does: `2F0` is the forward pass of micro-batch 0 through stage 2.
struct action {
  int stage = 0;
  work what = work::forward;
  int micro_batch = -1;  ///< -1 where it is not of a micro-batch

  friend constexpr auto operator<=>(const action&, const action&) = default;
};

/// Returns: the action as PyTorch writes it, `[stage][letters][micro-batch]`.
[[nodiscard]] inline std::string text_of(const action& a) {
  std::string text = std::to_string(a.stage);
  text += work_names[static_cast<std::size_t>(a.what)];
  if (of_micro_batch(a.what)) {
    text += std::to_string(a.micro_batch);
  }
  return text;
}

/// The reverse of `text_of`; nothing where `text` is no action.
[[nodiscard]] inline std::optional<action> parse_action(std::string_view text) {
  const auto number = [&text](int& into) {
    if (text.empty() || text.front() < '0' || text.front() > '9') {  // no sign
      return false;
    }
    const auto read = std::from_chars(text.data(), text.data() + text.size(), into);
    if (read.ec != std::errc{}) {
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
    return true;
  };
  action a;
  if (!number(a.stage)) {
    return std::nullopt;
  }
  const std::string_view letters = text.substr(0, text.find_first_of("0123456789"));
  for (std::size_t w = 0; w < work_names.size(); ++w) {
    if (letters == work_names[w]) {
      a.what = static_cast<work>(w);
      text.remove_prefix(letters.size());
      const bool read = of_micro_batch(a.what) ? number(a.micro_batch) : true;
      return read && text.empty() ? std::optional(a) : std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace ashlar::parallel::pipeline

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/parallel/pipeline/action.hpp"

namespace ashlar::parallel::pipeline {

/// A schedule that no run could follow, whatever the others do.
struct invalid_schedule final : error {
  int rank;      ///< -1 where no single rank is at fault
  int position;  ///< of the action in its list, from 0; -1 where something is missing
  std::string reason;

  invalid_schedule(int on_rank, int at, std::string why,
                   std::source_location where = std::source_location::current())
      : error(where), rank(on_rank), position(at), reason(std::move(why)) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::parallel::pipeline";
    if (rank >= 0) {
      text += ": rank " + std::to_string(rank);
    }
    if (position >= 0) {
      text += ", action " + std::to_string(position);
    }
    return text + ": " + reason;
  }
};

/// Ranks that wait for each other for ever.
struct deadlock final : error {
  struct wait {
    int rank;
    int position;  ///< of the action in its list, from 0
    action at;     ///< what the rank cannot do
    action needs;  ///< before this was done
    friend bool operator==(const wait&, const wait&) = default;
  };
  std::vector<wait> waiting;  ///< every rank that has not ended, by rank

  explicit deadlock(std::vector<wait> who,
                    std::source_location where = std::source_location::current())
      : error(where), waiting(std::move(who)) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::parallel::pipeline: the schedule comes to a halt:";
    const char* separator = " ";
    for (const wait& w : waiting) {
      text += separator;
      separator = "; ";
      text += "rank " + std::to_string(w.rank) + " waits at " + text_of(w.at) + " for " +
              text_of(w.needs);
    }
    return text;
  }
};

}  // namespace ashlar::parallel::pipeline

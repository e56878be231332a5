// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"

namespace ashlar::parallel {

/// A backward pass did not reach some parameters, so their gradients cannot be averaged.
struct unused_parameters final : error {
  int rank;
  std::vector<std::string> names;
  const char* who;

  unused_parameters(int on_rank, std::vector<std::string> parameters, const char* entity = "ddp",
                    std::source_location where = std::source_location::current())
      : error(where), rank(on_rank), names(std::move(parameters)), who(entity) {}

 private:
  [[nodiscard]] std::string message() const override {
    std::string text = "ashlar::parallel::" + std::string(who) + ": rank " + std::to_string(rank) +
                       ": the backward pass did not reach";
    for (const std::string& name : names) {
      text += " '" + name + "'";
    }
    return text + "; use them, freeze them, or give ddp unused::zero and call finish()";
  }
};

/// A rank whose module or options are not those of rank 0.
struct replica_mismatch final : error {
  int rank;
  std::string difference;  ///< the first parameter, by its name on this rank, or what else differs

  replica_mismatch(int on_rank, std::string differs_in,
                   std::source_location where = std::source_location::current())
      : error(where), rank(on_rank), difference(std::move(differs_in)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::parallel: rank " + std::to_string(rank) + " differs from rank 0 in " +
           difference + "; every rank must make the same module with the same options";
  }
};

}  // namespace ashlar::parallel

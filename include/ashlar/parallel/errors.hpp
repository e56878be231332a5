// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
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
    return text + (who == std::string_view("ddp")
                       ? "; use them, freeze them, or give ddp unused::zero and call finish()"
                       : "; use them or freeze them");
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

/// A tensor parallel group among whose ranks attention cannot be divided.
struct too_few_heads final : error {
  std::int64_t heads, kv_heads;
  int ranks;

  too_few_heads(std::int64_t queries, std::int64_t keys, int size,
                std::source_location where = std::source_location::current())
      : error(where), heads(queries), kv_heads(keys), ranks(size) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::parallel: " + std::to_string(heads) + " heads over " +
           std::to_string(kv_heads) + " heads of keys for " + std::to_string(ranks) +
           " tensor parallel ranks; there must be a head of keys for each, or the latter divide "
           "the ranks and these the heads";
  }
};

}  // namespace ashlar::parallel

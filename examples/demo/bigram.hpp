// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace demo {

/// The yardstick: p(b | a) = l0 / V + l1 p(b) + l2 count(a b) / count(a).
///
/// The weights come from expectation maximisation on a tenth of the tokens that the counts leave
/// out; the counts then take in all of them. Source: Jelinek and Mercer (1980).
class interpolated_bigram {
 public:
  interpolated_bigram(std::span<const std::int32_t> tokens, std::size_t vocabulary)
      : vocabulary_(static_cast<double>(vocabulary)), single_(vocabulary) {
    const std::size_t cut = tokens.size() - tokens.size() / 10;
    count(tokens.first(cut));
    const auto rest = tokens.subspan(cut);
    for (int round = 0; round < 30; ++round) {
      std::array<double, 3> share{1e-9, 1e-9, 1e-9};
      for (std::size_t i = 1; i < rest.size(); ++i) {
        const auto terms = weighted(rest[i - 1], rest[i]);
        const double all = terms[0] + terms[1] + terms[2];
        for (std::size_t k = 0; k < 3; ++k) {
          share[k] += terms[k] / all;
        }
      }
      const double all = share[0] + share[1] + share[2];
      for (std::size_t k = 0; k < 3; ++k) {
        weight_[k] = share[k] / all;
      }
    }
    count(rest);
  }

  /// Mean negative log-likelihood per token, in nats.
  [[nodiscard]] double loss(std::span<const std::int32_t> tokens) const {
    double sum = 0;
    for (std::size_t i = 1; i < tokens.size(); ++i) {
      const auto terms = weighted(tokens[i - 1], tokens[i]);
      sum -= std::log(terms[0] + terms[1] + terms[2]);
    }
    return tokens.size() < 2 ? 0 : sum / static_cast<double>(tokens.size() - 1);
  }

 private:
  static std::uint64_t pair(std::int32_t a, std::int32_t b) {
    return std::uint64_t{static_cast<std::uint32_t>(a)} << 32 | static_cast<std::uint32_t>(b);
  }
  void count(std::span<const std::int32_t> tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      ++single_[static_cast<std::size_t>(tokens[i])];
      ++total_;
      if (i > 0) {
        ++pairs_[pair(tokens[i - 1], tokens[i])];
      }
    }
  }
  [[nodiscard]] std::array<double, 3> weighted(std::int32_t a, std::int32_t b) const {
    const auto found = pairs_.find(pair(a, b));
    const double both = found == pairs_.end() ? 0 : found->second;
    const double before = single_[static_cast<std::size_t>(a)];
    return {weight_[0] / vocabulary_, weight_[1] * single_[static_cast<std::size_t>(b)] / total_,
            before == 0 ? 0 : weight_[2] * both / before};
  }

  double vocabulary_;
  double total_ = 0;
  std::vector<double> single_;
  std::unordered_map<std::uint64_t, double> pairs_;
  std::array<double, 3> weight_{0.1, 0.3, 0.6};
};

}  // namespace demo

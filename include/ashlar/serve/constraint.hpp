// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/serve/byte_regex.hpp"
#include "ashlar/serve/sampling.hpp"

namespace ashlar::serve {

/// A `mask_source` that keeps the output within a regular expression.
///
/// Allowed are tokens after which the text can still come to match, and, where it matches, `ends`.
/// Copies share what they have learnt, so one for all requests is enough; not for use from several
/// threads at once.
/// Requires: tokens can spell whatever the expression asks for; else a text may come to where no
///           token is allowed, and its request fails with `bad_logits`.
/// Cost:     a call walks through the text; a state that is met first costs a walk through all
///           tokens.
class regex_constraint {
 public:
  /// `pieces`: the bytes of each token, none for those that are no text.
  /// Throws: `argument_error` where one of `ends` is none of them.
  regex_constraint(byte_regex pattern, std::vector<std::string> pieces, std::vector<token> ends)
      : shared_(std::make_shared<shared>(
            shared{std::move(pattern), std::move(pieces), std::move(ends), {}})) {
    for (const token t : shared_->ends) {
      if (t < 0 || t >= std::ssize(shared_->pieces)) {
        throw argument_error("ashlar::serve::regex_constraint",
                             "ends hold " + std::to_string(t) + "; there are pieces of " +
                                 std::to_string(shared_->pieces.size()) + " tokens");
      }
    }
  }

  const token_mask* operator()(std::span<const token> generated) const {
    byte_regex::state s = shared_->pattern.start();
    for (const token t : generated) {
      s = shared_->pattern.next(s, shared_->pieces[static_cast<std::size_t>(t)]);
    }
    return &mask_of(s);
  }

 private:
  struct shared {
    byte_regex pattern;
    std::vector<std::string> pieces;
    std::vector<token> ends;
    std::unordered_map<byte_regex::state, token_mask> masks;
  };

  [[nodiscard]] const token_mask& mask_of(byte_regex::state s) const {
    const auto known = shared_->masks.find(s);
    if (known != shared_->masks.end()) {
      return known->second;
    }
    token_mask mask(std::ssize(shared_->pieces));
    for (std::size_t id = 0; id < shared_->pieces.size(); ++id) {
      const std::string& piece = shared_->pieces[id];
      if (!piece.empty() && shared_->pattern.next(s, piece) != byte_regex::dead) {
        mask.allow(static_cast<token>(id));
      }
    }
    for (const token t : shared_->ends) {
      if (shared_->pattern.accepts(s)) {
        mask.allow(t);
      } else {
        mask.forbid(t);
      }
    }
    return shared_->masks.emplace(s, std::move(mask)).first->second;
  }

  std::shared_ptr<shared> shared_;
};

}  // namespace ashlar::serve

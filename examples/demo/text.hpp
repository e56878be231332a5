// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace demo {

/// A text in two parts: what the model learns from, and what it is judged by.
struct corpus {
  std::string training;
  std::string held_out;
};

/// Reads `file`, or the library's own headers and documentation where it is empty.
///
/// One piece of 4 KiB in twenty, spread evenly, is held out.
/// Throws: `std::runtime_error` naming what cannot be read.
corpus read_corpus(const std::string& file);

}  // namespace demo

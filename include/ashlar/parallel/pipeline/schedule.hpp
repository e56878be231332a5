// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ashlar/core/error.hpp"
#include "ashlar/parallel/pipeline/action.hpp"

namespace ashlar::parallel::pipeline {

/// What every rank of a pipeline does in one step, in order.
///
/// A stage belongs to the rank that computes it. Where no list has a transfer, a result goes to the
/// next stage by itself as soon as it is there; `with_transfers` writes that out.
struct schedule {
  std::vector<std::vector<action>> ranks;

  friend bool operator==(const schedule&, const schedule&) = default;
};

/// A cell of a schedule's table that is no action.
struct syntax_error final : error {
  int row;     ///< from 1
  int column;  ///< from 1
  std::string cell;

  syntax_error(int in_row, int in_column, std::string text,
               std::source_location where = std::source_location::current())
      : error(where), row(in_row), column(in_column), cell(std::move(text)) {}

 private:
  [[nodiscard]] std::string message() const override {
    return "ashlar::parallel::pipeline::parse_csv: row " + std::to_string(row) + ", cell " +
           std::to_string(column) + ": '" + cell +
           "' is no action; write stage, letters and micro-batch, such as 2F0, 1UNSHARD or "
           "3SEND_F1";
  }
};

/// Returns: a table with a row per rank, as PyTorch's schedules read and write it.
[[nodiscard]] inline std::string to_csv(const schedule& s) {
  std::string text;
  for (const auto& rank : s.ranks) {
    for (const action& a : rank) {
      if (&a != rank.data()) {
        text += ',';
      }
      text += text_of(a);
    }
    text += '\n';
  }
  return text;
}

/// Reads what `to_csv` writes; empty cells, which some writers leave for idle time, are passed
/// over.
///
/// Throws: `syntax_error`. Whether the actions make a schedule is for `validate`.
[[nodiscard]] inline schedule parse_csv(std::string_view text) {
  schedule s;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    auto& rank = s.ranks.emplace_back();
    for (int column = 1;; ++column) {
      const std::size_t comma = std::min(line.find(','), line.size());
      std::string_view cell = line.substr(0, comma);
      const std::size_t first = cell.find_first_not_of(" \t\r");
      cell = first == cell.npos ? std::string_view{}
                                : cell.substr(first, cell.find_last_not_of(" \t\r") + 1 - first);
      if (!cell.empty()) {
        const auto read = parse_action(cell);
        if (!read) {
          throw syntax_error(static_cast<int>(s.ranks.size()), column, std::string(cell));
        }
        rank.push_back(*read);
      }
      if (comma == line.size()) {
        break;
      }
      line.remove_prefix(comma + 1);
    }
  }
  return s;
}

}  // namespace ashlar::parallel::pipeline

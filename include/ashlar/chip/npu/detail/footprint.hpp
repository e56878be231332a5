// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace ashlar::chip::npu_isa::detail {

/// The bytes that an access touches: `rows` x `cols` runs of `run` bytes, at steps that may be
/// anything.
struct footprint {
  std::int64_t base = 0;
  std::int64_t rows = 0, cols = 0;
  std::int64_t row_step = 0, col_step = 0;  // not negative, col_step <= row_step where both count
  std::int64_t run = 0;

  /// A box of elements of `size` bytes whose strides are in bytes.
  static footprint of_box(std::int64_t base, std::int64_t rows, std::int64_t cols,
                          std::int64_t row_step, std::int64_t col_step, std::int64_t size) {
    if (rows <= 0 || cols <= 0) {
      return {};
    }
    footprint f{base, rows, cols, row_step, col_step, size};
    f.base += row_step < 0 ? (rows - 1) * row_step : 0;
    f.base += col_step < 0 ? (cols - 1) * col_step : 0;
    f.row_step = row_step < 0 ? -row_step : row_step;
    f.col_step = col_step < 0 ? -col_step : col_step;
    f.simplify();
    return f;
  }

  [[nodiscard]] bool empty() const { return run == 0; }
  [[nodiscard]] std::int64_t first() const { return base; }
  [[nodiscard]] std::int64_t last() const {
    return empty() ? base : base + (rows - 1) * row_step + (cols - 1) * col_step + run;
  }
  friend bool operator==(const footprint&, const footprint&) = default;

  /// Calls `f(first, last)` for each run.
  template <class F>
  void for_each_run(const F& f) const {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < cols; ++j) {
        const std::int64_t at = base + i * row_step + j * col_step;
        f(at, at + run);
      }
    }
  }

 private:
  void simplify() {
    cols = col_step == 0 ? 1 : cols;
    rows = row_step == 0 ? 1 : rows;
    if (rows == 1 || (cols > 1 && col_step > row_step)) {
      std::swap(rows, cols);
      std::swap(row_step, col_step);
    }
    if (cols > 1 && col_step <= run) {  // elements side by side are one run
      run += (cols - 1) * col_step;
      cols = 1;
    }
    if (cols == 1 && rows > 1 && row_step <= run) {
      run += (rows - 1) * row_step;
      rows = 1;
    }
    col_step = cols == 1 ? 0 : col_step;
    row_step = rows == 1 ? 0 : row_step;
  }
};

/// True where the two have a byte in common.
///
/// Cost: constant where their bounds are apart, else linear in their runs (with a sort where the
///   runs of one are not in order).
inline bool overlap(const footprint& a, const footprint& b) {
  if (a.empty() || b.empty() || a.last() <= b.first() || b.last() <= a.first()) {
    return false;
  }
  if (a.rows == 1 && a.cols == 1 && b.rows == 1 && b.cols == 1) {
    return true;
  }
  const auto runs = [](const footprint& f) {
    std::vector<std::pair<std::int64_t, std::int64_t>> all;
    all.reserve(static_cast<std::size_t>(f.rows * f.cols));
    f.for_each_run([&](std::int64_t first, std::int64_t last) { all.emplace_back(first, last); });
    if (f.cols > 1) {
      std::sort(all.begin(), all.end());
    }
    return all;
  };
  const auto left = runs(a);
  const auto right = runs(b);
  for (std::size_t i = 0, j = 0; i < left.size() && j < right.size();) {
    if (left[i].second <= right[j].first) {
      ++i;
    } else if (right[j].second <= left[i].first) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

}  // namespace ashlar::chip::npu_isa::detail

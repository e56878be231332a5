// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ashlar/core/tensor.hpp"
#include "ashlar/graph/graph.hpp"

/// Random graphs for tests of passes and backends, compiled once in the file beside this.
namespace ashlar::testing {

struct random_graph_options {
  int calls = 14;         ///< calls of the function that is captured
  bool in_place = true;   ///< writes to values, views, arguments and parameters
  bool integers = true;   ///< int32 and bool beside float
  bool products = true;   ///< matrix products
  bool views = true;      ///< views and reshapes
  std::int64_t most = 7;  ///< of an extent; extents are 0, 1 and primes up to it
};

/// What a run leaves: the bits of each tensor in row-major order, its type and shape as text.
struct left_tensor {
  std::string type;
  std::vector<std::byte> elements;

  friend bool operator==(const left_tensor&, const left_tensor&) = default;
};
/// Results first, then the arguments and the parameters as they are afterwards.
using run_result = std::vector<left_tensor>;

/// A function of random calls on the host, captured, and what it runs on.
///
/// Two float placeholders, one of int32 and one of bool; float parameters. The same seed and
/// options give the same one.
class random_graph {
 public:
  explicit random_graph(std::uint64_t seed, const random_graph_options& options = {});

  graph::graph captured;

  /// Copies of the arguments, in the order of the placeholders.
  [[nodiscard]] std::vector<tensor_handle> arguments() const;
  /// Puts back what the parameters were before the first run.
  void reset() const;
  /// Runs `g`, this graph or what passes made of it, by the interpreter, on the first values.
  [[nodiscard]] run_result run(const graph::graph& g) const;
  /// Runs the function itself, without a graph.
  [[nodiscard]] run_result run_eagerly() const;
  /// `results` of any way to run the graph with `given` arguments, with what it left in those.
  [[nodiscard]] run_result look_at(const std::vector<tensor_handle>& results,
                                   const std::vector<tensor_handle>& given) const;

 private:
  std::uint64_t seed_;
  random_graph_options options_;
  std::vector<tensor_handle> arguments_, parameters_;
  std::vector<std::vector<std::byte>> first_;  // of the parameters
};

/// A tensor's type, shape and elements. Requires: it is on the host.
[[nodiscard]] left_tensor bits_of(const tensor_handle& x);

}  // namespace ashlar::testing

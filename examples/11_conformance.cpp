// SPDX-License-Identifier: Apache-2.0
// Which operators are right on a chip? The conformance kit on the chip of toy_chip.hpp.
//   --op softmax --dtype float32 --sample 17     runs one sample again
//   --json FILE, --html FILE                     write the table there, too
#include <ashlar/conformance.hpp>

#include "toy_chip.hpp"

using stack = al::stack<al::on<toy>>;

int main(int argc, char** argv) {
  // The toy's translator lacks some operations of tile programs, and says so by this exception.
  const al::conformance::options options{.means_unsupported = [](const std::exception& e) {
    const auto* refused = dynamic_cast<const al::argument_error*>(&e);
    return refused != nullptr && refused->entity == "toy";
  }};
  return al::conformance::program<stack, al::conformance::types<float>>(argc, argv, options);
}

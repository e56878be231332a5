// SPDX-License-Identifier: Apache-2.0
// What a user of the package compiles first; every route of installation builds and runs it.
#include <ashlar/ashlar.hpp>
#include <ashlar/core/shape.hpp>
#include <ashlar/io.hpp>
#include <ashlar/version.hpp>
#include <cstdio>

int main() {
  ashlar::shape matrix{2};
  matrix.push_back(3);
  std::printf("ashlar %d.%d.%d: rank %d\n", ASHLAR_VERSION_MAJOR, ASHLAR_VERSION_MINOR,
              ASHLAR_VERSION_PATCH, matrix.rank());
  return matrix == ashlar::shape{2, 3} ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>

// The one `main` of every test program. CMake knows where the sources are and where real model
// files lie; tests read both from the environment, and the caller's own setting wins.
int main(int argc, char** argv) {
  ::setenv("ASHLAR_SOURCE", ASHLAR_SOURCE_DIR, 0);
#ifdef ASHLAR_DATA_DIR
  ::setenv("ASHLAR_DATA", ASHLAR_DATA_DIR, 0);
#endif
  return doctest::Context(argc, argv).run();
}

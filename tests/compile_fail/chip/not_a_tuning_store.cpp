// EXPECT-ERROR: Store must model TuningStore
// SPDX-License-Identifier: Apache-2.0
#include "ashlar/chip/autotune.hpp"

struct forgetful {
  struct key {
    const char *chip, *kernel, *shape;
  };
};
void use(ashlar::chip::autotuner<forgetful>& tuner) {
  tuner.run<1, 2>("matmul", {64, 64}, [](auto) {});
}

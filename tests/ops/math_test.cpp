// SPDX-License-Identifier: Apache-2.0
#include "ashlar/ops/math.hpp"

#include <cmath>

#include "ops/twins.hpp"

using namespace twins;

TEST_CASE("ops/math: functions equal those of the C library") {
  check_function_in_both(al::exp, [](double x) { return std::exp(x); });
  check_function_in_both(
      al::log, [](double x) { return std::log(x); }, true);
  check_function_in_both(
      al::sqrt, [](double x) { return std::sqrt(x); }, true);
  check_function_in_both(
      al::rsqrt, [](double x) { return 1 / std::sqrt(x); }, true);
  check_function_in_both(al::tanh, [](double x) { return std::tanh(x); });
  check_function_in_both(al::erf, [](double x) { return std::erf(x); });
}

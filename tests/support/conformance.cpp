// SPDX-License-Identifier: Apache-2.0
#include "support/conformance.hpp"

template struct ashlar::conformance::compiled<>;

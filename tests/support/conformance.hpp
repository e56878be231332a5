// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <doctest/doctest.h>

#include "ashlar/conformance.hpp"

/// The kit, compiled once for all tests that run it.
extern template struct ashlar::conformance::compiled<>;

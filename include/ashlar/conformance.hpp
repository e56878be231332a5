// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/conformance/caller.hpp"
#include "ashlar/conformance/calls.hpp"
#include "ashlar/conformance/check.hpp"
#include "ashlar/conformance/compare.hpp"
#include "ashlar/conformance/report.hpp"
#include "ashlar/conformance/run.hpp"
#include "ashlar/conformance/sample.hpp"
#include "ashlar/conformance/samples.hpp"
#include "ashlar/conformance/values.hpp"

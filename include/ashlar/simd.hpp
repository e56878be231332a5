// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/simd/math.hpp"
#include "ashlar/simd/memory.hpp"
#include "ashlar/simd/reduce.hpp"
#include "ashlar/simd/reg.hpp"
#include "ashlar/simd/vec.hpp"

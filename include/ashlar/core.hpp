// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/core/ceil_div.hpp"
#include "ashlar/core/dtype.hpp"
#include "ashlar/core/error.hpp"
#include "ashlar/core/geometry.hpp"
#include "ashlar/core/philox.hpp"
#include "ashlar/core/ref.hpp"
#include "ashlar/core/shape.hpp"
#include "ashlar/core/spec.hpp"
#include "ashlar/core/tensor.hpp"
#include "ashlar/core/view.hpp"

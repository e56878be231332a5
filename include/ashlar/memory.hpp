// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/memory/caching_allocator.hpp"
#include "ashlar/memory/resource.hpp"

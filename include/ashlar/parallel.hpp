// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/parallel/ddp.hpp"
#include "ashlar/parallel/errors.hpp"
#include "ashlar/parallel/mesh.hpp"
#include "ashlar/parallel/pipeline.hpp"
#include "ashlar/parallel/planner.hpp"

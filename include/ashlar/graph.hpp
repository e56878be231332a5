// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/graph/attribute.hpp"
#include "ashlar/graph/capture.hpp"
#include "ashlar/graph/eager.hpp"
#include "ashlar/graph/graph.hpp"
#include "ashlar/graph/operation.hpp"
#include "ashlar/graph/parse.hpp"
#include "ashlar/graph/passes.hpp"
#include "ashlar/graph/print.hpp"
#include "ashlar/graph/recorder.hpp"
#include "ashlar/graph/typed_operation.hpp"
#include "ashlar/graph/vocabulary.hpp"

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/autograd/backward.hpp"
#include "ashlar/autograd/engine.hpp"
#include "ashlar/autograd/gradcheck.hpp"
#include "ashlar/autograd/hooks.hpp"
#include "ashlar/autograd/node.hpp"
#include "ashlar/autograd/op_node.hpp"
#include "ashlar/autograd/record.hpp"

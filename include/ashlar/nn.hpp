// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/nn/clip.hpp"
#include "ashlar/nn/embedding.hpp"
#include "ashlar/nn/grad_scaler.hpp"
#include "ashlar/nn/hooks.hpp"
#include "ashlar/nn/init.hpp"
#include "ashlar/nn/linear.hpp"
#include "ashlar/nn/module.hpp"
#include "ashlar/nn/norm.hpp"
#include "ashlar/nn/optimizer.hpp"
#include "ashlar/nn/parameter.hpp"
#include "ashlar/nn/schedule.hpp"
#include "ashlar/nn/state_dict.hpp"

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/chip/npu/assemble.hpp"
#include "ashlar/chip/npu/builder.hpp"
#include "ashlar/chip/npu/chip.hpp"
#include "ashlar/chip/npu/description.hpp"
#include "ashlar/chip/npu/disassemble.hpp"
#include "ashlar/chip/npu/encoding.hpp"
#include "ashlar/chip/npu/errors.hpp"
#include "ashlar/chip/npu/instruction.hpp"
#include "ashlar/chip/npu/opcodes.hpp"
#include "ashlar/chip/npu/report.hpp"
#include "ashlar/chip/npu/simulator.hpp"
#include "ashlar/chip/npu/validate.hpp"

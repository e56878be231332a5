// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/tile/builder.hpp"
#include "ashlar/tile/functions.hpp"
#include "ashlar/tile/kernel.hpp"
#include "ashlar/tile/language.hpp"
#include "ashlar/tile/opcode.hpp"
#include "ashlar/tile/print.hpp"
#include "ashlar/tile/program.hpp"
#include "ashlar/tile/structure.hpp"
#include "ashlar/tile/type.hpp"
#include "ashlar/tile/verify.hpp"

// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/gantt.hpp"
#include "ashlar/trace/page.hpp"
#include "ashlar/trace/timeline.hpp"

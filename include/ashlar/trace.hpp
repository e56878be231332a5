// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Timelines, and how tools read them. What draws them is included by itself: `trace/gantt.hpp`,
/// and `trace/page.hpp` for pages of one's own.
#include "ashlar/trace/chrome.hpp"
#include "ashlar/trace/timeline.hpp"

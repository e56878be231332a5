// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdio>
#include <cstdlib>

#include "ashlar/version.hpp"

/// Checks what only a mistake in the calling program can violate; on in debug builds.
///
/// Define it before the first include to send the message elsewhere.
#ifndef ASHLAR_ASSERT
#ifdef NDEBUG
#define ASHLAR_ASSERT(condition, message) static_cast<void>(0)
#else
#define ASHLAR_ASSERT(condition, message) \
  ((condition) ? static_cast<void>(0)     \
               : (std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, message), std::abort()))
#endif
#endif

/// For the few functions whose call would cost more than their body. Without optimisation nothing
/// is gained by copies of a body, and compilers take a fifth longer to make them.
#ifndef ASHLAR_INLINE
#ifdef __OPTIMIZE__
#define ASHLAR_INLINE [[gnu::always_inline]] inline
#else
#define ASHLAR_INLINE inline
#endif
#endif

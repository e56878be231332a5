// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The questions that an allocator's policies answer; `P::kind` says which one `P` does.
namespace ashlar::memory::kinds {

struct size_classes {};  ///< how large is the block that serves a request?
struct segments {};      ///< how much is asked of the chip at once, and which blocks share it?
struct fit {};           ///< which free block serves?
struct split {};         ///< when is a block cut?
struct placement {};     ///< where in a block may a request start?
struct slack {};         ///< how much may be read behind the end?
struct quick {};         ///< which freed blocks wait, whole, for a request of their own size?
struct threads {};       ///< who may call at the same time?
struct trim {};          ///< when does the chip get cached memory back before it is asked for more?
struct record {};        ///< what is written down?

}  // namespace ashlar::memory::kinds

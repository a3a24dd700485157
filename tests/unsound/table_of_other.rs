// SPDX-License-Identifier: GPL-2.0

//! A filesystem has another one's operations on files, which take its inodes for their own.
// error: E0277

#[path = "support/other.rs"]
mod other;

use other::*;

struct Other(ARef<Credential>);

filesystem!([] Other, <Overlay as FileSystem>::RegularFile);

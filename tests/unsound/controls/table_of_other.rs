// SPDX-License-Identifier: GPL-2.0

//! The control of `table_of_other`.

#[path = "../support/other.rs"]
mod other;

use other::*;

struct Other(ARef<Credential>);

filesystem!([] Other, Nothing);

// SPDX-License-Identifier: GPL-2.0

//! A name is looked up in a directory that nobody has locked.
// error: E0624

use crate::{
    overlay::Overlay,
    vfs::{mount::IdMap, OwnDentry},
};
use kernel::prelude::*;

fn misuse(dir: &OwnDentry<Overlay>) -> Result {
    dir.lookup_locked(IdMap::nop(), b"a").map(drop)
}

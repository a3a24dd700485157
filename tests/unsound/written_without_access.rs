// SPDX-License-Identifier: GPL-2.0

//! An entry is made on a mount that may be read-only or frozen.
// error: E0308

use crate::vfs::{
    dirop::{Creating, New},
    Dentry, Mode, Mount,
};
use kernel::prelude::*;

fn misuse(mnt: &Mount, dir: &Dentry) -> Result {
    Creating::start(mnt, dir, b"a")?.create(New::Node(Mode(Mode::REG), 0))?;
    Ok(())
}

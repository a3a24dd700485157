// SPDX-License-Identifier: GPL-2.0

//! A path that may be written to is used after the write access was given back.
// error: E0505

use crate::vfs::{xattr, Dentry, Mount};
use kernel::prelude::*;

fn misuse(mnt: &Mount, dentry: &Dentry) -> Result {
    let write = mnt.want_write()?;
    let path = write.writing().path(dentry)?;
    drop(write);
    xattr::remove(path, c"user.a")
}

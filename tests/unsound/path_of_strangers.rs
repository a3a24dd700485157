// SPDX-License-Identifier: GPL-2.0

//! A path is made of a mount and a dentry of another filesystem.
// error: E0451

use crate::vfs::{mount::PathRef, Dentry, Mount};

fn misuse<'a>(mnt: &'a Mount, dentry: &'a Dentry) -> PathRef<'a> {
    PathRef { mnt, dentry }
}

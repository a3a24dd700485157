// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{mount::PathRef, Dentry, Mount};
use kernel::prelude::*;

fn control<'a>(mnt: &'a Mount, dentry: &'a Dentry) -> Result<PathRef<'a>> {
    mnt.path(dentry)
}

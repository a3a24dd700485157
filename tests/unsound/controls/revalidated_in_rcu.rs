// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{dentry::WalkFlags, Dentry};
use kernel::prelude::*;

fn correct(dentry: &Dentry, flags: WalkFlags) -> Result<bool> {
    dentry.revalidate(flags, false)
}

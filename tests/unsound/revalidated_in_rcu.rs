// SPDX-License-Identifier: GPL-2.0

//! A dentry is asked whether it is valid as in RCU-walk (`LOOKUP_RCU`), which this is not.
// error: E0308

use crate::vfs::Dentry;
use kernel::prelude::*;

fn misuse(dentry: &Dentry) -> Result<bool> {
    dentry.revalidate(1 << 8, false)
}

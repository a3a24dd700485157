// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{rcu::RcuDentry, Mode};

fn control(dentry: RcuDentry<'_>) -> Option<Mode> {
    Some(dentry.inode().ok()?.mode())
}

// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{rcu::RcuPath, Mode};

fn control(dentry: RcuPath<'_>) -> Option<Mode> {
    Some(dentry.inode().ok()?.mode())
}

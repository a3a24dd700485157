// SPDX-License-Identifier: GPL-2.0

//! RCU-walk reads what the filesystem keeps with an inode, which may be evicted.
// error: E0599

use crate::{overlay::Overlay, vfs::rcu::RcuInode};

fn misuse(inode: RcuInode<'_, Overlay>) {
    let _ = inode.data();
}

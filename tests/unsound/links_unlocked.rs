// SPDX-License-Identifier: GPL-2.0

//! A link count is changed without the lock that keeps others from it.
// error: E0599

use crate::{overlay::Overlay, vfs::OwnInode};

fn misuse(inode: &OwnInode<Overlay>) {
    inode.drop_nlink();
}

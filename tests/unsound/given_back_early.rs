// SPDX-License-Identifier: GPL-2.0

//! The references behind an inode are given back while others use them.
// error: E0616

use crate::{overlay::Overlay, vfs::OwnInode};

fn misuse(inode: &OwnInode<Overlay>) {
    for lower in inode.lowers().iter() {
        drop(lower.path);
    }
}

// SPDX-License-Identifier: GPL-2.0

use crate::{overlay::Overlay, vfs::OwnInode};

fn control(inode: &OwnInode<Overlay>) {
    inode.lock_op().drop_nlink();
}

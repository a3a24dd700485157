// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{inode::flags, OwnInode},
};

fn control(inode: &OwnInode<Overlay>) {
    inode.set_flags(flags::CASEFOLD, flags::CASEFOLD);
}

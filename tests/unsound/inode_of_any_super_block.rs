// SPDX-License-Identifier: GPL-2.0

//! An inode of ours is made on the super block of another filesystem.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::{NewInode, SuperBlock},
};
use kernel::prelude::*;

fn misuse(sb: &SuperBlock) -> Result<NewInode<'_, Overlay>> {
    NewInode::unhashed(sb)
}

// SPDX-License-Identifier: GPL-2.0

//! An inode of the mount is kept after the callback that got it.
// error: E0521

use crate::{
    overlay::Overlay,
    vfs::{OwnInode, Ref},
};

fn keep(_: Ref<'static, OwnInode<Overlay>>) {}

fn misuse(inode: &OwnInode<Overlay>) {
    keep(inode.into());
}

// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{OwnInode, Ref},
};

fn use_now(_: Ref<'_, OwnInode<Overlay>>) {}

fn control(inode: &OwnInode<Overlay>) {
    use_now(inode.into());
}

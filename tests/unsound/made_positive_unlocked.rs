// SPDX-License-Identifier: GPL-2.0

//! A negative dentry is made positive by whoever sees it, while another does the same.
// error: E0624

use crate::{
    overlay::Overlay,
    vfs::{OwnDentry, OwnInode, Ref},
};

fn misuse(dentry: &OwnDentry<Overlay>, inode: Ref<'_, OwnInode<Overlay>>) {
    dentry.instantiate(inode);
}

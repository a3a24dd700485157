// SPDX-License-Identifier: GPL-2.0

//! An inode that is being made is shared before it is published, beside exclusive access to its data.
// error: E0277

use crate::{
    overlay::Overlay,
    vfs::{NewInode, OwnInode, Ref},
};

fn misuse<'a>(new: &'a NewInode<'a, Overlay>) -> Ref<'a, OwnInode<Overlay>> {
    new.into()
}

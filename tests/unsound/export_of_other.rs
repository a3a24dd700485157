// SPDX-License-Identifier: GPL-2.0

//! A filesystem has another one's handles, which are made of its inodes as if they were the other one's.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::{
        export::{Encode, ExportTable},
        fs::FileSystem,
        super_block::NewSuper,
        OwnInode,
    },
};
use kernel::prelude::*;

struct Handles;

impl Encode<Overlay> for Handles {
    const KIND: u8 = 1;
    type Handle = [u8; 4];

    fn encode(inode: &OwnInode<Overlay>) -> Result<[u8; 4]> {
        Ok((inode.ino() as u32).to_ne_bytes())
    }
}

fn misuse<F: FileSystem>(sb: &mut NewSuper<'_, F>) {
    sb.set_export(ExportTable::identifiers::<Handles>());
}

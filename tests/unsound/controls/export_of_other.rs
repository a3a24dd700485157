// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{
    export::{Encode, ExportTable},
    fs::FileSystem,
    super_block::NewSuper,
    OwnInode,
};
use kernel::prelude::*;

struct Handles;

impl<F: FileSystem> Encode<F> for Handles {
    const KIND: u8 = 1;
    type Handle = [u8; 4];

    fn encode(inode: &OwnInode<F>) -> Result<[u8; 4]> {
        Ok((inode.ino() as u32).to_ne_bytes())
    }
}

fn control<F: FileSystem>(sb: &mut NewSuper<'_, F>) {
    sb.set_export(ExportTable::identifiers::<Handles>());
}

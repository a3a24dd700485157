// SPDX-License-Identifier: GPL-2.0

//! The dentry of an unnamed file is made positive twice, which is a BUG().
// error: E0382

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{Instantiated, OpenTmpfile, RegularData},
        slab::SlabBox,
        OwnInode, Ref,
    },
};
use kernel::prelude::*;

fn misuse<'a>(
    file: OpenTmpfile<'a, Overlay>,
    inode: Ref<'a, OwnInode<Overlay>>,
    data: [SlabBox<RegularData<Overlay>>; 2],
) -> Result<Instantiated<'a, Overlay>> {
    let [first, second] = data;
    file.instantiate(inode.clone(), first)?;
    file.instantiate(inode, second)
}

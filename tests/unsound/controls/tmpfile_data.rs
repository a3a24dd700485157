// SPDX-License-Identifier: GPL-2.0

//! The control of `tmpfile_data`.

use crate::{
    overlay::Overlay,
    vfs::{
        file_ops::{Instantiated, OpenTmpfile, RegularData},
        slab::SlabBox,
        OwnInode, Ref,
    },
};
use kernel::prelude::*;

fn control<'a>(
    file: OpenTmpfile<'a, Overlay>,
    inode: Ref<'a, OwnInode<Overlay>>,
    data: SlabBox<RegularData<Overlay>>,
) -> Result<Instantiated<'a, Overlay>> {
    file.instantiate(inode, data)
}

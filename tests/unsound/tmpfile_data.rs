// SPDX-License-Identifier: GPL-2.0

//! An unnamed file is opened with data that its operations take for that of another type.
// error: E0308

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
    data: SlabBox<u64>,
) -> Result<Instantiated<'a, Overlay>> {
    file.instantiate(inode, data)
}

// SPDX-License-Identifier: GPL-2.0

//! The control of `mount_without_root`.

use crate::{
    overlay::Overlay,
    vfs::super_block::{FilledSuper, Rooted},
    vfs::NewInode,
};
use kernel::prelude::*;

fn control<'a>(
    sb: FilledSuper<'a, Overlay>,
    root: NewInode<'a, Overlay>,
) -> Result<Rooted<'a, Overlay>> {
    sb.set_root(root)
}

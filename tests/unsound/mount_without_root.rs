// SPDX-License-Identifier: GPL-2.0

//! A mount without a root, which is a BUG().
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::super_block::{FilledSuper, Rooted},
    vfs::NewInode,
};
use kernel::prelude::*;

fn misuse<'a>(
    sb: FilledSuper<'a, Overlay>,
    _root: NewInode<'a, Overlay>,
) -> Result<Rooted<'a, Overlay>> {
    drop(sb);
    Ok(())
}

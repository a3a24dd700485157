// SPDX-License-Identifier: GPL-2.0

//! A change of attributes is compared with those of an inode that is not locked.
// error: E0308

use crate::vfs::{attr::Iattr, mount::IdMap, Inode, Mode};

fn misuse(inode: &Inode) -> Iattr {
    Iattr::mode(Mode(0o644)).without_known(IdMap::nop(), inode)
}

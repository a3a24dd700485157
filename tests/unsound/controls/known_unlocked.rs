// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{attr::Iattr, mount::IdMap, Inode, Mode};

fn correct(inode: &Inode) -> Iattr {
    Iattr::mode(Mode(0o644)).without_known(IdMap::nop(), &inode.lock())
}

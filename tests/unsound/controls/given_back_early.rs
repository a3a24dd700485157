// SPDX-License-Identifier: GPL-2.0

use crate::{
    overlay::Overlay,
    vfs::{mount::Path, OwnInode},
};

fn control(inode: &OwnInode<Overlay>) {
    for lower in inode.lowers().iter() {
        let own: Path = lower.path().get();
        drop(own);
    }
}

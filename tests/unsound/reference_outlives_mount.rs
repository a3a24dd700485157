// SPDX-License-Identifier: GPL-2.0

//! A dentry is kept after the mount that kept its super block was given up.
// error: E0505

use crate::vfs::{mount::PrivateMount, Dentry, Ref};

fn misuse(mnt: PrivateMount) -> bool {
    let kept: Ref<'_, Dentry> = mnt.root().dentry().into();
    drop(mnt);
    kept.sb().is_readonly()
}

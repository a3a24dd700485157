// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{
    mount::{Path, PrivateMount},
    Dentry, Ref,
};

fn use_before(mnt: PrivateMount) -> bool {
    let kept: Ref<'_, Dentry> = mnt.root().dentry().into();
    let read_only = kept.sb().is_readonly();
    drop(kept);
    drop(mnt);
    read_only
}

fn owns_the_mount(mnt: PrivateMount) -> bool {
    let kept: Path = mnt.root().get();
    drop(mnt);
    kept.as_ref().dentry().sb().is_readonly()
}

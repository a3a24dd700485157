// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{handle::HandleRef, mount::PrivateMount};

fn control(handle: HandleRef<'_>, mnt: PrivateMount) -> bool {
    let Ok(Some(found)) = handle.decode(&mnt) else {
        return false;
    };
    let read_only = found.sb().is_readonly();
    drop(found);
    drop(mnt);
    read_only
}

// SPDX-License-Identifier: GPL-2.0

//! What a handle of a layer names is kept after the mount that kept its super block was given up.
// error: E0505

use crate::vfs::{handle::HandleRef, mount::PrivateMount};

fn misuse(handle: HandleRef<'_>, mnt: PrivateMount) -> bool {
    let Ok(Some(found)) = handle.decode(&mnt) else {
        return false;
    };
    drop(mnt);
    found.sb().is_readonly()
}

// SPDX-License-Identifier: GPL-2.0

//! Write access is used after it was given back.
// error: E0505

use crate::vfs::{mount::Writing, Mount};
use kernel::prelude::*;

fn misuse(mnt: &Mount) -> Result {
    let write = mnt.want_write()?;
    let writing: Writing<'_> = write.writing();
    drop(write);
    let _ = writing.mnt();
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{mount::Writing, Mount};
use kernel::prelude::*;

fn control(mnt: &Mount) -> Result {
    let write = mnt.want_write()?;
    let writing: Writing<'_> = write.writing();
    let _ = writing.mnt();
    drop(write);
    Ok(())
}

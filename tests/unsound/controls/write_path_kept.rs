// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{xattr, Dentry, Mount};
use kernel::prelude::*;

fn correct(mnt: &Mount, dentry: &Dentry) -> Result {
    let write = mnt.want_write()?;
    let path = write.writing().path(dentry)?;
    xattr::remove(path, c"user.a")?;
    drop(write);
    Ok(())
}

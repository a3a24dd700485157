// SPDX-License-Identifier: GPL-2.0

use crate::vfs::file;
use kernel::{fs::LocalFile, prelude::*};

fn correct(file: &LocalFile) -> Result {
    let lock = file::inode_of(file).lock();
    file::remove_privs(file, &lock)
}

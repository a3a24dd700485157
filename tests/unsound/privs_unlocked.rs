// SPDX-License-Identifier: GPL-2.0

//! Set-id bits are stripped from an inode that is not locked.
// error: E0061

use crate::vfs::file;
use kernel::{fs::LocalFile, prelude::*};

fn misuse(file: &LocalFile) -> Result {
    file::remove_privs(file)
}

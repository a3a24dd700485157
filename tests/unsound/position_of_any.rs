// SPDX-License-Identifier: GPL-2.0

//! The position of a file of another filesystem is set to what it does not count on.
// error: E0603

use crate::vfs::file;
use kernel::{fs::LocalFile, prelude::*};

fn misuse(file: &LocalFile) -> Result {
    file::set_pos(file, -1000)
}

// SPDX-License-Identifier: GPL-2.0

//! The inode of an unnamed file is asked for before it has one.
// error: E0599

use crate::{
    overlay::Overlay,
    vfs::{file_ops::OpenTmpfile, Mode},
};

fn misuse(file: &OpenTmpfile<'_, Overlay>) -> Mode {
    file.inode().mode()
}

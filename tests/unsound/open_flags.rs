// SPDX-License-Identifier: GPL-2.0

//! The flags of an open file are changed while others read and change them.
// error: E0599

use crate::{
    overlay::Overlay,
    vfs::file_ops::{OpenFile, Opening},
};

fn misuse(open: OpenFile<'_, Overlay>) {
    open.drop_open_flags();
}

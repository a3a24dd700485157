// SPDX-License-Identifier: GPL-2.0

//! The control of `open_flags`.

use crate::{
    overlay::Overlay,
    vfs::file_ops::{OpenFile, Opening},
};

fn control(mut open: Opening<'_, Overlay>) {
    open.drop_open_flags();
}

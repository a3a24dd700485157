// SPDX-License-Identifier: GPL-2.0

//! A directory is held to be locked after the callback that lists it.
// error: E0521

use crate::{overlay::Overlay, vfs::file_ops::Listed};

fn keep<T: 'static>(_: T) {}

fn misuse(dir: Listed<'_, Overlay>) {
    keep(dir);
}

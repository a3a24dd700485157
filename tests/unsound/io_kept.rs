// SPDX-License-Identifier: GPL-2.0

//! A request is used after the callback that got it.
// error: E0521

use crate::{overlay::Overlay, vfs::file_ops::Io};

fn keep<T: 'static>(_: T) {}

fn misuse(request: Io<'_, Overlay>) {
    keep(request);
}

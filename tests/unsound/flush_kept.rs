// SPDX-License-Identifier: GPL-2.0

//! A request is used after the callback that got it.
// error: E0521

use crate::vfs::file_ops::Flush;

fn keep<T: 'static>(_: T) {}

fn misuse(request: Flush<'_>) {
    keep(request);
}

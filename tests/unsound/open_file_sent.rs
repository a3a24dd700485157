// SPDX-License-Identifier: GPL-2.0

//! An open file goes to another thread, while a call of its own uses the position without the lock.
// error: E0277

use crate::{overlay::Overlay, vfs::file_ops::OpenFile};

fn send<T: Send>(_: T) {}

fn misuse(open: OpenFile<'_, Overlay>) {
    send(open);
}

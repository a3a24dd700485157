// SPDX-License-Identifier: GPL-2.0

//! A dentry whose parent this task has locked is made positive by another.
// error: E0277

use crate::{overlay::Overlay, vfs::Child};

fn send<T: Send>(_: T) {}

fn misuse(child: Child<'_, Overlay>) {
    send(child);
}

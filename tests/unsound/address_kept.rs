// SPDX-License-Identifier: GPL-2.0

//! The address that a task has a number stored at is used after its call.
// error: E0521

use crate::vfs::file_ops::Generation;

fn keep<T: 'static>(_: T) {}

fn misuse(asked: Generation<'_>) {
    keep(asked);
}

// SPDX-License-Identifier: GPL-2.0

//! The address that a task has a number stored at is taken for one of another task.
// error: E0277

use crate::vfs::file_ops::Generation;

fn send<T: Send>(_: T) {}

fn misuse(asked: Generation<'_>) {
    send(asked);
}

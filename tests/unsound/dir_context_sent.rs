// SPDX-License-Identifier: GPL-2.0

//! The caller's listing is filled by another thread, beside the one that has the caller's buffer.
// error: E0277

use crate::vfs::readdir::DirContext;

fn send<T: Send>(_: T) {}

fn misuse(ctx: DirContext<'_>) {
    send(ctx);
}

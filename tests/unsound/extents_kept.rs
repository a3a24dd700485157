// SPDX-License-Identifier: GPL-2.0

//! A request is used after the callback that got it.
// error: E0521

use crate::vfs::inode_ops::FiemapRequest;

fn keep<T: 'static>(_: T) {}

fn misuse(request: FiemapRequest<'_>) {
    keep(request);
}

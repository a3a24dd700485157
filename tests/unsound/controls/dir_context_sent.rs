// SPDX-License-Identifier: GPL-2.0

use crate::vfs::readdir::DirContext;

fn correct(ctx: &mut DirContext<'_>) {
    ctx.emit(b"name", 1, 0);
}

// SPDX-License-Identifier: GPL-2.0

use crate::{overlay::Overlay, vfs::OpGuard};

fn control(held: OpGuard<'_, Overlay>) -> u32 {
    held.inode().nlink()
}

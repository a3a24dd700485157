// SPDX-License-Identifier: GPL-2.0

use crate::{overlay::Overlay, vfs::super_block::FilledSuper};

fn control(sb: FilledSuper<'_, Overlay>) {
    let _ = sb.sb().fs();
}

// SPDX-License-Identifier: GPL-2.0

//! The control of `depth_made_up`.

use crate::{overlay::Overlay, vfs::super_block::NewSuper};

fn control(sb: &mut NewSuper<'_, Overlay>) {
    sb.set_time_gran(1);
}

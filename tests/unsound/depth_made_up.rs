// SPDX-License-Identifier: GPL-2.0

//! A mount stands for fewer stacked filesystems than it has below it.
// error: E0599

use crate::{overlay::Overlay, vfs::super_block::NewSuper};

fn misuse(sb: &mut NewSuper<'_, Overlay>) {
    sb.set_stack_depth(0);
}

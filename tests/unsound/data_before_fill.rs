// SPDX-License-Identifier: GPL-2.0

//! The data of a super block that is being filled is used before it is set.
// error: E0599

use crate::{overlay::Overlay, vfs::super_block::NewSuper};

fn misuse(sb: NewSuper<'_, Overlay>) {
    let _ = sb.fs();
}

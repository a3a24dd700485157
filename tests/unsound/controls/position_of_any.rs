// SPDX-License-Identifier: GPL-2.0

//! The control of `position_of_any`.

use crate::{overlay::Overlay, vfs::file_ops::OpenFile};
use kernel::prelude::*;

fn control(file: OpenFile<'_, Overlay>) -> Result {
    file.set_pos(1000)
}

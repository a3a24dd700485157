// SPDX-License-Identifier: GPL-2.0

use crate::{overlay::Overlay, vfs::file_ops::OpenTmpfile};

fn control(file: &OpenTmpfile<'_, Overlay>) -> bool {
    file.dentry().is_negative()
}

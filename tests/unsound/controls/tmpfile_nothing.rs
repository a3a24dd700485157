// SPDX-License-Identifier: GPL-2.0

//! The control of `tmpfile_nothing`.

use crate::{
    overlay::Overlay,
    vfs::file_ops::{Instantiated, OpenTmpfile},
};
use kernel::prelude::*;

fn control(_file: OpenTmpfile<'_, Overlay>) -> Result<Instantiated<'_, Overlay>> {
    Err(EOPNOTSUPP)
}

// SPDX-License-Identifier: GPL-2.0

//! An unnamed file is said to be open that has no inode.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::file_ops::{Instantiated, OpenTmpfile},
};
use kernel::prelude::*;

fn misuse(_file: OpenTmpfile<'_, Overlay>) -> Result<Instantiated<'_, Overlay>> {
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! More is said to have been read than was: whoever asked uses that many pages.
// error: E0308

use crate::{
    overlay::Overlay,
    vfs::file_ops::{Io, Moved},
};
use kernel::prelude::*;

fn misuse<'a>(_request: Io<'a, Overlay>) -> Result<Moved<'a>> {
    Ok(1 << 30)
}

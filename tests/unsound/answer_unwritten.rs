// SPDX-License-Identifier: GPL-2.0

//! A handler says that it wrote more of an extended attribute than it did: the caller gets memory that nobody wrote.
// error: E0308

use crate::vfs::outbuf::OutBuf;
use kernel::prelude::*;

fn misuse(_out: &mut OutBuf<'_>) -> Result {
    Ok(7)
}

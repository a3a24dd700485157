// SPDX-License-Identifier: GPL-2.0

//! A handler makes the answer longer than what was written.
// error: E0616

use crate::vfs::outbuf::OutBuf;

fn misuse(out: &mut OutBuf<'_>) {
    out.len = 4096;
}

// SPDX-License-Identifier: GPL-2.0

//! A handler reads memory that the caller lent and that nobody wrote.
// error: E0616

use crate::vfs::outbuf::OutBuf;

fn misuse<'a>(out: &'a OutBuf<'_>) -> Option<&'a core::mem::MaybeUninit<u8>> {
    out.room.first()
}

// SPDX-License-Identifier: GPL-2.0

use crate::vfs::outbuf::OutBuf;

fn correct<'a>(out: &'a mut OutBuf<'_>) -> Option<&'a u8> {
    out.written().first()
}

// SPDX-License-Identifier: GPL-2.0

use crate::vfs::outbuf::OutBuf;

fn correct(out: &mut OutBuf<'_>) {
    out.truncate(4096);
}

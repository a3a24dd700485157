// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{mount::PathRef, outbuf::OutBuf, xattr};
use kernel::prelude::*;

fn correct(real: PathRef<'_>, out: &mut OutBuf<'_>) -> Result {
    xattr::get_into(real, c"user.name", out)
}

// SPDX-License-Identifier: GPL-2.0

//! A number that is no capability is asked for, which stops the kernel.
// error: E0308

use crate::vfs::cred;

fn misuse() -> bool {
    cred::capable(999)
}

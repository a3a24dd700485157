// SPDX-License-Identifier: GPL-2.0

use crate::vfs::cred::{self, Capability};

fn correct() -> bool {
    cred::capable(Capability::DAC_READ_SEARCH)
}

// SPDX-License-Identifier: GPL-2.0

//! An inode of a layer is told that it folds case: its filesystem would take its entries for longer than they are.
// error: E0599

use crate::vfs::{inode::flags, Inode};

fn misuse(real: &Inode) {
    real.set_flags(flags::CASEFOLD, flags::CASEFOLD);
}

// SPDX-License-Identifier: GPL-2.0

//! A dentry of another filesystem is told to have a revalidation that it lacks.
// error: E0599

use crate::vfs::{dentry::REVALIDATE, Dentry};

fn misuse(dentry: &Dentry) {
    dentry.change_revalidate(0, REVALIDATE);
}

// SPDX-License-Identifier: GPL-2.0

//! RCU-walk takes a reference to a dentry of a layer.
// error: E0277

use crate::vfs::{rcu::RcuPath, Dentry, Ref};

fn misuse<'a>(dentry: &'a RcuPath<'a>) -> Ref<'a, Dentry> {
    dentry.into()
}

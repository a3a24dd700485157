// SPDX-License-Identifier: GPL-2.0

//! RCU-walk takes a reference to a dentry of a layer.
// error: E0277

use crate::vfs::{rcu::RcuDentry, Dentry, Ref};

fn misuse<'a>(dentry: &'a RcuDentry<'a>) -> Ref<'a, Dentry> {
    dentry.into()
}

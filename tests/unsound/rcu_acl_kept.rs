// SPDX-License-Identifier: GPL-2.0

//! An answer of an ACL cache is kept beyond the RCU section that it was found in.
// error: E0521

use crate::vfs::{
    acl::{cached_rcu, AclType, RcuAcl},
    rcu::{RcuError, RcuPath},
};

fn keep(_: RcuAcl<'static>) {}

fn misuse(path: RcuPath<'_>) -> Result<(), RcuError> {
    keep(cached_rcu(path, AclType::Access)?);
    Ok(())
}

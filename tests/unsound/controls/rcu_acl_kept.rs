// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{
    acl::{cached_rcu, AclType, RcuAcl},
    rcu::{RcuError, RcuPath},
};

fn correct(path: RcuPath<'_>) -> Result<RcuAcl<'_>, RcuError> {
    cached_rcu(path, AclType::Access)
}

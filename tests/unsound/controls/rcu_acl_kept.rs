// SPDX-License-Identifier: GPL-2.0

use crate::vfs::{
    acl::{cached_rcu, AclType, RcuAcl},
    rcu::RcuLayerInode,
};

fn correct(inode: RcuLayerInode<'_>) -> RcuAcl<'_> {
    cached_rcu(inode, AclType::Access)
}

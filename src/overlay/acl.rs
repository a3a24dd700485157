// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs.

use crate::{
    overlay::{
        attr,
        union::{Dentry, Inode, Overlay},
    },
    vfs::{
        self,
        acl::{self, Acl, AclRef, AclType, RcuAcl},
        attr::Iattr,
        cred,
        mount::IdMap,
        rcu::{RcuError, RcuInode},
        Mode,
    },
};
use kernel::prelude::*;

/// The ACL for a permission check.
pub(crate) fn inode_acl(inode: &Inode, kind: AclType) -> Result<Option<Acl>> {
    let real = inode.attributes()?;
    if !real.positive()?.sb().has_posix_acl() {
        return Ok(None);
    }
    cred::scope(inode.fs().creds(), |_| Acl::of_object(real, kind))
}

/// The cached ACL, for a permission check in RCU-walk.
pub(crate) fn inode_acl_rcu(
    inode: RcuInode<'_, Overlay>,
    kind: AclType,
) -> Result<RcuAcl<'_>, RcuError> {
    let real = inode.upper().or_else(|| inode.lower());
    acl::cached_rcu(real.ok_or(RcuError::WouldBlock)?, kind)
}

/// The ACL for a reader.
pub(crate) fn acl(dentry: &Dentry, kind: AclType) -> Result<Option<Acl>> {
    let real = dentry.own_positive()?.attributes()?;
    if !real.dentry().positive()?.sb().has_posix_acl() {
        return Ok(None);
    }
    cred::scope(dentry.fs().creds(), |_| Acl::read(real, kind))
}

/// Sets or removes an ACL.
pub(crate) fn set_acl(
    idmap: &IdMap,
    dentry: &Dentry,
    acl: Option<AclRef<'_>>,
    kind: AclType,
) -> Result {
    let inode = dentry.own_positive()?;
    // Upper will have it.
    let possible = |upper: &vfs::Inode| upper.sb().has_posix_acl() && upper.has_set_acl();
    if !dentry.fs().upper_can(possible) {
        return Err(EOPNOTSUPP);
    }
    if kind == AclType::Default && !inode.mode().is_dir() {
        return if acl.is_some() { Err(EACCES) } else { Ok(()) };
    }
    if !inode.owner_or_capable(idmap) {
        return Err(EPERM);
    }
    // The mounter may keep the bit where the caller may not.
    if inode.mode().0 & Mode::SGID != 0
        && kind == AclType::Access
        && !inode.in_group_or_capable(idmap)
    {
        // No owner is in the request that a mapping could concern.
        attr::setattr(IdMap::nop(), dentry, &mut Iattr::kill_sgid())?;
    }
    if acl.is_none() {
        attr::must_have(inode, |lower| match Acl::read(lower, kind) {
            // The layer cannot have one, but upper can: there is none.
            Err(e) if e == EOPNOTSUPP => Err(ENODATA),
            read => read,
        })?;
    }
    attr::modify_xattrs(dentry, |upper| match acl {
        Some(acl) => acl.write(upper, kind),
        None => Acl::remove(upper, kind),
    })
}

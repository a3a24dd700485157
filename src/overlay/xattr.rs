// SPDX-License-Identifier: GPL-2.0

//! The union's own attributes on layers, and the extended attributes that users see.

use crate::{
    overlay::{
        attr,
        layer::xattr_names::Namespace,
        union::{Dentry, Inode, Overlay},
    },
    vfs::{
        cred,
        outbuf::OutBuf,
        xattr::{self, Handler, SetFlags},
    },
};
use kernel::prelude::*;

/// Lists the names that users see.
pub(crate) fn list(dentry: &Dentry, out: &mut OutBuf<'_>) -> Result {
    let inode = dentry.own_positive()?;
    let real = inode.attributes()?;
    cred::scope(dentry.fs().creds(), |_| {
        xattr::list_into(real.dentry(), out)
    })?;
    let names = out.written();
    if !names.is_empty() {
        let len = dentry
            .fs()
            .namespace()
            .filter_list(names, cred::is_sysadmin)?;
        out.truncate(len);
    }
    Ok(())
}

fn get(dentry: &Dentry, inode: &Inode, name: &CStr, out: &mut OutBuf<'_>) -> Result {
    let real = inode.attributes()?;
    cred::scope(dentry.fs().creds(), |_| xattr::get_into(real, name, out))
}

fn set(
    dentry: &Dentry,
    inode: &Inode,
    name: &CStr,
    value: Option<&[u8]>,
    flags: SetFlags,
) -> Result {
    if value.is_none() {
        attr::must_have(inode, |lower| xattr::get(lower, name, &mut []))?;
    }
    attr::modify_xattrs(dentry, |upper| match value {
        Some(value) => xattr::set(upper, name, value, flags),
        None => xattr::remove(upper, name),
    })
}

/// Names that look like the union's own, in `user.*` or in `trusted.*`: stored escaped.
pub(crate) struct OwnHandler<const USER: bool>;

impl<const USER: bool> OwnHandler<USER> {
    const NAMESPACE: Namespace = if USER {
        Namespace::User
    } else {
        Namespace::Trusted
    };
}

impl<const USER: bool> Handler<Overlay> for OwnHandler<USER> {
    const PREFIX: &'static CStr = Self::NAMESPACE.prefix();

    fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, out: &mut OutBuf<'_>) -> Result {
        let name = Self::NAMESPACE.escape(suffix.to_bytes())?;
        get(dentry, inode, name.as_cstr(), out)
    }

    fn set(
        dentry: &Dentry,
        inode: &Inode,
        suffix: &CStr,
        value: Option<&[u8]>,
        flags: SetFlags,
    ) -> Result {
        let name = Self::NAMESPACE.escape(suffix.to_bytes())?;
        set(dentry, inode, name.as_cstr(), value, flags)
    }
}

/// All other names: stored as they are.
pub(crate) struct OtherHandler;

impl Handler<Overlay> for OtherHandler {
    const PREFIX: &'static CStr = c"";

    fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, out: &mut OutBuf<'_>) -> Result {
        get(dentry, inode, suffix, out)
    }

    fn set(
        dentry: &Dentry,
        inode: &Inode,
        suffix: &CStr,
        value: Option<&[u8]>,
        flags: SetFlags,
    ) -> Result {
        set(dentry, inode, suffix, value, flags)
    }
}

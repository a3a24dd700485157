// SPDX-License-Identifier: GPL-2.0

//! The union's own attributes on layers, and the extended attributes that users see.

use crate::{
    overlay::{
        attr,
        layer::xattr_names,
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
        let len = xattr_names::filter_list(names, cred::is_sysadmin)?;
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
    attr::modify(dentry, |upper| match value {
        Some(value) => xattr::set(upper, name, value, flags),
        None => xattr::remove(upper, name),
    })
}

/// `trusted.overlay.*`: stored escaped.
pub(crate) struct OwnHandler;

impl Handler<Overlay> for OwnHandler {
    const PREFIX: &'static CStr = xattr_names::OWN_PREFIX;

    fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, out: &mut OutBuf<'_>) -> Result {
        let name = xattr_names::escape(suffix.to_bytes())?;
        get(dentry, inode, name.as_cstr(), out)
    }

    fn set(
        dentry: &Dentry,
        inode: &Inode,
        suffix: &CStr,
        value: Option<&[u8]>,
        flags: SetFlags,
    ) -> Result {
        let name = xattr_names::escape(suffix.to_bytes())?;
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

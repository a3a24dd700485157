// SPDX-License-Identifier: GPL-2.0

//! The union's own attributes on layers, and the extended attributes that users see.

use super::{
    copy_up,
    inode::{self, PROTECTED_FLAGS},
    layer::Layer,
    names::{self, own, Class},
    workdir::is_full,
    Dentry, Inode, Overlay,
};
use crate::vfs::{
    self,
    attr::{fl, FileAttr},
    cred,
    log::warn_limited,
    mount::PathRef,
    xattr::{self, Handler, SetFlags},
};
use kernel::prelude::*;

/// The one-byte value of attribute `name` of a directory.
pub(crate) fn dir_mark(path: PathRef<'_>, name: &CStr) -> Option<u8> {
    let mut value = [0];
    if !path.dentry.is_dir() {
        return None;
    }
    // Any error, a longer value included, means that the mark is not there.
    match xattr::get(path, name, &mut value) {
        Ok(1) => Some(value[0]),
        _ => None,
    }
}

/// Whether an object in upper was copied up.
pub(crate) fn has_origin(path: PathRef<'_>) -> bool {
    xattr::get(path, own::ORIGIN, &mut []).is_ok()
}

/// Whether upper marks a directory as one that may hold copied-up entries.
pub(crate) fn is_impure(path: PathRef<'_>) -> bool {
    dir_mark(path, own::IMPURE) == Some(b'y')
}

/// Whether an entry is a whiteout: a character device 0:0, or an empty file with the attribute, where it
/// may be `marked` so.
pub(crate) fn is_whiteout(path: PathRef<'_>, marked: bool) -> bool {
    path.dentry.inode().is_some_and(|inode| {
        inode.is_whiteout_device()
            || (marked
                && path.dentry.is_reg()
                && inode.size() == 0
                && xattr::get(path, own::WHITEOUT, &mut []).is_ok())
    })
}

/// Whether an object of a layer may have attributes of the union's own: one look at the list of its
/// attributes is cheaper than asking for each.
pub(crate) fn may_have_own(layer: &Layer, dentry: &vfs::Dentry) -> bool {
    if !layer.lists_xattrs() {
        return true;
    }
    let mut buf = [0; 128];
    match xattr::list(dentry, &mut buf) {
        Ok(0) => false,
        Ok(len) => buf
            .get(..len)
            .unwrap_or_default()
            .split(|b| *b == 0)
            .any(|name| names::classify(name) == Class::Private),
        // A longer list, or none to be had.
        Err(_) => true,
    }
}

/// Whether the data of a regular file is in a layer below.
///
/// # Errors
///
/// `EIO` where the value is too short to be one.
pub(crate) fn has_metacopy(path: PathRef<'_>) -> Result<bool> {
    if !path.dentry.is_reg() {
        return Ok(false);
    }
    let Some(len) = xattr::len(path, own::METACOPY)? else {
        return Ok(false);
    };
    if (1..4).contains(&len) {
        warn_limited!("invalid metacopy attribute on {}\n", path.dentry);
        return Err(EIO);
    }
    Ok(true)
}

/// Whether attributes of our own can be set on an object in upper.
///
/// # Errors
///
/// `ENOMEM`, which is no answer. A full filesystem is none either: it counts as one that can.
pub(crate) fn probe(path: PathRef<'_>) -> Result<bool> {
    let set = xattr::set(path, own::OPAQUE, b"0", SetFlags::ANY);
    if let Err(e) = set {
        if e == ENOMEM {
            return Err(e);
        }
        if is_full(e) {
            return Ok(true);
        }
        if e == EPERM {
            pr_info!("trusted xattrs cannot be set on upper by this mounter\n");
        }
        return Ok(false);
    }
    // What was set a moment ago can be removed; if not, the mark `0` says nothing.
    let _ = xattr::remove(path, own::OPAQUE);
    Ok(true)
}

/// Sets one of the union's own attributes in upper; `missing` where upper has no such attributes.
pub(crate) fn set_own(
    fs: &Overlay,
    path: PathRef<'_>,
    name: &CStr,
    value: &[u8],
    missing: Result,
) -> Result {
    if !fs.upper_has_xattrs() {
        return missing;
    }
    match xattr::set(path, name, value, SetFlags::ANY) {
        Err(e) if e == EOPNOTSUPP => {
            pr_warn!(
                "cannot set {} xattr on upper\n",
                vfs::log::Text(name.to_bytes())
            );
            fs.set_upper_without_xattrs();
            missing
        }
        other => other,
    }
}

/// Marks the upper directory of `dir` as one that may hold copied-up entries.
pub(crate) fn set_impure(dir: &Inode) -> Result {
    if dir.data().flags.test(inode::IMPURE) {
        return Ok(());
    }
    let path = dir.upper_path().ok_or(EROFS)?;
    set_own(dir.fs(), path, own::IMPURE, b"y", Ok(()))?;
    dir.data().flags.set(inode::IMPURE);
    Ok(())
}

/// Adds the flags kept in `protattr` to the inode's.
pub(crate) fn load_protected(inode: &Inode, path: PathRef<'_>) {
    let mut value = [0; 32];
    let Ok(len) = xattr::get(path, own::PROTATTR, &mut value) else {
        return;
    };
    let mut flags = inode.flags() & PROTECTED_FLAGS;
    let value = value.get(..len).unwrap_or_default();
    for byte in value {
        match byte {
            b'a' => flags |= inode::flags::APPEND,
            b'i' => flags |= inode::flags::IMMUTABLE,
            _ => flags = u32::MAX,
        }
        if flags == u32::MAX {
            break;
        }
    }
    if value.is_empty() || flags == u32::MAX {
        warn_limited!("incompatible overlay.protattr format on {}\n", path.dentry);
    } else {
        inode.set_flags(flags, PROTECTED_FLAGS);
    }
}

/// Keeps the append-only and immutable flags of `fa` in the `protattr` attribute of `path`, sets them
/// on the inode and takes them out of `fa`.
///
/// # Errors
///
/// `EPERM` where upper has no attributes.
pub(crate) fn store_protected(inode: &Inode, path: PathRef<'_>, fa: &mut FileAttr) -> Result {
    let mut value: [u8; 2] = [0; 2];
    let (mut len, mut flags) = (0, 0);
    for (flag, letter, bit) in [
        (fl::APPEND, b'a', inode::flags::APPEND),
        (fl::IMMUTABLE, b'i', inode::flags::IMMUTABLE),
    ] {
        if fa.flags() & flag != 0 {
            if let Some(slot) = value.get_mut(len) {
                *slot = letter;
            }
            len += 1;
            flags |= bit;
        }
    }
    if len > 0 {
        let value = value.get(..len).unwrap_or_default();
        set_own(inode.fs(), path, own::PROTATTR, value, Err(EPERM))?;
    } else if inode.flags() & PROTECTED_FLAGS != 0 {
        match xattr::remove(path, own::PROTATTR) {
            Err(e) if e != EOPNOTSUPP && e != ENODATA => return Err(e),
            _ => {}
        }
    }
    inode.set_flags(flags, PROTECTED_FLAGS);
    fa.replace(
        fl::APPEND | fl::IMMUTABLE,
        0,
        fl::X_APPEND | fl::X_IMMUTABLE,
        0,
    );
    Ok(())
}

/// Lists the names that users see.
pub(crate) fn list(dentry: &Dentry, buf: &mut [u8]) -> Result<usize> {
    let inode = dentry.own_positive()?;
    let real = inode.real_path()?;
    let len = cred::scope(dentry.fs().creds(), |_| xattr::list(real.dentry, buf))?;
    if buf.is_empty() || len == 0 {
        return Ok(len);
    }
    names::filter_list(buf.get_mut(..len).ok_or(ERANGE)?, cred::is_sysadmin)
}

fn get(dentry: &Dentry, inode: &Inode, name: &CStr, buf: &mut [u8]) -> Result<usize> {
    let real = inode.real_path()?;
    cred::scope(dentry.fs().creds(), |_| xattr::get(real, name, buf))
}

fn set(
    dentry: &Dentry,
    inode: &Inode,
    name: &CStr,
    value: Option<&[u8]>,
    flags: SetFlags,
) -> Result {
    let fs = dentry.fs();
    if value.is_none() && inode.upper().is_none() {
        // Nothing is copied up to remove what is not there.
        let real = inode.real_path()?;
        cred::scope(fs.creds(), |_| xattr::get(real, name, &mut []))?;
    }
    copy_up::copy_up(dentry)?;
    let upper = inode.upper_path().ok_or(EROFS)?;
    let result = {
        let _write = upper.mnt.want_write()?;
        cred::scope(fs.creds(), |_| match value {
            Some(value) => xattr::set(upper, name, value, flags),
            None => xattr::remove(upper, name),
        })
    };
    inode.refresh();
    result
}

/// `trusted.overlay.*`: stored escaped.
pub(crate) struct OwnHandler;

impl Handler<Overlay> for OwnHandler {
    const PREFIX: &'static CStr = names::OWN_PREFIX;

    fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, buf: &mut [u8]) -> Result<usize> {
        let name = names::escape(suffix.to_bytes())?;
        get(dentry, inode, name.as_cstr(), buf)
    }

    fn set(
        dentry: &Dentry,
        inode: &Inode,
        suffix: &CStr,
        value: Option<&[u8]>,
        flags: SetFlags,
    ) -> Result {
        let name = names::escape(suffix.to_bytes())?;
        set(dentry, inode, name.as_cstr(), value, flags)
    }
}

/// All other names: stored as they are.
pub(crate) struct OtherHandler;

impl Handler<Overlay> for OtherHandler {
    const PREFIX: &'static CStr = c"";

    fn get(dentry: &Dentry, inode: &Inode, suffix: &CStr, buf: &mut [u8]) -> Result<usize> {
        get(dentry, inode, suffix, buf)
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

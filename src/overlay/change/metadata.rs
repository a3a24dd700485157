// SPDX-License-Identifier: GPL-2.0

//! What a copy has beside its data: owner, mode, times, extended attributes, `chattr` flags.

use crate::{
    overlay::{
        layer::xattr_names::{Class, Namespace},
        object::protected,
        union::Inode,
    },
    vfs::{
        acl::{Acl, AclType},
        attr::{fl, FileAttr, Iattr, Stat},
        inode::InodeGuard,
        log::warn_limited,
        mount::{PathRef, WritePath},
        xattr::{self, SetFlags},
        Mode,
    },
};
use kernel::prelude::*;

/// Gives an upper object mode, owner and times of `stat`.
pub(crate) fn set_attributes(to: WritePath<'_>, stat: &Stat, lock: &InodeGuard<'_>) -> Result {
    let mut all = Iattr::owner(stat).and(Iattr::times(stat.times()));
    if !stat.mode().is_lnk() {
        all = all.and(Iattr::mode(stat.mode()));
    }
    // A request with a new group lets a mounter without CAP_FSETID keep no set-group-ID bit.
    let sgid = stat.mode().0 & Mode::SGID != 0;
    if !sgid && all.without_known(to.idmap(), lock).apply(to, lock).is_ok() {
        return Ok(());
    }
    // One by one: a filesystem that cannot keep these times can still keep the file.
    if !stat.mode().is_lnk() {
        Iattr::mode(stat.mode()).apply(to, lock)?;
    }
    Iattr::owner(stat).apply(to, lock)?;
    set_times(to, Iattr::times(stat.times()), lock);
    Ok(())
}

/// Gives an upper object `times`, best effort.
pub(crate) fn set_times(to: WritePath<'_>, mut times: Iattr, lock: &InodeGuard<'_>) {
    if let Err(e) = times.apply(to, lock) {
        warn_limited!("times of {} not set ({})\n", to.dentry(), e.to_errno());
    }
}

const CAPABILITY: &CStr = c"security.capability";

/// The file capabilities of `path`, which writing to it takes away; `None` where it has none.
pub(crate) fn capability(path: PathRef<'_>) -> Result<Option<KVVec<u8>>> {
    match xattr::get_all(path, CAPABILITY) {
        Err(e) if e == ENODATA || is_empty_capability(e) => Ok(None),
        other => other.map(|value| Some(value).filter(|value| !value.is_empty())),
    }
}

/// Whether `e` says of file capabilities that they are none: an empty value grants nothing and cannot be read.
fn is_empty_capability(e: Error) -> bool {
    e == EINVAL || e == EOPNOTSUPP
}

/// Gives `path` file capabilities that it had.
pub(crate) fn set_capability(path: WritePath<'_>, value: &[u8]) -> Result {
    xattr::set(path, CAPABILITY, value, SetFlags::ANY)
}

/// Whether a copy without this attribute would be another file.
fn must_copy(name: &[u8]) -> bool {
    name.starts_with(b"security.")
}

/// Copies the extended attributes of `from` that users see to `to`.
pub(crate) fn copy_xattrs(own: Namespace, from: PathRef<'_>, to: WritePath<'_>) -> Result {
    if !from.dentry().positive()?.has_listxattr() || !to.dentry().positive()?.has_listxattr() {
        return Ok(());
    }
    let len = match xattr::list(from.dentry(), &mut []) {
        Err(e) if e == EOPNOTSUPP => return Ok(()),
        other => other?,
    };
    if len == 0 {
        return Ok(());
    }
    let mut list: KVVec<u8> = KVVec::zeroed(len, GFP_KERNEL)?;
    let len = xattr::list(from.dentry(), &mut list)?;
    let list = list.get(..len).ok_or(EIO)?;
    for name in list.split_inclusive(|b| *b == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| EIO)?;
        // Escaped ones are a user's: they are stored on a layer as they are.
        if own.classify(name.to_bytes()) == Class::Private {
            continue;
        }
        if !xattr::copy_up_wanted(from.dentry(), name)? {
            continue;
        }
        copy_xattr(from, to, name)?;
    }
    Ok(())
}

fn copy_xattr(from: PathRef<'_>, to: WritePath<'_>, name: &CStr) -> Result {
    if let Some(kind) = AclType::of_xattr(name) {
        return match Acl::read(from, kind) {
            Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(()),
            Err(e) => Err(e),
            Ok(None) => Ok(()),
            Ok(Some(acl)) => acl.write(to, kind),
        };
    }
    let value = match xattr::get_all(from, name) {
        // Removed since it was listed.
        Err(e) if e == ENODATA => return Ok(()),
        Err(e) if name == CAPABILITY && is_empty_capability(e) => return Ok(()),
        other => other?,
    };
    match xattr::set(to, name, &value, SetFlags::ANY) {
        Err(e) if e == EOPNOTSUPP && !must_copy(name.to_bytes()) => Ok(()),
        other => other,
    }
}

/// The `chattr` flags of `from`; `None` where its filesystem has none. To ask may mean to open and close the file, and to wait
/// for a daemon: no lock is held.
pub(crate) fn file_flags(from: PathRef<'_>) -> Result<Option<FileAttr>> {
    let mut flags = FileAttr::common();
    match flags.read(from) {
        Err(e) if is_unsupported(e) => Ok(None),
        other => other.map(|()| Some(flags)),
    }
}

fn is_unsupported(e: Error) -> bool {
    e == ENOTTY || e == EINVAL
}

/// Gives `to` the `chattr` flags `old` of an object behind `inode`; append-only and immutable go into an attribute, as they
/// would keep a staged object from being linked.
pub(crate) fn set_file_flags(inode: &Inode, old: &FileAttr, to: WritePath<'_>) -> Result {
    let copied = old.flags() & (fl::SYNC | fl::NOATIME);
    if old.flags() & (fl::APPEND | fl::IMMUTABLE) != 0 {
        match protected::store(inode, to, old) {
            Err(e) if e == EPERM => pr_warn!("copying fileattr: no xattr on upper\n"),
            other => other?,
        }
    }
    if copied == 0 {
        return Ok(());
    }
    let mut new = FileAttr::common();
    match new.read(*to) {
        Err(e) if is_unsupported(e) => {
            warn_limited!("copying fileattr: no support on upper\n");
            return Ok(());
        }
        other => other?,
    }
    new.replace(
        fl::SYNC | fl::NOATIME,
        copied,
        fl::X_SYNC | fl::X_NOATIME,
        old.xflags(),
    );
    new.write(to)
}
